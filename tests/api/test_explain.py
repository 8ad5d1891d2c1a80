"""?explain=true: asked beside ?wait=, bounded in lines, refused with words, and passed on to whoever reads the verdicts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from openapi_schema_validator import OAS31Validator

from tests.api.consumer import Consumer, count_all, stored_entries, stored_lines
from tests.support.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Api

EXPLANATION = {
    "words": [{"word": "critical", "effect": 1.5}, {"word": "the", "effect": None}],
    "nearest": [{"template": "a critical example", "level": "error", "system": "tests", "similarity": 0.75}],
    "said_by": "the word",
}


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("POST", "/logs?wait=10&explain=true"),
        ("POST", "/ingest?wait=10&explain=true"),
        ("POST", "/log/critical%20fault?wait=10&explain=true"),
        ("GET", "/log/critical%20fault?wait=10&explain=true"),
    ],
)
def test_every_verdict_has_its_explanation(api: Api, method: str, call: str) -> None:
    """On every call that sends: words with their effects, the nearest examples, and who said so."""
    with Consumer(api.ledger):
        answer = api.client.open(call, method=method, data=b"critical fault", content_type="text/plain")
    assert answer.status_code in (200, 202)
    [verdict] = answer.json["verdicts"]
    assert verdict["explanation"] == EXPLANATION
    assert list(verdict)[:8] == ["severity", "score", "level", "template", "source", "why", "degraded", "model"]


def test_an_explained_answer_is_as_it_is_described(api: Api) -> None:
    """The answer keeps to the schema of /openapi.json, whose Verdict names the explanation and does not require it."""
    with Consumer(api.ledger):
        answer = api.client.post("/logs?wait=10&explain=true", data="a\ncritical", content_type="text/plain")
    schemas = api.client.get("/openapi.json").json["components"]["schemas"]
    document = {"$ref": "#/components/schemas/Accepted", "components": {"schemas": schemas}}
    OAS31Validator(document).validate(answer.json)
    assert "explanation" not in schemas["Verdict"]["required"]
    assert schemas["Verdict"]["properties"]["explanation"]["$ref"] == "#/components/schemas/Explanation"
    assert set(schemas["Explanation"]["required"]) == set(EXPLANATION)


@pytest.mark.parametrize("query", ["", "?wait=10", "?wait=10&explain=false"])
def test_whoever_does_not_ask_gets_none(api: Api, query: str) -> None:
    """Without explain=true the answer has no trace of it, and the workers are not asked."""
    with Consumer(api.ledger):
        answer = api.client.post(f"/logs{query}", data="critical")
    assert all("explanation" not in verdict for verdict in answer.json.get("verdicts", []))
    api.client.post(f"/logs{query.replace('10', '0')}", data="critical")
    assert not any(batch.explain for entry in stored_entries(api.ledger) for batch in entry)


@pytest.mark.parametrize(
    ("query", "lines", "status", "code"),
    [
        ("explain=true", 1, 400, "explain_without_wait"),
        ("wait=1&explain=yes", 1, 400, "bad_explain"),
        ("wait=1&explain=", 1, 400, "bad_explain"),
        ("explain=1", 1, 400, "bad_explain"),
        ("wait=1&explain=true", 21, 413, "too_many_to_explain"),
    ],
)
def test_what_cannot_be_explained_is_refused(api: Api, query: str, lines: int, status: int, code: str) -> None:
    """Without wait, with another word than true or false, or with too many lines: 4xx with what to do, and nothing is written."""
    answer = api.client.post(f"/logs?{query}", data="a\n" * lines, content_type="text/plain")
    assert (answer.status_code, answer.json["error"]) == (status, code)
    assert len(answer.json["detail"]) > 20
    assert stored_lines(api.ledger) == []
    assert api.metric("harkline_rejected_requests_total", code=code) == 1


def test_the_bound_on_lines_is_a_setting(make_api: Callable[..., Api]) -> None:
    """As many as the setting says are accepted, one more is not; 0 turns explanations off."""
    api = make_api(explain_max_lines=2)
    for lines, status in ((2, 202), (3, 413)):
        answer = api.client.post("/logs?wait=0&explain=true", data="a\n" * lines, content_type="text/plain")
        assert answer.status_code == status
    assert make_api(explain_max_lines=0).client.post("/logs?wait=0&explain=true", data="a").status_code == 413


def test_explanations_can_be_fetched_later(api: Api) -> None:
    """wait=0 keeps them with the verdicts, for GET /batches."""
    batch = api.client.post("/logs?wait=0&explain=true", data="critical").json["batch"]
    count_all(api.ledger)
    assert api.client.get(f"/batches/{batch}").json["verdicts"][0]["explanation"] == EXPLANATION


def test_an_explaining_request_shares_its_entry_with_nobody(make_api: Callable[..., Api]) -> None:
    """Entries are committed whole, so whoever asked for nothing must not be in one that is explained first."""
    api = make_api(coalesce_ms=100)
    start = threading.Barrier(6)

    def send(number: int) -> Any:
        start.wait()
        query = "?wait=0&explain=true" if number % 3 == 0 else "?wait=0"
        return api.sender().post(f"/logs{query}", data=f"line {number}").status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(send, range(6))) == {202}
    wait_for(lambda: len(stored_lines(api.ledger)) == 6, 5, "all are written")
    asking = [entry for entry in stored_entries(api.ledger) if any(batch.explain for batch in entry)]
    assert [len(entry) for entry in asking] == [1, 1]


def test_asking_why_does_not_change_what_a_key_stands_for(api: Api) -> None:
    """A retry that asks for explanations as well is the same request, answered as the first time."""
    headers = {"Idempotency-Key": "k"}
    first = api.client.post("/logs", data="a", headers=headers)
    again = api.client.post("/logs?wait=0&explain=true", data="a", headers=headers)
    assert (again.status_code, again.json) == (202, first.json)
