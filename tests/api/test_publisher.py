"""Group commit, and what senders hear while Redis is hung, gone or full."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from harkline.contract import LogBatch, LogLine
from harkline.errors import LedgerUnavailable
from tests.api.consumer import stored_entries, stored_lines
from tests.support.polling import wait_for
from tests.support.redis_server import RedisServer, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.api.conftest import Api

# What a sender may have to wait for a 503.
PATIENCE_SECONDS = 3.0


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server that the test may hang and kill."""
    with redis_server(tmp_path / "own-redis") as server:
        yield server


@pytest.fixture
def own_api(make_api: Callable[..., Api], own_redis: RedisServer) -> Api:
    """An API on it."""
    return make_api(redis_url=SecretStr(own_redis.url))


def posted(api: Api, body: str = "a", **kw: Any) -> tuple[int, float, Any]:
    """Send a line; returns status, seconds and answer."""
    began = time.monotonic()
    answer = api.sender().post("/logs", data=body, content_type="text/plain", **kw)
    return answer.status_code, time.monotonic() - began, answer


def test_singles_from_many_senders_share_entries(make_api: Callable[..., Api]) -> None:
    """64 concurrent requests of one line are written in far fewer entries, and each has a batch of its own with its line."""
    api = make_api(coalesce_ms=20)
    senders = 64
    start = threading.Barrier(senders)

    def send(number: int) -> str:
        start.wait()
        status, _, answer = posted(api, f"line {number}")
        assert status == 202
        return str(answer.json["batch"])

    with ThreadPoolExecutor(senders) as pool:
        batches = list(pool.map(send, range(senders)))
    entries = stored_entries(api.ledger)
    assert len(set(batches)) == senders
    assert sum(len(entry) for entry in entries) == senders
    assert len(entries) <= senders // 4
    assert sorted(line.message for line in stored_lines(api.ledger)) == sorted(f"line {n}" for n in range(senders))
    assert api.metric("harkline_coalesced_requests_sum") == senders
    assert api.metric("harkline_coalesced_requests_count") == len(entries)


def test_a_large_request_is_an_entry_of_its_own(make_api: Callable[..., Api]) -> None:
    """From coalesce_lines on, a request is written alone and at once."""
    api = make_api(coalesce_ms=100, coalesce_lines=50)
    status, seconds, _ = posted(api, "a\n" * 50)
    assert status == 202
    assert seconds < 0.1
    assert len(stored_entries(api.ledger)) == 1


def test_an_entry_holds_no_more_than_it_should(make_api: Callable[..., Api]) -> None:
    """Coalescing stops at coalesce_lines; the last request may go past it, as it is not split."""
    api = make_api(coalesce_ms=100, coalesce_lines=10)
    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(lambda _: posted(api, "a\n" * 4)[0], range(12))) == {202}
    sizes = [sum(len(batch.lines) for batch in entry) for entry in stored_entries(api.ledger)]
    assert sum(sizes) == 48
    assert max(sizes) <= 12


def test_the_first_write_rings_and_an_unanswered_bell_is_not_rung_again(api: Api) -> None:
    """The doorbell is rung once while nobody has answered it."""
    for _ in range(3):
        assert posted(api)[0] == 202
    wait_for(lambda: api.rings, 2, "the doorbell was rung")
    assert api.rings == [1]


def test_a_slow_bell_delays_nobody(make_api: Callable[..., Api]) -> None:
    """Answers do not wait for the broker, not even where ringing hangs."""
    hold = threading.Event()
    api = make_api(ring=lambda: hold.wait(10))
    try:
        for _ in range(3):
            status, seconds, _ = posted(api)
            assert status == 202
            assert seconds < 1
    finally:
        hold.set()


def test_a_dead_redis_is_503_at_once_and_lines_flow_again_after_it(own_api: Api, own_redis: RedisServer) -> None:
    """While Redis is gone every answer is a quick 503 with Retry-After; once it is back, requests are accepted without a restart."""
    assert posted(own_api)[0] == 202
    own_redis.signal(signal.SIGKILL)
    own_redis.process.wait(10)
    for _ in range(5):
        status, seconds, answer = posted(own_api)
        assert status == 503
        assert seconds < PATIENCE_SECONDS
        assert answer.json["error"] == "ledger_unavailable"
        assert int(answer.headers["Retry-After"]) >= 1
    own_redis.start_again()
    wait_for(lambda: posted(own_api)[0] == 202, 5, "lines are accepted again")
    assert [line.message for line in stored_lines(own_api.ledger)] == ["a", "a"]


def test_a_hung_redis_is_503_in_time_for_all_who_wait(own_api: Api, own_redis: RedisServer) -> None:
    """With Redis hung, 24 concurrent senders, small and large, some arriving late, all hear 503 within 3 s; then others hear it at once."""
    assert posted(own_api)[0] == 202
    own_redis.signal(signal.SIGSTOP)
    try:
        late = threading.Event()

        def send(number: int) -> tuple[int, float]:
            late.wait(0.1 * (number % 8))
            status, seconds, _ = posted(own_api, "a\n" * (1000 if number % 3 == 0 else 1))
            return status, seconds

        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(send, range(24)))
        assert {status for status, _ in answers} == {503}
        assert max(seconds for _, seconds in answers) < PATIENCE_SECONDS
        status, seconds, _ = posted(own_api)
        assert status == 503
        assert seconds < 0.5
        for path in ("/batches/1-1-0", "/stream"):
            began = time.monotonic()
            assert own_api.sender().get(path).status_code == 503
            assert time.monotonic() - began < 0.5
        assert own_api.sender().get("/health").status_code == 200
    finally:
        own_redis.signal(signal.SIGCONT)
    wait_for(lambda: posted(own_api)[0] == 202, 10, "lines are accepted again")


def test_a_redis_that_is_away_at_the_start_is_waited_for(make_api: Callable[..., Api], own_redis: RedisServer) -> None:
    """An API that starts before its Redis answers 503 until Redis is there, and then works."""
    api = make_api(redis_url=SecretStr(own_redis.url))
    own_redis.client().flushall()  # nor is there a stream or a group
    own_redis.signal(signal.SIGKILL)
    own_redis.process.wait(10)
    assert posted(api)[0] == 503
    own_redis.start_again()
    wait_for(lambda: posted(api)[0] == 202, 5, "lines are accepted")


def test_a_full_redis_is_refused_and_not_forgotten(own_api: Api, own_redis: RedisServer) -> None:
    """At its memory limit Redis refuses writes: senders hear 429 or 503, nothing is half written, and room brings 202 back."""
    client = own_redis.client()
    assert posted(own_api)[0] == 202
    client.config_set("maxmemory", "1mb")
    for _ in range(3):
        status, seconds, answer = posted(own_api)
        assert status in (429, 503)
        assert "Retry-After" in answer.headers
        assert seconds < PATIENCE_SECONDS
    assert len(stored_lines(own_api.ledger)) == 1
    client.config_set("maxmemory", "512mb")
    wait_for(lambda: posted(own_api)[0] == 202, 5, "lines are accepted again")


def test_closing_writes_what_waits_and_refuses_what_comes(make_api: Callable[..., Api]) -> None:
    """A process that stops still answers those it took in, and says to others that they should go elsewhere."""
    api = make_api(coalesce_ms=100)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(posted, api) for _ in range(8)]
        wait_for(lambda: api.parts.publisher._queue, 2, "requests wait for company")
        api.parts.publisher.close()
        assert {answer.result()[0] for answer in answers} <= {202, 503}
        accepted = sum(answer.result()[0] == 202 for answer in answers)
    assert accepted > 0
    assert len(stored_lines(api.ledger)) == accepted
    with pytest.raises(LedgerUnavailable, match="shutting down"):
        api.parts.publisher.submit(LogBatch([LogLine("late")]))
