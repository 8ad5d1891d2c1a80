"""Probes and metrics: what orchestrators and Prometheus are told."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from harkline.errors import LedgerUnavailable
from harkline.ledger import WORKERS
from harkline_api.metrics import EXPORTED
from tests.api.consumer import count_all
from tests.support.polling import wait_for
from tests.support.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.api.conftest import Api


def report(api: Api, name: str, *, degraded: bool = False, age_seconds: float = 0) -> None:
    """Say what a worker says of itself."""
    state = {
        "model": "" if degraded else "v7",
        "degraded": degraded,
        "why": "no model" if degraded else "",
        "at": time.time() - age_seconds,
    }
    api.ledger.redis.hset(WORKERS, name, json.dumps(state))


@pytest.mark.parametrize("path", ["/health", "/startup"])
def test_alive_means_alive(make_api: Callable[..., Api], path: str) -> None:
    """Liveness and startup ask nothing of Redis: a restart of the API would not bring it back."""
    api = make_api()
    api.parts.gate.fail(LedgerUnavailable("gone"))
    answer = api.client.get(path)
    assert (answer.status_code, answer.json) == (200, {"status": "alive"})


def test_ready_with_redis_and_room(api: Api) -> None:
    """Ready means that lines can be accepted; the body tells of backlog, workers and model."""
    report(api, "w1")
    report(api, "w2", degraded=True)
    report(api, "gone", age_seconds=100)
    api.client.post("/logs", data="a\nb")
    wait_for(lambda: api.client.get("/readiness").json["backlog"]["lines"] == 2, 3, "the backlog is read")
    answer = api.client.get("/readiness")
    assert answer.status_code == 200
    assert answer.json["ready"] is True
    assert answer.json["ledger"] == {"up": True, "why": ""}
    assert answer.json["backlog"]["bound_lines"] == 200_000
    assert set(answer.json["workers"]) == {"w1", "w2"}
    assert answer.json["workers"]["w2"]["why"] == "no model"
    assert answer.json["model"] == {"versions": ["v7"], "degraded": True}


def test_no_worker_is_no_reason_to_refuse_lines(api: Api) -> None:
    """Lines wait safely: without workers the API is ready all the same, and says that there are none."""
    answer = api.client.get("/readiness")
    assert answer.status_code == 200
    assert answer.json["workers"] == {}
    assert answer.json["model"] == {"versions": [], "degraded": False}


def test_not_ready_at_the_bound(make_api: Callable[..., Api]) -> None:
    """At the backlog bound a load balancer should look elsewhere."""
    api = make_api(backlog_floor_lines=2)
    api.client.post("/logs", data="a\nb")
    wait_for(lambda: api.client.get("/readiness").status_code == 503, 3, "not ready")
    answer = api.client.get("/readiness")
    assert answer.json["error"] == "not_ready"
    assert "2 lines wait" in answer.json["detail"]
    assert int(answer.headers["Retry-After"]) > 0
    count_all(api.ledger)
    wait_for(lambda: api.client.get("/readiness").status_code == 200, 3, "ready again")


def test_not_ready_without_redis(make_api: Callable[..., Api], tmp_path: Path) -> None:
    """With Redis dead or hung, readiness says so in time; with Redis back it is ready again. Liveness does not move."""
    with redis_server(tmp_path / "own-redis") as server:
        api = make_api(redis_url=SecretStr(server.url))
        assert api.client.get("/readiness").status_code == 200
        server.signal(signal.SIGSTOP)
        began = time.monotonic()
        wait_for(lambda: api.client.get("/readiness").status_code == 503, 5, "not ready")
        assert time.monotonic() - began < 5
        assert api.client.get("/readiness").json["ledger"]["up"] is False
        assert api.client.get("/health").status_code == 200
        server.signal(signal.SIGCONT)
        wait_for(lambda: api.client.get("/readiness").status_code == 200, 5, "ready again")
        server.signal(signal.SIGKILL)
        server.process.wait(5)
        wait_for(lambda: api.client.get("/readiness").status_code == 503, 5, "not ready")
        assert api.client.get("/readiness").json["detail"]


def scraped(api: Api) -> dict[str, float]:
    """Return every sample of a scrape, by name and labels."""
    answer = api.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    families = text_string_to_metric_families(answer.get_data(as_text=True))
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_say_what_happened(api: Api) -> None:
    """Requests, lines, refusals, writes and the ledger's exact totals are in one scrape."""
    api.client.post("/logs", data="a\nb")
    api.client.post("/logs", json=["a", 5])
    api.client.post("/ingest", data="")
    count_all(api.ledger)
    samples = scraped(api)
    assert samples['harkline_requests_total{"protocol": "logs", "status": "202"}'] == 2
    assert samples['harkline_requests_total{"protocol": "ingest", "status": "400"}'] == 1
    assert samples['harkline_accepted_lines_total{"protocol": "logs"}'] == 3
    assert samples['harkline_rejected_lines_total{"code": "not_an_object"}'] == 1
    assert samples['harkline_rejected_requests_total{"code": "no_lines"}'] == 1
    assert samples["harkline_append_seconds_count{}"] == 2
    assert samples['harkline_ledger_lines_total{"severity": "not_critical"}'] == 3
    assert samples["harkline_backlog_lines{}"] == 0
    assert samples["harkline_backlog_bound_lines{}"] == 200_000
    assert samples["harkline_ledger_up{}"] == 1


def test_everything_that_is_exported_is_named_and_nothing_else(api: Api) -> None:
    """EXPORTED is the list that dashboards and rules are held to: complete, and each metric there from the first scrape on."""
    families = text_string_to_metric_families(api.client.get("/metrics").get_data(as_text=True))
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    names = {name for name in names if not name.endswith("_created")}  # shown by a single process only
    assert names == set(EXPORTED)
    assert all(re.fullmatch(r"harkline_[a-z_]+", name) for name in names)


def test_labels_stay_bounded(api: Api) -> None:
    """Whatever senders write, the number of series does not grow: no service, path or text becomes a label."""
    api.client.post("/logs?service=a", data="a")
    before = set(scraped(api))
    for number in range(50):
        api.client.post(f"/logs?service=s{number}", data="a", headers={"X-Environment": f"e{number}"})
        api.client.get(f"/nothing/{number}")
    assert set(scraped(api)) == before


def test_pages_stand_alone(api: Api) -> None:
    """/ and /docs are HTML that asks for nothing else: no script, no font, no image from elsewhere."""
    for path in ("/", "/docs"):
        answer = api.client.get(path)
        text = answer.get_data(as_text=True)
        assert answer.content_type == "text/html; charset=utf-8"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "<script" not in text
        assert not re.findall(r'(?:src|href)="(?!/|data:,|#)[^"]*"', text)
    assert "POST" in api.client.get("/docs").get_data(as_text=True)


def test_the_style_passes_its_own_policy(api: Api) -> None:
    """The hash in the policy is that of the style in the page."""
    import base64
    import hashlib

    answer = api.client.get("/")
    style = re.search(r"<style>(.*?)</style>", answer.get_data(as_text=True), re.DOTALL)
    assert style
    wanted = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{wanted}'" in answer.headers["Content-Security-Policy"]


def test_a_hostile_host_header_stays_text(api: Api) -> None:
    """What a request says of itself is escaped where the page shows it."""
    text = api.client.get("/", headers={"Host": 'x"><script>alert(1)</script>'}).get_data(as_text=True)
    assert "<script" not in text


def test_every_answer_is_guarded(api: Api) -> None:
    """No sniffing, no caching, nothing loaded: on successes, errors and pages alike."""
    for path in ("/", "/health", "/openapi.json", "/nothing", "/logs", "/metrics"):
        headers = api.client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
