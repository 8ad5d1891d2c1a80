"""Parts s, k and t: what more processes bring, and what a line costs as the backlog and the number of templates grow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.bench import client
from tests.bench.ours import NO_BOUND, NO_CACHE, REQUEST_LINES, make_warm, warm_up
from tests.bench.results import Row
from tests.bench.stream import json_bodies
from tests.bench.system import JSON, count_statuses, running_system

if TYPE_CHECKING:
    from tests.bench.setting import Setting
    from tests.bench.system import System

_BACKLOGS, _QUICK_BACKLOGS = (10_000, 20_000, 50_000, 100_000, 200_000), (10_000, 20_000)
_TEMPLATES, _QUICK_TEMPLATES = (100, 300, 1000, 3000, 10_000), (100, 300)
# Passes over new templates before the clock runs, so that nearly every process has met nearly every one.
_MEETINGS = 5
_COUNTS = (1, 2, 4, 8, 16)
_FRONT_REQUEST_LINES = 1000
# Small ones, so that no process is left alone with the last of them for long.
_SMALL_REQUEST_LINES = 100


def scaling(setting: Setting) -> list[Row]:
    """Part s: worker processes on lines that all need the model, API processes while nothing else runs."""
    rows = []
    counts = [count for count in _COUNTS if count <= setting.cores]
    for count in counts:
        with running_system(setting.new_folder("workers"), count, **NO_CACHE, **NO_BOUND) as system:
            warm_up(setting, system)
            setting.say(f"{count} worker processes")
            part = setting.different.sample(int(200 * count * setting.seconds), seed=count)
            took = system.take_in(json_bodies(part, _SMALL_REQUEST_LINES), len(part))
        per_cpu, per_wall = [took.lines / took.cpu], [took.lines / took.seconds]
        rows.append(Row(f"workers:{count}", f"worker processes: {count}, no cache", per_cpu, "lines/CPU-s", per_wall))
    for count in counts:
        one = {"HARKLINE_API_WORKERS": str(count)}
        with running_system(setting.new_folder("apis"), 1, **one, **NO_BOUND) as system:
            warm_up(setting, system)
            system.hold_worker()
            try:
                setting.say(f"{count} API processes")
                rows.append(_front(setting, system, count))
            finally:
                system.release_worker()
    return rows


def backlog(setting: Setting) -> list[Row]:
    """Part k: a line's cost while ever more lines wait, taking in and counting apart."""
    taking, counting = [], []
    with running_system(setting.new_folder("backlog"), setting.cores, **NO_BOUND) as system:
        warm_up(setting, system)
        make_warm(setting, system)
        for size in _QUICK_BACKLOGS if setting.quick else _BACKLOGS:
            setting.say(f"a backlog of {size:,} lines")
            passes = [setting.fresh_numbers() for _ in range(-(-size // len(setting.stream)))]
            bodies = [body for part in passes for body in json_bodies(part, REQUEST_LINES)][: size // REQUEST_LINES]
            before, counted = system.cpu_seconds(), system.counted_lines()
            system.hold_worker()
            try:
                client.as_fast_as_answered(system.api_port, [client.post("/logs", body, JSON) for body in bodies], 4)
                full = system.cpu_seconds()
            finally:
                system.release_worker()
            waiting = system.backlog_lines()
            system.wait_until_counted(counted + waiting)
            after = system.cpu_seconds()
            taken = sum(full[name] - before[name] for name in full) / waiting * 1e6
            drained = sum(after[name] - full[name] for name in full) / waiting * 1e6
            taking.append(
                Row(f"backlog_in:{size}", f"taking in while up to {size:,} lines wait", [taken], "CPU us a line")
            )
            counting.append(Row(f"backlog_out:{size}", f"counting {size:,} waiting lines", [drained], "CPU us a line"))
    return taking + counting


def templates(setting: Setting) -> list[Row]:
    """Part t: a line's cost while ever more templates are known; every template was read by the model once, before the clock runs."""
    rows = []
    lines = 20_000 if setting.quick else 60_000
    known = 0
    with running_system(setting.new_folder("templates"), setting.cores, **NO_BOUND) as system:
        warm_up(setting, system)
        for number in _QUICK_TEMPLATES if setting.quick else _TEMPLATES:
            setting.say(f"{number:,} templates: the model reads the new ones")
            for _ in range(_MEETINGS):
                fresh = setting.fresh_numbers(setting.different.at(range(known, number)))
                system.take_in(json_bodies(fresh, REQUEST_LINES), len(fresh))
            known = number
            setting.say(f"{number:,} templates")
            part = setting.fresh_numbers(setting.different.at([at % number for at in range(lines)]))
            read, critical = system.metric("harkline_model_lines_total"), float(system.critical_lines())
            took = system.take_in(json_bodies(part, REQUEST_LINES), len(part))
            read = (system.metric("harkline_model_lines_total") - read) / took.lines
            critical = (system.critical_lines() - critical) / took.lines
            note = f"{read:.2%} of the lines read by the model, {critical:.0%} critical"
            cost = [took.cpu / took.lines * 1e6]
            rows.append(Row(f"templates:{number}", f"{number:,} templates", cost, "CPU us a line", note=note))
    return rows


def _front(setting: Setting, system: System, count: int) -> Row:
    """What the API takes in while nothing drains."""
    per_cpu, per_wall = [], []
    for _ in range(setting.repeats):
        bodies = json_bodies(setting.fresh_numbers(), _FRONT_REQUEST_LINES)[:-1] * (1 if setting.quick else 3)
        requests = [client.post("/logs", body, JSON) for body in bodies]
        before, began = system.cpu_seconds(), time.monotonic()
        sent = client.as_fast_as_answered(system.api_port, requests, 2 * count)
        elapsed, after = time.monotonic() - began, system.cpu_seconds()
        if count_statuses(sent) != {202: len(sent)}:
            raise AssertionError(f"{len(sent)} requests were answered {count_statuses(sent)}")
        lines = len(sent) * _FRONT_REQUEST_LINES
        per_cpu.append(lines / sum(after[name] - before[name] for name in ("api", "redis")))
        per_wall.append(lines / elapsed)
    what = f"API processes: {count}, taking in only, requests of {_FRONT_REQUEST_LINES:,}"
    return Row(f"apis:{count}", what, per_cpu, "lines/CPU-s", per_wall)
