"""?wait= and GET /batches: verdicts for those who ask, in order, bounded, and never at the price of an accepted line."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from harkline.contract import LogBatch, LogLine
from tests.api.consumer import Consumer, count_all, stored_entries, stored_lines
from tests.support.polling import wait_for
from tests.support.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.api.conftest import Api

NDJSON = "application/x-ndjson"
BODY = b'{"message": "fine"}\n{"message": ""}\n{"message": "critical fault"}\n{"message": "also fine"}'


def test_verdicts_come_in_the_order_of_the_accepted_lines(api: Api) -> None:
    """With ?wait= the answer holds one verdict per accepted line, soon after they are counted."""
    with Consumer(api.ledger):
        began = time.monotonic()
        answer = api.client.post("/logs?wait=10", data=BODY, content_type=NDJSON)
    assert time.monotonic() - began < 5
    assert answer.status_code == 202
    assert answer.json["accepted"] == 3
    assert [verdict["severity"] for verdict in answer.json["verdicts"]] == ["not_critical", "critical", "not_critical"]
    assert answer.json["verdicts"][1] == {
        "severity": "critical",
        "score": 1.0,
        "level": "critical",
        "template": "critical fault",
        "source": "rule",
        "why": "the word",
        "degraded": False,
        "model": "",
    }


@pytest.mark.parametrize("call", ["/ingest?wait=10", "/log/critical%20fault?wait=10"])
def test_every_call_that_sends_can_wait(api: Api, call: str) -> None:
    """So can /ingest and the line in the address."""
    with Consumer(api.ledger):
        answer = api.client.post(call, data=b"critical fault", content_type="text/plain")
    assert answer.json["verdicts"][0]["severity"] == "critical"


def test_waiting_is_woken_not_polled(make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener wakes a waiting request: with the safety net far away, verdicts still come at once."""
    monkeypatch.setattr("harkline_api.waiting.POLL_SECONDS", 60.0)
    api = make_api()
    api.parts.waiting._start()
    wait_for(api.ledger.redis.pubsub_numpat, 3, "the listener listens")
    with Consumer(api.ledger, pause_seconds=0.1):
        for _ in range(5):
            assert "verdicts" in api.client.post("/logs?wait=5", data="a").json


def test_no_verdict_is_missed_however_fast_it_is(api: Api) -> None:
    """40 waiting requests from 8 threads against a consumer that never pauses: every one gets its own verdicts."""
    with Consumer(api.ledger, pause_seconds=0), ThreadPoolExecutor(8) as pool:

        def send(number: int) -> bool:
            answer = api.sender().post("/logs?wait=20", data=f"critical {number}", content_type="text/plain")
            return [verdict["template"] for verdict in answer.json["verdicts"]] == [f"critical {number}"]

        assert all(pool.map(send, range(40)))


def test_verdicts_that_do_not_come_in_time_are_left_out(api: Api) -> None:
    """Nobody counts: the answer comes after the wait, without verdicts, and the lines stay accepted."""
    began = time.monotonic()
    answer = api.client.post("/logs?wait=0.3", data="a")
    assert 0.3 <= time.monotonic() - began < 2
    assert answer.status_code == 202
    assert "verdicts" not in answer.json
    assert len(stored_lines(api.ledger)) == 1


def test_waiting_is_bounded_in_seconds(make_api: Callable[..., Api]) -> None:
    """?wait= beyond the setting is cut to it."""
    api = make_api(wait_max_seconds=0.2)
    began = time.monotonic()
    assert api.client.post("/logs?wait=3600", data="a").status_code == 202
    assert time.monotonic() - began < 2


def test_waiting_is_bounded_in_requests(make_api: Callable[..., Api]) -> None:
    """Beyond the places there are, requests are answered at once and without verdicts, which can still be fetched."""
    api = make_api(wait_max_requests=2)

    def send(seconds: float) -> tuple[float, Any]:
        began = time.monotonic()
        answer = api.sender().post(f"/logs?wait={seconds}", data="a")
        assert answer.status_code == 202
        return time.monotonic() - began, answer.json

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(send, 5) for _ in range(2)]
        wait_for(lambda: api.metric("harkline_waiting_requests") == 2, 3, "both wait")
        seconds, body = send(5)
        assert seconds < 1
        assert "verdicts" not in body
        count_all(api.ledger)
        assert all("verdicts" in found.result()[1] for found in waiting)
    assert "verdicts" in api.client.get(f"/batches/{body['batch']}").json
    assert api.metric("harkline_waiting_requests") == 0


def test_a_batch_tells_its_state_and_verdicts(api: Api) -> None:
    """GET /batches/<id>: waiting, then counted; verdicts only where ?wait= was said, 0 included."""
    kept = api.client.post("/logs?wait=0", data=BODY, content_type=NDJSON).json["batch"]
    bare = api.client.post("/logs", data=BODY, content_type=NDJSON).json["batch"]
    assert api.client.get(f"/batches/{kept}").json == {"batch": kept, "state": "waiting"}
    count_all(api.ledger)
    assert api.client.get(f"/batches/{bare}").json == {"batch": bare, "state": "counted"}
    found = api.client.get(f"/batches/{kept}").json
    assert found["state"] == "counted"
    assert [verdict["severity"] for verdict in found["verdicts"]] == ["not_critical", "critical", "not_critical"]
    assert [entry[0].keep_verdicts for entry in stored_entries(api.ledger)] == []


@pytest.mark.parametrize("name", ["x", "1-1", "1-1-1-1", "99999999999999-0-0", "-", "\u0661-1-1", "1-1-" + "9" * 30])
def test_an_unknown_batch_is_404(api: Api, name: str) -> None:
    """Ids that were never given out are unknown, whatever they look like."""
    api.client.post("/logs", data="a")
    answer = api.client.get(f"/batches/{name}")
    assert (answer.status_code, answer.json["error"]) == (404, "unknown_batch")


def test_verdicts_of_neighbours_in_an_entry_are_not_mixed(make_api: Callable[..., Api]) -> None:
    """Coalesced requests share an entry; each gets the verdicts of its own lines."""
    api = make_api(coalesce_ms=50)
    start = threading.Barrier(4)

    def send(number: int) -> bool:
        start.wait()
        answer = api.sender().post("/logs?wait=10", data=f"line {number}\n" * (number + 1), content_type="text/plain")
        return [verdict["template"] for verdict in answer.json["verdicts"]] == [f"line {number}"] * (number + 1)

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(send, number) for number in range(4)]
        wait_for(lambda: sum(len(entry) for entry in stored_entries(api.ledger)) == 4, 5, "all are written")
        count_all(api.ledger)
        assert all(answer.result() for answer in answers)


def test_a_repeat_of_a_counted_request_does_not_wait_in_vain(api: Api) -> None:
    """A retry with ?wait= of a request that kept no verdicts is answered at once: there will never be any."""
    headers = {"Idempotency-Key": "k"}
    first = api.client.post("/logs", data="a", headers=headers)
    count_all(api.ledger)
    began = time.monotonic()
    again = api.client.post("/logs?wait=10", data="a", headers=headers)
    assert time.monotonic() - began < 2
    assert again.json == first.json


def test_redis_lost_while_waiting_does_not_lose_the_answer(make_api: Callable[..., Api], tmp_path: Path) -> None:
    """Lines that are durable are answered with 202 even if Redis dies before their verdicts come."""
    with redis_server(tmp_path / "own-redis") as server:
        api = make_api(redis_url=SecretStr(server.url))
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(api.sender().post, "/logs?wait=10", data="a")
            wait_for(lambda: api.metric("harkline_waiting_requests") == 1, 3, "it waits")
            server.signal(signal.SIGKILL)
            assert answer.result(5).status_code == 202
            assert "verdicts" not in answer.result().json


def test_the_listener_comes_back_after_redis_does(make_api: Callable[..., Api], tmp_path: Path) -> None:
    """After a restart of Redis, waiting works again, and a batch of before can still be waited for."""
    with redis_server(tmp_path / "own-redis") as server:
        api = make_api(redis_url=SecretStr(server.url))
        assert api.client.post("/logs?wait=0.1", data="a").status_code == 202
        server.signal(signal.SIGKILL)
        server.start_again()
        with Consumer(api.ledger):
            wait_for(lambda: "verdicts" in api.client.post("/logs?wait=5", data="a").json, 10, "verdicts come again")


def test_a_commit_between_write_and_wait_is_seen(api: Api) -> None:
    """Verdicts that are there before the request begins to wait are found by its first look."""
    receipt = api.parts.publisher.submit(LogBatch([LogLine("a")], keep_verdicts=True))
    count_all(api.ledger)
    began = time.monotonic()
    assert api.parts.waiting.verdicts(receipt, 10) is not None
    assert time.monotonic() - began < 1
