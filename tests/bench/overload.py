"""Part o: five times more than the system can drain. What senders are told, what Redis holds, and what saying no costs."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from tests.bench import client
from tests.bench.ours import NO_CACHE, warm_up
from tests.bench.results import Row
from tests.bench.stream import json_bodies
from tests.bench.system import JSON, count_statuses, running_system

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.setting import Setting
    from tests.bench.system import System

_TIMES = 5
_REQUEST_LINES = 100
_CLIENTS = 16
# A bound that is reached within seconds, where the default takes minutes; what happens at it is the same.
_SMALL_BOUND = {"HARKLINE_BACKLOG_FLOOR_LINES": "4000", "HARKLINE_LAG_TARGET_SECONDS": "3"}
_REFUSED_REQUESTS, _ACCEPTED_REQUESTS = 600, 200
_WATCH_SECONDS = 0.25


def overload(setting: Setting) -> list[Row]:
    """Without caches, so that the worker and not the sender is the limit."""
    rows = []
    with running_system(setting.new_folder("overload"), setting.cores, **NO_CACHE, **_SMALL_BOUND) as system:
        warm_up(setting, system)
        rows += _five_times(setting, system)
    for lines in (100, 1000):
        rows += _cost_of_no(setting, lines)
    return rows


def _five_times(setting: Setting, system: System) -> list[Row]:
    setting.say("what it can drain")
    part = setting.different.sample(max(500, int(200 * setting.seconds)), seed=11)
    took = system.take_in(json_bodies(part, _REQUEST_LINES), len(part))
    drain = took.lines / took.seconds
    seconds = 2.5 * setting.seconds
    setting.say(f"{_TIMES} times that")
    requests = [client.post("/logs", body, JSON) for body in json_bodies(setting.different, _REQUEST_LINES)]
    before = system.counted_lines()
    with _Redis(system) as watched:
        sent = client.on_a_timetable(
            system.api_port, requests, _TIMES * drain / _REQUEST_LINES, seconds, _CLIENTS, seed=5
        )
    statuses = count_statuses(sent)
    accepted = sum(json.loads(answer.body)["accepted"] for answer in sent if answer.status == 202)
    setting.say("draining")
    system.wait_until_counted(before + accepted)
    over = system.counted_lines() - before - accepted
    slowest = max(answer.seconds for answer in sent) * 1000
    note = f"{drain:,.0f} lines/s drain, {len(sent) * _REQUEST_LINES / seconds:,.0f} lines/s sent for {seconds:.0f} s; {over} counted too often"
    shares = ", ".join(f"{status}: {number}" for status, number in statuses.items())
    return [
        Row(
            "overload_refused",
            f"answers at {_TIMES} times the drain rate ({shares})",
            [100 * statuses.get(429, 0) / len(sent)],
            "% 429",
            note=note,
        ),
        Row(
            "overload_other",
            "answers that are neither 202 nor 429 nor 503",
            [float(sum(number for status, number in statuses.items() if status not in (202, 429, 503)))],
            "requests",
        ),
        Row("overload_slowest", "slowest answer meanwhile", [slowest], "ms"),
        Row(
            "overload_redis",
            "Redis at most",
            [watched.most_bytes / 2**20],
            "MiB",
            note=f"{watched.most_lines:,} lines waiting at most",
        ),
    ]


def _cost_of_no(setting: Setting, lines: int) -> list[Row]:
    """The worker is held still, so that only the API and Redis work: first all requests are accepted, then none."""
    bodies = json_bodies(setting.stream, lines)[:_ACCEPTED_REQUESTS]
    requests = [client.post("/logs", body, JSON) for body in bodies if len(body) >= len(bodies[0]) // 2]
    bound = {"HARKLINE_BACKLOG_FLOOR_LINES": str(len(requests) * setting.repeats * lines)}
    taken, refused = [], []
    with running_system(setting.new_folder("refusal"), 1, **bound) as system:
        warm_up(setting, system)
        system.hold_worker()
        try:
            for _ in range(setting.repeats):
                setting.say(f"accepting requests of {lines}")
                taken.append(_front_us(system, requests, 202))
            # Until the API has seen that the bound is reached.
            client.as_fast_as_answered(system.api_port, requests * 2, 2)
            threading.Event().wait(1.5)
            for _ in range(setting.repeats):
                setting.say(f"refusing requests of {lines}")
                repeated = requests * max(1, _REFUSED_REQUESTS // len(requests))
                refused.append(_front_us(system, repeated, 429))
        finally:
            system.release_worker()
    return [
        Row(f"accept_us_{lines}", f"API and Redis for an accepted request of {lines} lines", taken, "CPU us"),
        Row(f"refuse_us_{lines}", f"API and Redis for a refused request of {lines} lines", refused, "CPU us"),
    ]


def _front_us(system: System, requests: Sequence[bytes], status: int) -> float:
    """Return microseconds of CPU that the API and Redis spend on a request, all of which must be answered with this status."""
    before = system.cpu_seconds()
    sent = client.as_fast_as_answered(system.api_port, requests, 2)
    after = system.cpu_seconds()
    if count_statuses(sent) != {status: len(requests)}:
        raise AssertionError(f"{len(requests)} requests were answered {count_statuses(sent)}, all should be {status}")
    return sum(after[name] - before[name] for name in ("api", "redis")) / len(requests) * 1e6


class _Redis:
    """What Redis held at most while the block ran."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most_bytes = 0
        self.most_lines = 0

    def __enter__(self) -> _Redis:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(_WATCH_SECONDS):
            self.most_bytes = max(self.most_bytes, self._system.redis_bytes())
            self.most_lines = max(self.most_lines, self._system.backlog_lines())
