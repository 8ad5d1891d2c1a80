"""Part m: what each process holds once it has seen everything, caches filled and both models loaded; and what a system costs that has nothing to do."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tests.bench.ours import NO_BOUND, REQUEST_LINES, make_warm, warm_up
from tests.bench.results import Row
from tests.bench.stream import json_bodies
from tests.bench.system import running_system

if TYPE_CHECKING:
    from tests.bench.processes import Memory
    from tests.bench.setting import Setting
    from tests.bench.system import System


def memory(setting: Setting) -> list[Row]:
    """Proportional set size, so that what processes share is charged once."""
    with running_system(setting.new_folder("memory"), setting.cores, **NO_BOUND) as system:
        warm_up(setting, system)
        make_warm(setting, system)
        setting.say("many templates")
        part = setting.different.sample(2000, seed=13)
        system.take_in(json_bodies(part, REQUEST_LINES), len(part))
        held = system.memory()
        setting.say("an idle system")
        idle = _idle(setting, system)
    (worker, *children), (master, *views) = held["worker"], held["api"]
    return [
        Row("worker_mib", "a worker process", _mib(children), "MiB"),
        Row("worker_parent_mib", "the worker's parent", _mib([worker]), "MiB"),
        Row("api_mib", "an API process", _mib(views), "MiB"),
        Row("api_master_mib", "the API's master", _mib([master]), "MiB"),
        Row("redis_mib", "Redis", _mib(held["redis"]), "MiB"),
        Row("all_mib", "all of them", [sum(sum(_mib(processes)) for processes in held.values())], "MiB"),
        idle,
    ]


def _mib(processes: list[Memory]) -> list[float]:
    return [process.pss_mib for process in processes]


def _idle(setting: Setting, system: System) -> Row:
    before, began = system.cpu_seconds(), time.monotonic()
    threading.Event().wait(setting.seconds)
    elapsed, after = time.monotonic() - began, system.cpu_seconds()
    shares = {name: (after[name] - before[name]) / elapsed for name in after}
    note = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    return Row("idle", "an idle system", [100 * sum(shares.values())], "% of a core", note=note)
