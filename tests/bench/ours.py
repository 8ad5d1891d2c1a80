"""Parts c, d and e: our system end to end, without caches, with empty ones and with warm ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.results import Row
from tests.bench.stream import Stream, json_bodies, plain_bodies
from tests.bench.system import JSON, PLAIN, System, running_system

if TYPE_CHECKING:
    from tests.bench.setting import Setting
    from tests.bench.system import Pass

NO_CACHE = {"HARKLINE_CACHE_LINES": "0", "HARKLINE_SHARED_CACHE_SLOTS": "0"}
# Nothing here is about back-pressure: that is the overload part's.
NO_BOUND = {"HARKLINE_BACKLOG_FLOOR_LINES": "5000000"}
REQUEST_LINES = 500

_WARM_UP_LINES = 400
_WARM_UP_REQUEST = 20
_PASSES, _QUICK_PASSES = 6, 2
_NEW_EVERY = 1000
_LINES_PER_CORE_SECOND = 330


def without_cache(setting: Setting) -> list[Row]:
    """Part c: every line is a new template and every line is read by the model."""
    per_cpu, per_wall, shares = [], [], []
    # Many requests for each process: while the last ones are read, some processes have nothing left to do.
    lines = max(2 * REQUEST_LINES, int(_LINES_PER_CORE_SECOND * setting.cores * setting.seconds))
    with running_system(setting.new_folder("no-cache"), setting.cores, **NO_CACHE, **NO_BOUND) as system:
        warm_up(setting, system)
        for repeat in range(setting.repeats):
            setting.say(f"without cache: {repeat + 1} of {setting.repeats}")
            part = setting.different.sample(lines, repeat)
            read = system.metric("harkline_model_lines_total")
            took = system.take_in(json_bodies(part, REQUEST_LINES), len(part))
            shares.append((system.metric("harkline_model_lines_total") - read) / took.lines)
            per_cpu.append(took.lines / took.cpu)
            per_wall.append(took.lines / took.seconds)
    note = f"{min(shares):.1%} of the lines read by the model"
    return [Row("no_cache", "ours, no cache, no two lines alike", per_cpu, "lines/CPU-s", per_wall, note)]


def cold(setting: Setting) -> list[Row]:
    """Part d: the real stream meets empty caches, in a new system each time."""
    per_cpu, per_wall, read = [], [], 0.0
    for repeat in range(setting.repeats):
        setting.say(f"cold: {repeat + 1} of {setting.repeats}")
        with running_system(setting.new_folder("cold"), setting.cores, **NO_BOUND) as system:
            warm_up(setting, system)
            before = system.metric("harkline_model_lines_total")
            took = system.take_in(json_bodies(setting.stream, REQUEST_LINES), len(setting.stream))
            read = (system.metric("harkline_model_lines_total") - before) / took.lines
            per_cpu.append(took.lines / took.cpu)
            per_wall.append(took.lines / took.seconds)
    note = f"{read:.1%} of the lines read by the model"
    return [Row("cold", "ours, caches empty, the stream as it is", per_cpu, "lines/CPU-s", per_wall, note)]


def warm(setting: Setting) -> list[Row]:
    """Part e: the same stream again, and the same with numbers that change from line to line."""
    with running_system(setting.new_folder("warm"), setting.cores, **NO_BOUND) as system:
        warm_up(setting, system)
        make_warm(setting, system)
        rows = [_repeated(setting, system, "warm_same_1000", "ours, warm, the same lines again", JSON, 1000)]
        for key, what, kind, per_request in (
            ("warm_1000", "ours, warm, other numbers in every line", JSON, 1000),
            ("warm_256", "ours, warm, other numbers in every line", JSON, 256),
            ("warm_plain_1000", "ours, warm, other numbers, plain lines", PLAIN, 1000),
            ("warm_plain_256", "ours, warm, other numbers, plain lines", PLAIN, 256),
        ):
            rows.append(_repeated(setting, system, key, what, kind, per_request))
        rows.append(_repeated(setting, system, "warm_new_1000", "ours, warm, one line in 1,000 new", JSON, 1000))
    return rows


def warm_up(setting: Setting, system: System) -> Pass:
    """Let every process read lines that no measurement holds, so that its model is at work before the clock runs."""
    part = Stream("", setting.different.lines[-_WARM_UP_LINES:], setting.different.services[-_WARM_UP_LINES:])
    return system.take_in(json_bodies(part, _WARM_UP_REQUEST), len(part))


def make_warm(setting: Setting, system: System) -> None:
    """Fill the caches: the stream as it is, then with other numbers, until both processes know what there is to know."""
    for stream in (setting.stream, setting.fresh_numbers(), setting.fresh_numbers()):
        setting.say("warming the caches")
        system.take_in(json_bodies(stream, REQUEST_LINES), len(stream))


def _repeated(setting: Setting, system: System, key: str, what: str, kind: str, per_request: int) -> Row:
    per_cpu, per_wall, read, split = [], [], [], {}
    for repeat in range(setting.repeats):
        setting.say(f"{what}, requests of {per_request}: {repeat + 1} of {setting.repeats}")
        passes = [_pass(setting, key) for _ in range(_QUICK_PASSES if setting.quick else _PASSES)]
        bodies = [
            body for part in passes for body in (json_bodies if kind == JSON else plain_bodies)(part, per_request)
        ]
        before = system.metric("harkline_model_lines_total")
        took = system.take_in(bodies, sum(map(len, passes)), kind)
        read.append((system.metric("harkline_model_lines_total") - before) / took.lines)
        per_cpu.append(took.lines / took.cpu)
        per_wall.append(took.lines / took.seconds)
        split = {name: spent / took.lines * 1e6 for name, spent in took.cpu_seconds.items()}
    note = ", ".join(f"{name} {spent:.1f} us" for name, spent in split.items())
    note += f" a line; {max(read):.2%} of the lines read by the model"
    form = "JSON" if kind == JSON else "text"
    return Row(key, f"{what}, {form}, requests of {per_request}", per_cpu, "lines/CPU-s", per_wall, note)


def _pass(setting: Setting, key: str) -> Stream:
    """Return the whole stream as this measurement wants it."""
    if key.startswith("warm_same"):
        return setting.stream
    stream = setting.fresh_numbers()
    return setting.with_new_lines(stream, _NEW_EVERY) if key.startswith("warm_new") else stream
