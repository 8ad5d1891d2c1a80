"""Idempotency-Key: a retry is safe."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from pydantic import SecretStr

from tests.api.consumer import count_all, stored_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Api


def send(api: Api, body: bytes, key: str = "retry-1", path: str = "/logs", **headers: str) -> Any:
    return api.client.post(
        path,
        data=body,
        content_type="application/x-ndjson",
        headers={"Idempotency-Key": key, **{name.replace("_", "-"): value for name, value in headers.items()}},
    )


BODY = b'{"message": "a"}\n{}\n{"message": "b"}'


def test_a_retry_is_answered_as_the_first_time_and_counted_once(api: Api) -> None:
    """Same key and same body: the same answer, also packed differently, also after the lines were counted."""
    first = send(api, BODY)
    assert first.status_code == 202
    assert first.json["rejected"] == [{"index": 1, "error": "missing_message"}]
    assert send(api, BODY).json == first.json
    assert send(api, zstandard.compress(BODY), Content_Encoding="zstd").json == first.json
    assert send(api, BODY, path="/logs?wait=0").json == first.json
    assert len(stored_lines(api.ledger)) == 2
    count_all(api.ledger)
    assert send(api, BODY).json == first.json
    assert stored_lines(api.ledger) == []


@pytest.mark.parametrize("change", ["body", "service", "path"])
def test_the_same_key_for_something_else_is_refused(api: Api, change: str) -> None:
    """Another body, or the same one meant differently, is 422 and is not written."""
    assert send(api, BODY).status_code == 202
    other = {
        "body": lambda: send(api, BODY + b"\n" + BODY),
        "service": lambda: send(api, BODY, path="/logs?service=x"),
        "path": lambda: send(api, BODY, path="/ingest"),
    }[change]()
    assert (other.status_code, other.json["error"]) == (422, "idempotency_key_reused")
    assert len(stored_lines(api.ledger)) == 2


def test_a_refused_request_leaves_its_key_free(api: Api) -> None:
    """A request that was refused did nothing, so its key may be used for the corrected one."""
    assert send(api, b"{}").status_code == 422
    assert send(api, BODY).status_code == 202


def test_callers_do_not_share_keys(make_api: Callable[..., Api]) -> None:
    """The same Idempotency-Key under two API keys is two keys."""
    api = make_api(api_keys=SecretStr("one,two"))
    answers = [send(api, body, X_Api_Key=key) for key, body in (("one", b'"a"'), ("two", b'"b"'))]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json["batch"] != answers[1].json["batch"]


def test_concurrent_twins_are_one(make_api: Callable[..., Api]) -> None:
    """Eight identical requests at once, coalesced into one write or not, become one batch."""
    api = make_api(coalesce_ms=50)
    start = threading.Barrier(8)
    batches = []

    def twin() -> None:
        start.wait()
        batches.append(api.sender().post("/logs", data="a", headers={"Idempotency-Key": "twin"}).json["batch"])

    threads = [threading.Thread(target=twin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(batches) == 8
    assert len(set(batches)) == 1
    assert len(stored_lines(api.ledger)) == 1
