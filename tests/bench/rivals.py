"""Parts a and b: the demo's way, with the demo's model and with ours."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.bench import client
from tests.bench.places import DEMO_READY
from tests.bench.processes import start
from tests.bench.results import Row
from tests.bench.system import count_statuses
from tests.support.polling import wait_for
from tests.system.whole import clean_environment, free_ports

if TYPE_CHECKING:
    from tests.bench.setting import Setting

_LOADING_SECONDS = 180.0
# Longer request lines are refused by the server; a log line in a path is longer still once it is quoted.
_LONGEST_PATH = 8000


def demo(setting: Setting) -> list[Row]:
    """Part a: DistilBERT's shape, on the line as it comes and on what our normaliser would make of it."""
    return [
        _measured(setting, "demo", "the demo's way", "distilbert", "raw"),
        _measured(
            setting, "demo_short", "the demo's way, on text shortened by our normaliser", "distilbert", "normalised"
        ),
    ]


def demo_with_our_model(setting: Setting) -> list[Row]:
    """Part b: the shipped model in transformers, one line a request."""
    return [_measured(setting, "demo_ours", "the demo's way with our model", "ours", "normalised")]


def _measured(setting: Setting, key: str, what: str, shape: str, text: str) -> Row:
    folder = setting.new_folder(key)
    folder.mkdir(parents=True)
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", str(setting.cores)]
    command += ["--worker-class", "sync", "--timeout", "300", "--limit-request-line", "8190", "--no-control-socket"]
    command += [f"tests.bench.demo:application('{shape}', '{text}')"]
    environment = clean_environment() | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    paths = (f"/log/{quote(line, safe='')}" for line in setting.different.lines)
    requests = [client.get(path) for path in paths if len(path) < _LONGEST_PATH]
    program = start("demo", command, environment, folder / "demo.log")
    try:
        setting.say(f"{what}: loading")
        wait_for(
            lambda: program.log.read_text().count(DEMO_READY) >= setting.cores,
            _LOADING_SECONDS,
            "the demo to load its model",
        )
        client.as_fast_as_answered(port, requests[: 8 * setting.cores], setting.cores)
        per_cpu, per_wall = [], []
        for repeat in range(setting.repeats):
            setting.say(f"{what}: {repeat + 1} of {setting.repeats}")
            cpu, began = program.cpu_seconds(), time.monotonic()
            share = requests[repeat :: setting.repeats]
            sent = client.as_fast_as_answered(port, share, setting.cores, setting.seconds)
            elapsed, spent = time.monotonic() - began, program.cpu_seconds() - cpu
            statuses = count_statuses(sent)
            if set(statuses) != {200}:
                raise AssertionError(f"the demo answered {statuses}:\n{program.said()}")
            per_cpu.append(len(sent) / spent)
            per_wall.append(len(sent) / elapsed)
        largest = max(memory.pss_mib for memory in program.memory())
    finally:
        program.stop()
    return Row(key, what, per_cpu, "lines/CPU-s", per_wall, f"{largest:.0f} MiB a process (PSS)")
