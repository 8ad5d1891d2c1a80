"""The backlog bound: where it lies, what senders hear at it, and what it costs to ask."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from harkline.ledger import BACKLOG, TOTALS
from harkline_api.drain_rate import DrainRate
from tests.api.consumer import count_all, stored_lines
from tests.support.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Api


def test_at_the_bound_senders_hear_429_and_nothing_is_written(make_api: Callable[..., Api]) -> None:
    """What fits is accepted up to the last line, one more is 429 with Retry-After, and room is used again."""
    api = make_api(backlog_floor_lines=10)
    assert api.client.post("/logs", data="a\n" * 6).status_code == 202
    assert api.client.post("/logs", data="a\n" * 4).status_code == 202
    for body in ("a", "a\n" * 1000):
        answer = api.client.post("/logs", data=body)
        assert (answer.status_code, answer.json["error"]) == (429, "backlog_full")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert len(stored_lines(api.ledger)) == 10
    assert api.metric("harkline_rejected_requests_total", code="backlog_full") == 2
    count_all(api.ledger)
    wait_for(lambda: api.client.post("/logs", data="a").status_code == 202, 5, "there is room again")


def test_a_bound_that_others_filled_is_known_within_a_second(make_api: Callable[..., Api]) -> None:
    """Another process' lines count: the check on the way in knows of them without asking Redis."""
    api = make_api(backlog_floor_lines=10)
    assert api.client.post("/logs", data="a").status_code == 202
    api.ledger.redis.set(BACKLOG, 10)
    wait_for(lambda: api.parts.gate._state.stats.backlog_lines == 10, 3, "the gate has read it")
    assert api.client.post("/logs", data="a").status_code == 429


def test_asking_costs_microseconds(api: Api) -> None:
    """The check on a request's way costs less than 20 us on any machine (0.5 us here)."""
    api.parts.gate.check()
    began = time.process_time()
    for _ in range(10_000):
        api.parts.gate.check(100)
    assert (time.process_time() - began) / 10_000 < 20e-6


def test_redis_memory_is_bounded_too(make_api: Callable[..., Api]) -> None:
    """Above 80% of Redis' memory limit nothing is accepted, and /readiness says why."""
    api = make_api()
    client = api.ledger.redis
    assert api.client.post("/logs", data="a").status_code == 202
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", int(used / 0.85))
    wait_for(lambda: api.parts.gate._state.memory_full, 3, "the gate has read it")
    answer = api.client.post("/logs", data="a")
    assert (answer.status_code, answer.json["error"]) == (429, "backlog_full")
    readiness = api.client.get("/readiness")
    assert readiness.status_code == 503
    assert readiness.json["backlog"]["memory_full"] is True
    assert "80%" in readiness.json["detail"]
    client.config_set("maxmemory", "512mb")
    wait_for(lambda: api.client.post("/logs", data="a").status_code == 202, 5, "there is room again")


def observed(*readings: tuple[int, int]) -> float:
    """Return the rate after readings of (lines counted, backlog), one a second."""
    rate = DrainRate()
    for second, (counted, backlog) in enumerate(readings):
        rate.observe(counted, backlog, float(second))
    return rate.lines_per_second


def test_the_drain_rate_is_that_of_busy_seconds() -> None:
    """It converges on the speed while there is work, keeps it while there is none, and falls where work waits and nothing happens."""
    busy = [(1000 * second, 5000) for second in range(120)]
    assert observed(*busy) == pytest.approx(1000, rel=0.01)
    idle = [(busy[-1][0], 0)] * 600
    assert observed(*busy, *idle) == pytest.approx(1000, rel=0.01)
    stuck = [(busy[-1][0], 5000)] * 120
    assert observed(*busy, *stuck) < 1
    assert observed((500, 10), (0, 10)) == 0  # totals that were reset


def test_the_bound_follows_the_drain_rate_up_to_a_limit(make_api: Callable[..., Api]) -> None:
    """The bound is what drains within the lag target, at least the floor, at most the maximum; Retry-After is the excess over the rate."""
    api = make_api(backlog_floor_lines=100, backlog_max_lines=4000, lag_target_seconds=10)
    gate = api.parts.gate
    gate.close()
    client = api.ledger.redis
    client.set(BACKLOG, 50)

    def read(counted: int) -> int:
        client.hset(TOTALS, "not_critical", counted)
        gate._drain._at_seconds = time.monotonic() - 1  # as if a second had passed
        return gate.refresh().bound_lines

    gate.refresh()
    assert gate.bound_lines == 100
    for second in range(1, 100):
        bound = read(200 * second)
    assert bound == pytest.approx(2000, rel=0.05)
    rate = gate._state.drain_lines_per_second
    assert gate.full(backlog_lines=bound + int(5 * rate), lines=0).retry_after_seconds in (5, 6)
    assert gate.full(backlog_lines=bound + int(500 * rate), lines=0).retry_after_seconds == 60
    for second in range(1, 100):
        bound = read(19_800 + 10_000 * second)
    assert bound == 4000
