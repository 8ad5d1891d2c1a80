"""What happens when in a worker's life, and in which process: the parent sweeps and serves metrics, the children load the model and classify.

With prefork the parent never loads the model and never counts: a fork must not inherit a runtime's threads, and CUDA cannot be used after one.
"""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import shutil
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals
from prometheus_client.multiprocess import mark_process_dead

from harkline.broker import ring
from harkline.errors import LedgerUnavailable
from harkline.exposition import LedgerCollector
from harkline.ledger import Ledger, connect
from harkline.logs import configure_logs, get_logger
from harkline_workers.cache import SharedCache
from harkline_workers.checkpoint import CheckpointRefused
from harkline_workers.classify import Classifier
from harkline_workers.drain import Drain
from harkline_workers.exposition import Exposition
from harkline_workers.heartbeat import Heartbeat
from harkline_workers.isolation import Isolation
from harkline_workers.metrics import WorkerMetrics
from harkline_workers.swap import ModelSwap

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from harkline.settings import Settings
    from harkline_workers.source import ModelSource

log = get_logger(__name__)

SWEEP_SECONDS = 1.0
FORGET_EVERY_SWEEPS = 300
# Commits and claims are short, but a Redis that rewrites its file may take a moment; a worker can wait longer than a sender.
WORKER_REDIS_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Lifecycle:
    """Builds, in each process of a worker, what that process needs, and takes it down again."""

    def __init__(self, app: Celery, settings: Settings, multiproc_dir: Path, source: ModelSource) -> None:
        self._app = app
        self._settings = settings
        self._multiproc_dir = multiproc_dir
        self._source = source
        self._exposition: Exposition | None = None
        self._drain: Drain | None = None
        self._parent = os.getpid()
        self._sweeps = 0

    def connect_signals(self) -> None:
        """Hook into Celery's signals; Celery calls the receivers, in the process and at the moment each one names."""
        signals.celeryd_init.connect(self._before_start, weak=False)
        signals.worker_process_init.connect(self._in_child, weak=False)
        signals.worker_shutdown.connect(self._at_shutdown, weak=False)
        self._app.steps["worker"].add(_sweep_step(self))

    def drain(self) -> Drain:
        """Return this process' drain, building it (and loading the model) on first need."""
        if self._drain is None:
            self._drain = self._build()
        return self._drain

    def _before_start(self, **_: Any) -> None:
        """In the parent, before the pool exists: refuse a model that could never serve, empty the metrics folder and serve metrics."""
        configure_logs(self._settings, "worker")
        for chatty in ("celery.worker.strategy", "celery.app.trace"):  # two lines per doorbell; Flower shows tasks
            logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
        log.info("settings", **self._settings.shown())
        try:
            self._source.prepare()
        except CheckpointRefused as error:
            log.error("model_refused", why=str(error))
            raise SystemExit(1) from error
        self._sweeper = Ledger(connect(self._settings), self._settings)
        # Its own client: a scrape must not wait behind a sweep.
        collector = LedgerCollector(Ledger(connect(self._settings), self._settings))
        host, port = self._settings.metrics_host, self._settings.metrics_port
        try:
            self._exposition = Exposition(host, port, self._multiproc_dir, [collector])
            # Only after the port is ours: until then the folder may be another worker's.
            shutil.rmtree(self._multiproc_dir, ignore_errors=True)
            self._multiproc_dir.mkdir(parents=True)
        except OSError as error:
            log.error("metrics_not_served", host=host, port=port, why=str(error), cure="set HARKLINE_METRICS_PORT")
            # Celery goes on after an Exception of a signal's receiver; a worker without metrics and sweep must not.
            raise SystemExit(1) from error
        self._exposition.start()

    def sweep(self) -> None:
        """In the parent, every second: ring where work waits and no bell is up. Blocks at most for Redis' timeout."""
        self._forget_dead_children()
        self._sweeps += 1
        try:
            if self._sweeps % FORGET_EVERY_SWEEPS == 0:
                self._sweeper.forget_workers()
            if self._sweeper.sweep():
                ring(self._app)
        except LedgerUnavailable as error:
            log.warning("sweep_failed", error=str(error))

    def _forget_dead_children(self) -> None:
        """Take the gauges of killed children out of the sum; their counters stay."""
        for file in self._multiproc_dir.glob("gauge_live*_*.db"):
            process = int(file.stem.rsplit("_", 1)[1])
            if not Path(f"/proc/{process}").exists():
                mark_process_dead(process, str(self._multiproc_dir))  # type: ignore[no-untyped-call]

    def _in_child(self, **_: Any) -> None:
        """In each child (in the only process of a solo pool): warm the model, so that the first line does not wait for it."""
        if os.getpid() != self._parent:
            _die_with_parent()
            if self._exposition is not None:
                self._exposition.forget()
        configure_logs(self._settings, "worker-child")
        self._drain = self._build()

    def _at_shutdown(self, **_: Any) -> None:
        """In the parent, after the last task: stop serving metrics."""
        if self._exposition is not None:
            self._exposition.stop()

    def _build(self) -> Drain:
        settings = self._settings
        client = connect(settings, timeout_seconds=WORKER_REDIS_SECONDS)
        metrics = WorkerMetrics()
        classifier = Classifier(None, "no model is loaded yet", settings.cache_lines, None, metrics)

        def shared_cache(version: str) -> SharedCache:
            return SharedCache(client, version, settings.shared_cache_slots)

        swap = ModelSwap(self._source, classifier, shared_cache, metrics)
        swap.begin()
        ledger = Ledger(client, settings)
        consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"

        def bell() -> None:
            ring(self._app)

        drain = Drain(ledger, classifier, Isolation(client), metrics, settings, consumer, bell, swap.renew)
        try:
            ledger.open()
            drain.know_services(ledger.services())
        except LedgerUnavailable as error:
            log.warning("ledger_unavailable_at_start", error=str(error))
        metrics.processes_ready.set(1)

        def say() -> tuple[str, bool, str]:
            return swap.version, not swap.version, swap.why

        Heartbeat(connect(settings), consumer, say, swap.look, _waker(drain, swap)).start()
        log.info("process_ready", consumer=consumer, model=swap.version, why=swap.why)
        return drain


def _waker(drain: Drain, swap: ModelSwap) -> Callable[[], None]:
    """Return the function with which the heartbeat makes an idle process load another model.

    An idle child waits in a read of its pool's pipe, and only a signal gets its main thread out of it; Python goes on reading afterwards (PEP 475).
    Billiard uses SIGUSR1 and Celery's parent SIGUSR1 and SIGHUP, so this is SIGUSR2.
    """
    main = threading.main_thread()
    if (
        threading.current_thread() is not main
    ):  # an embedded worker, whose main thread is not ours: the next bell loads it
        return lambda: None

    def renew(*_: object) -> None:
        if not drain.is_working:
            swap.renew()

    signal.signal(signal.SIGUSR2, renew)

    def wake() -> None:
        if not drain.is_working and main.ident is not None:
            signal.pthread_kill(main.ident, signal.SIGUSR2)

    return wake


def _sweep_step(lifecycle: Lifecycle) -> type[bootsteps.StartStopStep]:
    class Sweep(bootsteps.StartStopStep):
        """Calls the sweep from the parent's own timer, so that no extra process is needed."""

        requires = ("celery.worker.components:Timer",)

        def __init__(self, parent: Any, **kwargs: Any) -> None:
            super().__init__(parent, **kwargs)
            self._entry: Any = None

        def start(self, parent: Any) -> None:
            self._entry = parent.timer.call_repeatedly(SWEEP_SECONDS, lifecycle.sweep)

        def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
            if self._entry is not None:
                self._entry.cancel()

    return Sweep


def _die_with_parent() -> None:
    """Ask Linux to end this child when its parent is killed: orphans would keep the queue's connections and count into files nobody serves."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):  # not Linux
        return
