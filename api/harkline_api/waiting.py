"""Wait for the verdicts of a batch, for the few requests that ask for it: one listener per process, and a slow poll in case it misses one.

Free of races: whoever waits registers first and looks second, and a commit stores the verdicts before it publishes their name.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import redis

from harkline.errors import ContractError, LedgerUnavailable
from harkline.ledger import verdicts_key
from harkline.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harkline.contract import Verdict
    from harkline.ledger import Ledger
    from harkline.settings import Settings
    from harkline_api.metrics import Metrics
    from harkline_api.publisher import Receipt

log = get_logger(__name__)

POLL_SECONDS = 0.25
RECONNECT_SECONDS = 0.5
LISTEN_SECONDS = 0.5


class Waiting:
    """The requests of this process that wait for verdicts: at most so many, each at most so long."""

    def __init__(self, ledger: Ledger, settings: Settings, metrics: Metrics) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._max_seconds = settings.wait_max_seconds
        # Waiting requests must leave threads for those that do not wait.
        self._places = threading.BoundedSemaphore(max(1, min(settings.wait_max_requests, settings.api_threads // 2)))
        self._allowed = settings.wait_max_requests > 0
        self._ready: dict[str, set[threading.Event]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def place(self) -> Iterator[bool]:
        """Take a place for the time of the block; False where all are taken."""
        if not self._allowed or not self._places.acquire(blocking=False):
            yield False
            return
        try:
            with self._metrics.waiting_requests.track_inprogress():
                yield True
        finally:
            self._places.release()

    def verdicts(self, receipt: Receipt, seconds: float) -> list[Verdict] | None:
        """Return the verdicts of a durable batch, or None where they do not come in time. Never raises: the lines are accepted by now."""
        self._start()
        deadline = time.monotonic() + min(seconds, self._max_seconds)
        ready = threading.Event()
        with self._lock:
            self._ready.setdefault(receipt.batch, set()).add(ready)
        try:
            return self._wait(receipt, ready, deadline)
        except (LedgerUnavailable, ContractError) as error:
            log.warning("verdicts_not_read", batch=receipt.batch, why=str(error))
            return None
        finally:
            with self._lock:
                waiters = self._ready[receipt.batch]
                waiters.discard(ready)
                if not waiters:
                    del self._ready[receipt.batch]

    def close(self) -> None:
        """Let everybody go without verdicts and end the listener."""
        self._closing.set()
        self._wake(None)
        if self._thread is not None:
            self._thread.join(2 * LISTEN_SECONDS)

    def _wait(self, receipt: Receipt, ready: threading.Event, deadline: float) -> list[Verdict] | None:
        while True:
            verdicts = self._ledger.verdicts(receipt.batch)
            if verdicts is not None:
                return verdicts
            # A repeated request finds the batch of its first time, whose verdicts nobody may have asked for.
            if receipt.seen and self._ledger.batch_state(receipt.batch) == "counted":
                return self._ledger.verdicts(receipt.batch)
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self._closing.is_set():
                return None
            ready.wait(min(remaining, POLL_SECONDS))
            ready.clear()

    def _wake(self, batch: str | None) -> None:
        with self._lock:
            for events in [self._ready.get(batch, set())] if batch is not None else self._ready.values():
                for event in events:
                    event.set()

    def _start(self) -> None:
        with self._lock:
            if (self._thread is None or not self._thread.is_alive()) and not self._closing.is_set():
                self._thread = threading.Thread(target=self._listen, name="verdict-listener", daemon=True)
                self._thread.start()

    def _listen(self) -> None:
        prefix = verdicts_key("")
        while not self._closing.is_set():
            try:
                # A pattern, as the names of batches are known only once they may have been counted already.
                with self._ledger.redis.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
                    channel.psubscribe(prefix + "*")
                    while not self._closing.is_set():
                        message = channel.get_message(timeout=LISTEN_SECONDS)
                        if message:
                            self._wake(message["channel"].decode().removeprefix(prefix))
            except redis.RedisError as error:
                log.debug("verdict_listener_lost", why=str(error))
                self._closing.wait(RECONNECT_SECONDS)
