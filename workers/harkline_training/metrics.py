"""The numbers a model is judged by, the same for ours and for every baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

_RESAMPLES = 300


class Judged(NamedTuple):
    """One scored template: the mean score over its lines."""

    name: str
    critical: bool
    score: float
    system: str
    category: str
    contrast: str = ""  # the distinction that it was written to teach, if any
    weight: float = 1.0  # lines it stands for
    routine: bool = False  # everyday operation: what most of a stream is


class Summary(NamedTuple):
    """How well scores separate what a person on call wants to hear of from the rest."""

    templates: int
    critical: int
    average_precision: float
    low: float  # 95% interval of it, by resampling templates
    high: float
    f1: float  # at the threshold given
    recall_at_budget: float  # at 5 false alarms per 1,000 lines of this very set
    false_alarms_per_thousand: float  # at the threshold given
    calibration_error: float


def summarise(judged: Sequence[Judged], threshold: float, seed: int = 0) -> Summary:
    """Return the summary of one set; where it holds only one kind of line, what cannot be told is nan."""
    critical = np.array([one.critical for one in judged])
    score = np.array([one.score for one in judged])
    weight = np.array([one.weight for one in judged])
    rng = np.random.default_rng(seed)
    draws = [
        _average_precision(critical[pick], score[pick])
        for pick in (rng.integers(0, len(judged), len(judged)) for _ in range(_RESAMPLES))
    ]
    low, high = np.nanquantile(draws, [0.025, 0.975]) if not np.isnan(draws).all() else (np.nan, np.nan)
    alarms = score >= threshold
    quiet_weight = weight[~critical].sum()
    return Summary(
        templates=len(judged),
        critical=int(critical.sum()),
        average_precision=_average_precision(critical, score),
        low=float(low),
        high=float(high),
        f1=f1(critical, alarms) if critical.any() else np.nan,
        recall_at_budget=recall_at_budget(critical, score, weight),
        false_alarms_per_thousand=float(1000 * weight[alarms & ~critical].sum() / quiet_weight)
        if quiet_weight
        else np.nan,
        calibration_error=calibration_error(critical, score),
    )


def f1(critical: NDArray[np.bool_], alarms: NDArray[np.bool_]) -> float:
    """Return F1 of alarms; 0 where nothing is both."""
    right = int((critical & alarms).sum())
    return 2 * right / int(critical.sum() + alarms.sum()) if right else 0.0


def recall_at_budget(
    critical: NDArray[np.bool_], score: NDArray[np.floating], weight: NDArray[np.floating], per_thousand: float = 5.0
) -> float:
    """Return the share of critical templates found at the lowest threshold whose false alarms stay within the budget of all lines."""
    if not critical.any():
        return float("nan")
    budget = weight.sum() * per_thousand / 1000
    order = np.argsort(-score[~critical])
    spent = np.cumsum(weight[~critical][order])
    affordable = int((spent <= budget).sum())
    bar = score[~critical][order][affordable] if affordable < order.size else -np.inf
    return float((score[critical] > bar).mean())


def calibration_error(critical: NDArray[np.bool_], score: NDArray[np.floating], bins: int = 10) -> float:
    """Return the expected calibration error: the mean distance of score and truth over equal slices of the score."""
    place = np.minimum((score * bins).astype(int), bins - 1)
    gaps = [
        abs(score[place == index].mean() - critical[place == index].mean()) * (place == index).mean()
        for index in range(bins)
        if (place == index).any()
    ]
    return float(sum(gaps))


def _average_precision(critical: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    if critical.all() or not critical.any():
        return float("nan")
    return float(average_precision_score(critical, score))
