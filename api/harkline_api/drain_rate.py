"""How fast the workers count lines, from totals read now and then: what the backlog bound and Retry-After are derived from."""

from __future__ import annotations

import math

# A change of speed shows by two thirds after this long.
SMOOTHING_SECONDS = 15.0


class DrainRate:
    """Lines per second while there is something to drain. An idle system drains nothing, and that says nothing about its speed."""

    def __init__(self) -> None:
        self.lines_per_second = 0.0
        self._counted_lines = 0
        self._backlog_lines = 0
        self._at_seconds: float | None = None

    def observe(self, counted_lines: int, backlog_lines: int, at_seconds: float) -> None:
        """Take in one reading: lines ever counted, lines waiting, and a monotonic time."""
        if self._at_seconds is not None and at_seconds > self._at_seconds:
            elapsed = at_seconds - self._at_seconds
            rate = max(0, counted_lines - self._counted_lines) / elapsed
            was_busy = self._backlog_lines > 0 and backlog_lines > 0
            if was_busy or rate > self.lines_per_second:
                weight = 1 - math.exp(-elapsed / SMOOTHING_SECONDS)
                self.lines_per_second += weight * (rate - self.lines_per_second)
        self._counted_lines, self._backlog_lines, self._at_seconds = counted_lines, backlog_lines, at_seconds
