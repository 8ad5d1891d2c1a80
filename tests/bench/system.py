"""Our system as an operator starts it: `harkline redis`, `api` and `worker`, on ports and a folder of their own, seen from outside.

Flower, Prometheus and Alertmanager are not started: the demo's side has none either, and their cost does not depend on the lines.
"""

from __future__ import annotations

import signal
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast

import redis

from tests.bench import client
from tests.bench.processes import Memory, Program, start
from tests.support.polling import wait_for
from tests.system.whole import HARKLINE, clean_environment, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

JSON, PLAIN = "application/json", "text/plain"
# Named in docs/architecture.md.
LEDGER, BACKLOG, TOTALS = "{harkline}:ledger", "{harkline}:backlog", "{harkline}:totals"

_READY_SECONDS = 90.0
_STANDSTILL_SECONDS = 300.0
_LOOK_SECONDS = 0.05


class Pass(NamedTuple):
    """What it took to take in and count some lines."""

    lines: int
    seconds: float  # wall, from the first request to the last count
    sending_seconds: float  # wall, until the last answer
    cpu_seconds: dict[str, float]  # by program
    statuses: dict[int, int]

    @property
    def cpu(self) -> float:
        """CPU seconds over every process."""
        return sum(self.cpu_seconds.values())


@dataclass
class System:
    """One running system."""

    folder: Path
    api_port: int
    metrics_port: int
    redis: redis.Redis
    redis_url: str
    environment: dict[str, str]
    programs: dict[str, Program] = field(default_factory=dict)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time of each program so far."""
        return {name: program.cpu_seconds() for name, program in self.programs.items()}

    def counted_lines(self) -> int:
        """Lines counted so far."""
        totals = cast("list[bytes | None]", self.redis.hmget(TOTALS, ["critical", "not_critical"]))
        return sum(int(total or 0) for total in totals)

    def critical_lines(self) -> int:
        """Lines counted as critical so far."""
        return int(cast("bytes | None", self.redis.hget(TOTALS, "critical")) or 0)

    def backlog_lines(self) -> int:
        """Lines accepted and not yet counted."""
        return int(cast("bytes | None", self.redis.get(BACKLOG)) or 0)

    def memory(self) -> dict[str, list[Memory]]:
        """What each process holds, by program."""
        return {name: program.memory() for name, program in self.programs.items()}

    def redis_bytes(self) -> int:
        """Memory that Redis uses."""
        return int(cast("dict[str, int]", self.redis.info("memory"))["used_memory"])

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry `labels`, from the worker's endpoint; 0 where there are none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.partition("{")[0].partition(" ")[0] == name and all(part in line for part in wanted)
        )

    def hold_worker(self) -> None:
        """Let nothing drain until `release_worker`."""
        self.programs["worker"].signal(signal.SIGSTOP)

    def release_worker(self) -> None:
        """Let it drain again."""
        self.programs["worker"].signal(signal.SIGCONT)

    def wait_until_counted(self, lines: int) -> None:
        """Wait until so many lines have been counted in all, for as long as it goes on; raises where it does not."""
        self._wait(lambda: self.counted_lines() >= lines)

    def wait_until_drained(self) -> None:
        """Wait until no accepted line is left uncounted, for as long as it goes on."""
        self._wait(lambda: self.backlog_lines() == 0)

    def _wait(self, is_done: Callable[[], bool]) -> None:
        pause, last, deadline = threading.Event(), -1, 0.0
        while not is_done():
            if (counted := self.counted_lines()) != last:
                last, deadline = counted, time.monotonic() + _STANDSTILL_SECONDS
            if time.monotonic() > deadline:
                said = self.programs["worker"].said(1)
                raise RuntimeError(
                    f"{self.backlog_lines()} lines wait, and none was counted for {_STANDSTILL_SECONDS:g} s: {said}"
                )
            pause.wait(_LOOK_SECONDS)

    def take_in(self, bodies: Sequence[bytes], lines: int, content_type: str = JSON, connections: int = 4) -> Pass:
        """Send bodies as fast as they are answered and wait until every accepted line is counted; charges what it took."""
        requests = [client.post("/logs", body, content_type) for body in bodies]
        before, counted, began = self.cpu_seconds(), self.counted_lines(), time.monotonic()
        sent = client.as_fast_as_answered(self.api_port, requests, connections)
        answered = time.monotonic()
        statuses = count_statuses(sent)
        if statuses != {202: len(bodies)}:
            raise AssertionError(
                f"{len(bodies)} requests were answered {statuses}: the programs' logs are in {self.folder}"
            )
        self.wait_until_counted(counted + lines)
        ended = time.monotonic()
        after = self.cpu_seconds()
        spent = {name: after[name] - before[name] for name in after}
        return Pass(lines, ended - began, answered - began, spent, statuses)


def count_statuses(sent: Sequence[client.Sent]) -> dict[int, int]:
    """Return how often each status came."""
    statuses: dict[int, int] = {}
    for answer in sent:
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
    return dict(sorted(statuses.items()))


@contextmanager
def running_system(folder: Path, worker_processes: int, **settings: str) -> Iterator[System]:
    """Run a system until the block ends; it is entered once a line can be sent and every worker process has its model."""
    folder.mkdir(parents=True)
    api, metrics, store = free_ports(3)
    url = f"redis://127.0.0.1:{store}/0"
    environment = clean_environment() | {
        "HARKLINE_DATA_DIR": str(folder / "data"),
        "HARKLINE_REDIS_URL": url,
        "HARKLINE_API_PORT": str(api),
        "HARKLINE_METRICS_PORT": str(metrics),
        "HARKLINE_WORKER_PROCESSES": str(worker_processes),
        "HARKLINE_LOG_LEVEL": "warning",
    }
    environment |= settings
    system = System(folder, api, metrics, redis.Redis(port=store, socket_timeout=30), url, environment)
    try:
        for name in ("redis", "worker", "api"):
            log = folder / f"{name}.log"
            system.programs[name] = start(name, [HARKLINE, name], environment, log)
            if name == "redis":
                wait_for(lambda: _alive(system) and system.redis.ping(), _READY_SECONDS, "Redis to answer")
        wait_for(
            lambda: _alive(system) and _is_ready(system, worker_processes), _READY_SECONDS, "the system to be ready"
        )
        yield system
    finally:
        system.redis.close()
        for program in reversed(list(system.programs.values())):
            program.stop()


def _alive(system: System) -> bool:
    for program in system.programs.values():
        if program.process.poll() is not None:
            raise RuntimeError(f"{program.name} ended with {program.process.returncode}:\n{program.said()}")
    return True


def _is_ready(system: System, worker_processes: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{system.api_port}/readiness", timeout=5) as answer:
        is_open = answer.status == 200
    return is_open and system.metric("harkline_worker_processes_ready") >= worker_processes
