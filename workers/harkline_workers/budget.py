"""A threshold that is a budget of alarms: how many lines may ring, and the lowest threshold that keeps to it."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harkline.errors import HarklineError

# Thresholds that calibration may set. Few scores leave this range, so outside it a threshold means all or nothing.
LOWEST, HIGHEST = 0.05, 0.95
# A budget is told from twice or half of it only where it is some ten lines.
RESOLVED_LINES = 10

_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(\d+)|(\d+(?:\.\d+)?)\s*%|(0?\.\d+)")


class BadBudget(HarklineError):
    """What was given as a budget is none."""


class Choice(NamedTuple):
    """A threshold, and what it makes of the lines that it was chosen on."""

    threshold: float
    ringing: int  # lines at or above it
    allowed: int  # lines that the budget lets ring
    bound: float | None  # LOWEST or HIGHEST where the range, not the budget, decided
    first_silent: float | None  # the highest score that stays below; None where nothing does

    @property
    def is_possible(self) -> bool:
        """Whether the budget is kept."""
        return self.ringing <= self.allowed


def parse_budget(text: str) -> Fraction:
    """Read `5/1000`, `0.5%` or `0.005` as the share of lines that may ring. Raises BadBudget for anything else, 0 and all included."""
    found = _SHARE.fullmatch(text.strip())
    if found is None or found[2] == "0":
        raise BadBudget(f"{text!r} is no budget: write 5/1000, 0.5% or 0.005")
    lines, of, percent, share = found.groups()
    budget = Fraction(lines) / int(of) if of else Fraction(percent) / 100 if percent else Fraction(share)
    if not 0 < budget < 1:
        raise BadBudget(
            f"a budget of {text} would let {'no' if budget == 0 else 'every'} line ring: write 5/1000 or so"
        )
    return budget


def lines_needed(budget: Fraction) -> int:
    """Return the lines that it takes to resolve a budget: 2,000 for 5/1000."""
    return math.ceil(RESOLVED_LINES / budget)


def choose_threshold(scores: NDArray[np.floating], lines: NDArray[np.integer], allowed: int) -> Choice:
    """Return the lowest threshold, within LOWEST .. HIGHEST, at which at most `allowed` lines ring.

    `scores` (n,) are those of distinct inputs, `lines` (n,) how many lines each stands for. Inputs of one score ring together or not at all.
    """
    steps, place = np.unique(scores, return_inverse=True)
    per_step = np.bincount(place, weights=lines, minlength=steps.size)
    affordable = int((np.cumsum(per_step[::-1]) <= allowed).sum())
    first_unaffordable = steps.size - affordable - 1
    bound = None
    threshold = LOWEST
    if first_unaffordable >= 0:
        above = float(steps[first_unaffordable + 1]) if affordable else 1.0
        threshold = _just_above(float(steps[first_unaffordable]), above)
    if threshold <= LOWEST:
        threshold = bound = LOWEST
    elif threshold > HIGHEST:
        threshold = bound = HIGHEST
    silent = steps[steps < threshold]
    return Choice(
        threshold=threshold,
        ringing=int(lines[scores >= threshold].sum()),
        allowed=allowed,
        bound=bound,
        first_silent=float(silent[-1]) if silent.size else None,
    )


def _just_above(score: float, above: float) -> float:
    """Return a number of few digits in (score, above]: it decides as the next number after `score` would, and people can read it."""
    for digits in range(4, 16):
        scale = 10**digits
        candidate = (math.floor(score * scale) + 1) / scale
        if score < candidate <= above:
            return candidate
    return math.nextafter(score, 1.0)
