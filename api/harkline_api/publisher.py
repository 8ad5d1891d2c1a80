"""Group commit: many small requests become one write to the ledger, and each is answered only once that write is durable.

A writer thread gathers the small requests that wait and appends them in one call; a large request is written alone, from its own thread.
Loses nothing: whoever is told a batch id has its lines on disk. A sender that is told LedgerUnavailable cannot know (the write may still have
happened, a hung Redis carries it out when it wakes), which is what Idempotency-Keys are for.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from harkline.contract import encode_batch
from harkline.errors import KeyConflict, LedgerError, LedgerUnavailable
from harkline.ledger import Appending
from harkline.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harkline.contract import LogBatch
    from harkline.ledger import Appended, Ledger
    from harkline.settings import Settings
    from harkline_api.gate import Gate
    from harkline_api.metrics import Metrics

log = get_logger(__name__)

# An entry's fields pass through Lua's unpack(), whose stack holds about 8,000 values, two a request.
GROUP_REQUESTS_MAX = 1000
# Past Redis' own timeout a request waits no longer, whatever the writer is doing (resolving a name, say).
PATIENCE_SECONDS = 0.7


class Receipt(NamedTuple):
    """Proof that a batch is durable. `seen`: its Idempotency-Key came before, and this is the answer of that time."""

    batch: str
    seen: bool


class _Pending:
    """A request between its arrival and the writer's answer."""

    __slots__ = ("appending", "done", "given_up", "outcome")

    def __init__(self, appending: Appending) -> None:
        self.appending = appending
        self.done = threading.Event()
        self.outcome: Receipt | LedgerError | None = None
        self.given_up = False

    def settle(self, outcome: Receipt | LedgerError) -> None:
        self.outcome = outcome
        self.done.set()


class Publisher:
    """Writes batches to the ledger and rings for them. Its threads start with the first request, so that it survives a fork before that."""

    def __init__(
        self, ledger: Ledger, gate: Gate, ring: Callable[[], None], settings: Settings, metrics: Metrics
    ) -> None:
        self._ledger = ledger
        self._gate = gate
        self._ring = ring
        self._metrics = metrics
        self._coalesce_seconds = settings.coalesce_ms / 1000
        self._coalesce_lines = settings.coalesce_lines
        self._patience_seconds = settings.redis_timeout_seconds + PATIENCE_SECONDS
        self._queue: deque[_Pending] = deque()
        self._queued_lines = 0
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._bell = threading.Event()
        self._closing = False
        self._threads: list[threading.Thread] = []

    def submit(self, batch: LogBatch, idempotency_key: str = "", digest: str = "") -> Receipt:
        """Return once the batch is durable. `digest` is of the body that came with the key.

        Raises BacklogFull, KeyConflict, or LedgerUnavailable; the last within the Redis timeout, also where others wait ahead.
        """
        lines = len(batch.lines)
        self._gate.check(lines)
        pending = _Pending(Appending(encode_batch(batch), lines, idempotency_key, digest))
        self._start()
        if lines >= self._coalesce_lines or batch.explain:
            # Nobody shares an entry with a batch that is committed only once it is explained.
            self._write([pending])
        else:
            self._enqueue(pending)
            if not pending.done.wait(self._patience_seconds):
                pending.given_up = True
                raise LedgerUnavailable("the ledger did not answer in time")
        outcome = pending.outcome
        if isinstance(outcome, Receipt):
            return outcome
        if isinstance(outcome, LedgerUnavailable):
            raise LedgerUnavailable(str(outcome)) from outcome  # a new one: the same error may answer many threads
        raise outcome or LedgerUnavailable("the writer gave no answer")

    def close(self) -> None:
        """Write what waits, refuse what comes, end the threads."""
        with self._arrived:
            self._closing = True
            self._arrived.notify_all()
        self._bell.set()
        for thread in self._threads:
            thread.join(self._patience_seconds)

    def _enqueue(self, pending: _Pending) -> None:
        with self._arrived:
            if self._closing:
                raise LedgerUnavailable("this process is shutting down")
            was_empty = not self._queue
            self._queue.append(pending)
            self._queued_lines += pending.appending.lines
            if was_empty or self._queued_lines >= self._coalesce_lines:
                self._arrived.notify()

    def _write_groups(self) -> None:
        while (group := self._next_group()) is not None:
            error = self._write(group) if group else None
            if error is not None:
                self._fail_queue(error)

    def _next_group(self) -> list[_Pending] | None:
        """Wait for requests, then a little longer for company. Returns None at the end."""
        with self._arrived:
            while not self._queue and not self._closing:
                self._arrived.wait()
            if not self._queue:
                return None
            deadline = time.monotonic() + self._coalesce_seconds
            while self._queued_lines < self._coalesce_lines and not self._closing:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._arrived.wait(remaining)
            group: list[_Pending] = []
            lines = 0
            while self._queue and lines < self._coalesce_lines and len(group) < GROUP_REQUESTS_MAX:
                pending = self._queue.popleft()
                self._queued_lines -= pending.appending.lines
                if not pending.given_up:
                    group.append(pending)
                    lines += pending.appending.lines
            return group

    def _write(self, group: Sequence[_Pending]) -> LedgerUnavailable | None:
        """Append and settle every request of the group; returns the error that met them all, if one did."""
        began = time.perf_counter()
        try:
            answers, ring = self._ledger.append([pending.appending for pending in group], self._gate.bound_lines)
        except LedgerUnavailable as error:
            self._gate.fail(error)
            for pending in group:
                pending.settle(error)
            return error
        finally:
            self._metrics.append_seconds.observe(time.perf_counter() - began)
        self._metrics.coalesced_requests.observe(len(group))
        for pending, answer in zip(group, answers, strict=True):
            pending.settle(self._outcome(pending.appending, answer))
        if ring:
            self._bell.set()
        return None

    def _outcome(self, appending: Appending, answer: Appended) -> Receipt | LedgerError:
        match answer.status:
            case "full":
                return self._gate.full(int(answer.batch), appending.lines)
            case "conflict":
                return KeyConflict("this Idempotency-Key came before with another body: use a new key for new lines")
            case status:
                return Receipt(answer.batch, status == "seen")

    def _fail_queue(self, error: LedgerUnavailable) -> None:
        """Answer all who wait behind a failed write: each would otherwise meet the same timeout, one after another."""
        with self._lock:
            waiting = list(self._queue)
            self._queue.clear()
            self._queued_lines = 0
        for pending in waiting:
            pending.settle(error)

    def _ring_bells(self) -> None:
        # Ringing takes more than half a millisecond: not on the way of an answer, nor of the next group.
        while True:
            self._bell.wait()
            self._bell.clear()
            if self._closing:
                return
            self._ring()

    def _start(self) -> None:
        if self._threads and all(thread.is_alive() for thread in self._threads):
            return
        with self._lock:
            if self._closing:
                raise LedgerUnavailable("this process is shutting down")
            if not all(thread.is_alive() for thread in self._threads) or not self._threads:
                self._threads = [
                    threading.Thread(target=target, name=name, daemon=True)
                    for name, target in (("ledger-writer", self._write_groups), ("doorbell", self._ring_bells))
                ]
                for thread in self._threads:
                    thread.start()
