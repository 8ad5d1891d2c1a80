"""Whether a request may go on to the ledger, told in microseconds from what a background thread read within the last second.

The exact check is the append script's; this one spares a full or absent Redis the work, and every sender the wait. While Redis is known to be
away, requests are refused at once and a probe looks for its return several times a second.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from harkline.errors import BacklogFull, LedgerUnavailable
from harkline.ledger import LedgerStats
from harkline.logs import get_logger
from harkline_api.drain_rate import DrainRate

if TYPE_CHECKING:
    from harkline.ledger import Ledger
    from harkline.settings import Settings

log = get_logger(__name__)

REFRESH_SECONDS = 1.0
PROBE_SECONDS = 0.2
# Redis refuses writes at its limit, and a rewrite of its file takes memory too.
MEMORY_SHARE = 0.8
RETRY_MAX_SECONDS = 60


class GateState(NamedTuple):
    """What is known of the ledger, and since when."""

    up: bool
    why: str  # it is not up
    stats: LedgerStats
    bound_lines: int
    drain_lines_per_second: float
    memory_full: bool
    read_at: float  # monotonic seconds; 0 before the first reading


class Gate:
    """The backlog bound and the state of Redis, as this process knows them. Thread-safe: one thread replaces an immutable state."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._drain = DrainRate()
        self._state = GateState(
            True, "", LedgerStats(), settings.backlog_floor_lines, 0.0, memory_full=False, read_at=0.0
        )
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self, lines: int = 1) -> None:
        """Raise BacklogFull or LedgerUnavailable where `lines` more lines have no chance. Costs about a microsecond."""
        state = self.require_up()
        if state.stats.backlog_lines + lines > state.bound_lines:
            raise self.full(state.stats.backlog_lines, lines)

    def require_up(self) -> GateState:
        """Return what is known of the ledger; raises LedgerUnavailable while Redis is known to be away."""
        if self._thread is None or not self._thread.is_alive():
            self._start()
        state = self._state
        if not state.up:
            raise LedgerUnavailable(state.why)
        return state

    @property
    def bound_lines(self) -> int:
        """The backlog bound in force."""
        return self._state.bound_lines

    def full(self, backlog_lines: int, lines: int) -> BacklogFull:
        """Return the error that says when there will be room for `lines` lines, at the speed at which the backlog drains."""
        state = self._state
        excess = backlog_lines + lines - state.bound_lines
        if state.memory_full:
            limit = MEMORY_SHARE * state.stats.max_memory_bytes
            excess = math.ceil(backlog_lines * (1 - limit / state.stats.used_memory_bytes))
        rate = state.drain_lines_per_second
        seconds = math.ceil(excess / rate) if rate > 0 else RETRY_MAX_SECONDS
        return BacklogFull(backlog_lines, state.bound_lines, max(1, min(seconds, RETRY_MAX_SECONDS)))

    def fail(self, error: LedgerUnavailable) -> None:
        """Take note that Redis did not answer: later requests are refused at once until the probe gets through."""
        with self._lock:
            if self._state.up:
                log.warning("ledger_lost", why=str(error))
            self._state = self._state._replace(up=False, why=str(error))
        self._hurry.set()

    def refresh(self) -> GateState:
        """Read the ledger now and return what it says; never raises."""
        try:
            stats = self._ledger.stats()
        except LedgerUnavailable as error:
            self.fail(error)
            return self._state
        with self._lock:
            if not self._state.up:
                log.info("ledger_back")
            now = time.monotonic()
            self._drain.observe(stats.lines, stats.backlog_lines, now)
            memory_full = 0 < stats.max_memory_bytes * MEMORY_SHARE < stats.used_memory_bytes
            bound = 0 if memory_full else self._bound()
            self._state = GateState(True, "", stats, bound, self._drain.lines_per_second, memory_full, now)
            return self._state

    def current(self) -> GateState:
        """Return what is known, read anew where it is older than a few seconds."""
        state = self._state
        return (
            state
            if state.up and time.monotonic() - state.read_at < 2 * REFRESH_SECONDS and state.read_at
            else self.refresh()
        )

    def close(self) -> None:
        """End the background thread."""
        self._closing.set()
        self._hurry.set()
        if self._thread is not None:
            self._thread.join(self._settings.redis_timeout_seconds + 1)

    def _bound(self) -> int:
        wanted = int(self._drain.lines_per_second * self._settings.lag_target_seconds)
        return min(max(self._settings.backlog_floor_lines, wanted), self._settings.backlog_max_lines)

    def _start(self) -> None:
        # On the first request, not before: a thread does not survive gunicorn's fork.
        with self._lock:
            if (self._thread is None or not self._thread.is_alive()) and not self._closing.is_set():
                self._thread = threading.Thread(target=self._watch, name="gate", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        while not self._closing.is_set():
            state = self.refresh()
            self._hurry.clear()
            self._hurry.wait(REFRESH_SECONDS if state.up else PROBE_SECONDS)
