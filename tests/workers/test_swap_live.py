"""A real worker on a real Redis gets other models while lines pour in: the ledger stays exact, and the verdicts say which model gave them."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from celery import Celery
from pydantic import SecretStr

from harkline import contract
from harkline.broker import celery_options, ring
from harkline.contract import LogBatch, LogLine
from harkline.ledger import Appending, Ledger, connect
from harkline.settings import Settings
from harkline_workers import store
from tests.support.polling import wait_for
from tests.support.redis_server import RedisServer
from tests.support.servers import free_port, running
from tests.workers.models import make_model, write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

PROCESSES = 2
BATCH_LINES = 40
WORDS = (
    "disk",
    "node",
    "volume",
    "lease",
    "user",
    "retry",
    "queue",
    "shard",
    "pod",
    "socket",
    "route",
    "index",
    "lock",
)


class Senders:
    """Sends batches of lines that no cache knows, one after another, until it is told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._ledger = Ledger(connect(settings), settings)
        self._app = Celery(set_as_current=False)
        self._app.conf.update(celery_options(settings))
        self._stop = threading.Event()
        self._chance = random.Random(3)
        self.batches: list[str] = []
        self._thread = threading.Thread(target=self._send)

    def send_one(self) -> str:
        """Send one batch; returns its id."""
        lines = [LogLine(f"{' '.join(self._chance.choices(WORDS, k=6))} failed") for _ in range(BATCH_LINES)]
        request = Appending(contract.encode_batch(LogBatch(lines, True)), BATCH_LINES)
        [appended], must_ring = self._ledger.append([request], 10**6)
        if must_ring:
            ring(self._app)
        self.batches.append(appended.batch)
        return appended.batch

    def _send(self) -> None:
        while not self._stop.is_set():
            if self._ledger.stats().backlog_lines < 20 * BATCH_LINES:
                self.send_one()
            self._stop.wait(0.02)

    @contextmanager
    def sending(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()


@contextmanager
def worker(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `harkline worker` as a user would, and wait until its processes report."""
    command = ["env", *(f"{name}={value}" for name, value in settings.environment().items())]
    command += [str(Path(sys.executable).parent / "harkline"), "worker"]
    ledger = Ledger(connect(settings), settings)
    with running(command, log) as process:
        wait_for(lambda: len(ledger.workers()) == PROCESSES, 60, "every process to report")
        yield process
        assert process.poll() is None, log.read_text()


@pytest.fixture
def settings(empty_redis: RedisServer, tmp_path: Path) -> Settings:
    """Settings of a worker of two processes."""
    return Settings(
        redis_url=SecretStr(empty_redis.url),
        data_dir=tmp_path / "data",
        metrics_port=free_port(),
        worker_processes=PROCESSES,
        log_format="json",
    )


def metric(settings: Settings, name: str) -> dict[str, float]:
    """Return a metric's samples by their labels, as scraped from the worker."""
    with urllib.request.urlopen(f"http://127.0.0.1:{settings.metrics_port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    samples = [line.rsplit(" ", 1) for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
    return {labels.removeprefix(name): float(value) for labels, value in samples}


def versions(settings: Settings) -> set[str]:
    """Return the model versions that the worker's processes report, as readiness shows them."""
    return {state.model for state in Ledger(connect(settings), settings).workers().values()}


def test_swaps_under_load_lose_and_double_nothing(settings: Settings, tmp_path: Path) -> None:
    """Three swaps while lines pour in: every line is counted once, each process follows within seconds, and verdicts carry what judged them."""
    folders = [tmp_path / str(at) for at in range(2)]
    names = [make_model(folder, threshold=0.5 + at / 10) for at, folder in enumerate(folders)]
    store.install(settings, folders[0])
    ledger = Ledger(connect(settings), settings)
    ledger.open()
    senders = Senders(settings)

    def swap(name: str) -> None:
        """Wait until all processes follow; from then on every batch has verdicts of that model."""
        wait_for(lambda: versions(settings) == {name}, 120, "both processes to follow")
        start = len(senders.batches)
        wait_for(lambda: len(senders.batches) > start + 5, 120, "more lines")
        judged = [
            wait_for(lambda batch=batch: ledger.verdicts(batch), 120, "verdicts")  # type: ignore[misc]
            for batch in senders.batches[start : start + 5]
        ]
        assert {verdict.model for batch in judged for verdict in batch} == {name}

    with worker(settings, tmp_path / "log"):
        assert versions(settings) == {names[0]}
        with senders.sending():
            wait_for(lambda: ledger.stats().lines > 200, 120, "the load to flow")
            store.install(settings, folders[1])
            swap(names[1])
            store.use(settings, names[0])
            swap(names[0])
            store.use(settings, names[1])
            swap(names[1])
        wait_for(lambda: ledger.stats().backlog_lines == 0, 120, "the backlog to drain")
        assert ledger.stats().lines == len(senders.batches) * BATCH_LINES
        assert ledger.stats().degraded == 0
        wait_for(
            lambda: sum(metric(settings, "log_severity_total").values()) == ledger.stats().lines, 20, "the counters"
        )
        verdicts = [ledger.verdicts(batch) or [] for batch in senders.batches]
        assert {len(batch) for batch in verdicts} == {BATCH_LINES}
        assert {verdict.model for batch in verdicts for verdict in batch} == set(names)
        loaded = metric(settings, "harkline_model_loaded")
        assert {labels: value for labels, value in loaded.items() if names[1] in labels}.popitem()[1] == 1
        assert {labels: value for labels, value in loaded.items() if names[0] in labels}.popitem()[1] == 0
        assert sum(metric(settings, "harkline_model_swap_failures_total").values()) == 0


def test_an_idle_worker_without_a_model_takes_one_up_and_keeps_it(settings: Settings, tmp_path: Path) -> None:
    """It starts degraded, notices a model with no line coming in, and stays with it when it is damaged afterwards, saying so."""
    mine = tmp_path / "mine"
    settings = settings.model_copy(update={"model_dir": mine})
    ledger = Ledger(connect(settings), settings)
    ledger.open()
    senders = Senders(settings)

    def judged() -> set[tuple[str, bool]]:
        batch = senders.send_one()
        found = wait_for(lambda: ledger.verdicts(batch), 60, "verdicts")
        return {(verdict.model, verdict.degraded) for verdict in found}

    with worker(settings, tmp_path / "log"):
        assert judged() == {("", True)}
        assert all(state.degraded and "mine" in state.why for state in ledger.workers().values())
        name = make_model(mine, threshold=0.55)
        wait_for(lambda: versions(settings) == {name}, 120, "both processes to take the model up")
        assert not any(state.degraded for state in ledger.workers().values())
        assert judged() == {(name, False)}
        write_manifest(mine, threshold=2)

        def told() -> bool:
            return all("another model cannot be loaded" in state.why for state in ledger.workers().values())

        wait_for(told, 120, "both processes to say that the new model is wrong")
        assert metric(settings, "harkline_model_outdated") == {"": 1}
        assert metric(settings, "harkline_model_swap_failures_total") == {"": PROCESSES}
        assert metric(settings, "harkline_model_degraded") == {"": 0}
        assert judged() == {(name, False)}
        assert ledger.stats().lines == len(senders.batches) * BATCH_LINES
    said = (tmp_path / "log").read_text().count('"model_not_replaced"')
    assert said == PROCESSES
