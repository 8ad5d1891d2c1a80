"""Part l: how long a sender waits for its answer, and how long a line takes to be counted, at half of what the system can do."""

from __future__ import annotations

import bisect
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.bench import client
from tests.bench.ours import NO_BOUND, make_warm, warm_up
from tests.bench.places import ROOT
from tests.bench.results import Row
from tests.bench.stream import json_bodies
from tests.bench.system import JSON, LEDGER, count_statuses, running_system
from tests.system.whole import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.setting import Setting
    from tests.bench.system import System

_BATCH, _BATCH_CLIENTS = 100, 8
_SINGLE_CLIENTS = 50
# A client is new to its connection for the first requests; nobody's latency.
_SETTLING_SECONDS = 1.0


def latency(setting: Setting) -> list[Row]:
    """Batches of 100 from a few shippers, and single lines from 50 clients, at random moments."""
    rows = []
    with running_system(setting.new_folder("latency"), setting.cores, **NO_BOUND) as system:
        warm_up(setting, system)
        make_warm(setting, system)
        for key, what, lines, clients in (
            ("batches", f"batches of {_BATCH}", _BATCH, _BATCH_CLIENTS),
            ("singles", f"single lines from {_SINGLE_CLIENTS} clients", 1, _SINGLE_CLIENTS),
        ):
            rows += _at_half_load(setting, system, key, what, lines, clients)
    return rows


def _at_half_load(setting: Setting, system: System, key: str, what: str, lines: int, clients: int) -> list[Row]:
    setting.say(f"{what}: what the system can do")
    requests = [client.post("/logs", body, JSON) for body in json_bodies(setting.fresh_numbers(), lines)]
    full = _capacity(system, requests, lines, clients, setting.seconds)
    accepted: list[list[float]] = []
    counted: list[list[float]] = []
    statuses: dict[int, int] = {}
    for repeat in range(setting.repeats):
        setting.say(f"{what} at half load: {repeat + 1} of {setting.repeats}")
        requests = [client.post("/logs", body, JSON) for body in json_bodies(setting.fresh_numbers(), lines)]
        seconds = max(5.0, setting.seconds)
        with _watched(system) as seen:
            sent = client.on_a_timetable(system.api_port, requests, full / lines / 2, seconds, clients, repeat)
            system.wait_until_drained()
        settled = [answer for answer in sent if answer.due > sent[0].due + _SETTLING_SECONDS]
        statuses = count_statuses(settled)
        good = [answer for answer in settled if answer.status == 202]
        accepted.append([answer.seconds * 1000 for answer in good])
        counted.append(_counted_ms(good, seen["gone"], seen["looks"]))
    note = f"at {full / 2:,.0f} lines/s, half of {full:,.0f}; answers {statuses}"
    rows = [Row(f"{key}_capacity", f"{what}: the most that is counted", [full], "lines/s")]
    for name, title, measured in (("accept", "accepted", accepted), ("count", "counted", counted)):
        for percent in (50, 99):
            values = [float(np.percentile(repeat, percent)) for repeat in measured]
            rows.append(Row(f"{key}_{name}_p{percent}", f"{what}: {title}, p{percent}", values, "ms", note=note))
    return rows


def _capacity(system: System, requests: Sequence[bytes], lines: int, clients: int, seconds: float) -> float:
    """Return the lines per second that are taken in and counted when everyone sends as fast as answers come."""
    before, began = system.counted_lines(), time.monotonic()
    endless = (requests[at % len(requests)] for at in range(2**62))
    sent = client.as_fast_as_answered(system.api_port, endless, clients, seconds)
    good = sum(answer.status == 202 for answer in sent)
    system.wait_until_counted(before + good * lines)
    return good * lines / (time.monotonic() - began)


@contextmanager
def _watched(system: System) -> Iterator[dict[str, Any]]:
    """Watch the ledger until the block ends; afterwards the dictionary holds what was seen."""
    command = [sys.executable, "-m", "tests.bench.watcher", system.redis_url, LEDGER]
    seen: dict[str, Any] = {}
    with subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield seen
        finally:
            said, _ = process.communicate()
    seen |= json.loads(said)


def _counted_ms(sent: Sequence[client.Sent], gone: dict[str, float], looks: Sequence[float]) -> list[float]:
    """Return, for each request, milliseconds from when it was due to the first look at which its entry was counted."""
    found = []
    for answer in sent:
        entry = json.loads(answer.body)["batch"].rpartition("-")[0]
        at = gone.get(entry)
        if at is None:
            # Counted between two looks: gone at the first one after it was written, which its id says to the millisecond, rounded down.
            place = bisect.bisect_left(looks, int(entry.partition("-")[0]) / 1000 + 0.002)
            at = looks[place] if place < len(looks) else looks[-1]
        found.append((at - answer.due) * 1000)
    return found
