"""The numbers a model is judged by, the same for ours and for every baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harkline_workers.normalise import LEVELS

_NAN = float("nan")
_UNTOLD = (_NAN, _NAN)
_RESAMPLES = 300
# Templates of one system resemble each other, so a set of this many systems or more is resampled by system, a smaller one by template.
_SYSTEMS_TO_RESAMPLE = 20
_BANDS = ((0, 4), (5, 7), (8, 10), (11, 14), (15, 19))  # words, both ends included


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
    level: str = ""  # the truth, one of LEVELS; "" where nobody knows it
    reason: str = ""
    words: int = 0  # of the line as the model reads it
    chances: tuple[float, ...] = ()  # of each of LEVELS; () where the scorer gives none

    @property
    def length(self) -> str:
        """The band of its number of words. Real lines are short, and a corpus may give its answers away by length."""
        for low, high in _BANDS:
            if self.words <= high:
                return f"{low}-{high} words"
        return f"{_BANDS[-1][1] + 1} or more words"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How well scores separate what a person on call wants to hear of from the rest. nan is what a set cannot tell."""

    templates: int
    critical: int
    average_precision: float
    average_precision_low: float  # 95% interval, by resampling
    average_precision_high: float
    f1: float  # at the threshold given
    f1_low: float
    f1_high: float
    recall: float  # at the threshold given
    best_f1: float  # over all thresholds: what calibration could still win
    best_threshold: float
    recall_at_budget: float  # at 5 false alarms per 1,000 lines of this very set
    false_alarms_per_thousand: float  # of 1,000 lines that are not critical, at the threshold given
    calibration_error: float
    level_auc: float  # one level against the rest, mean over levels
    ordered_auc: float  # "at least this level" against below, mean over the four cuts


def summarise(judged: Sequence[Judged], threshold: float, seed: int = 0) -> Summary:
    """Return the summary of one set, which must not be empty."""
    critical = np.array([one.critical for one in judged])
    score = np.array([one.score for one in judged])
    weight = np.array([one.weight for one in judged])
    alarms = score >= threshold
    copies = resamples(judged, seed)
    precision = average_precisions(critical, score, np.vstack([np.ones_like(copies[:1]), copies]))
    both = not critical.all() and bool(critical.any())
    f1s = _f1s(critical, alarms, copies)
    best_f1, best_threshold = best_operation(critical, score) if critical.any() else _UNTOLD
    low, high = _interval(precision[1:]) if both else _UNTOLD
    f1_low, f1_high = _interval(f1s) if critical.any() else _UNTOLD
    level_auc, ordered_auc = _level_aucs(judged)
    quiet_weight = float(weight[~critical].sum())
    return Summary(
        templates=len(judged),
        critical=int(critical.sum()),
        average_precision=_rounded(precision[0]) if both else _NAN,
        average_precision_low=low,
        average_precision_high=high,
        f1=_rounded(f1(critical, alarms)) if critical.any() else _NAN,
        f1_low=f1_low,
        f1_high=f1_high,
        recall=_rounded(alarms[critical].mean()) if critical.any() else _NAN,
        best_f1=best_f1,
        best_threshold=best_threshold,
        recall_at_budget=_rounded(recall_at_budget(critical, score, weight)) if critical.any() else _NAN,
        false_alarms_per_thousand=_rounded(1000 * weight[alarms & ~critical].sum() / quiet_weight)
        if quiet_weight
        else _NAN,
        calibration_error=_rounded(calibration_error(critical, score)),
        level_auc=level_auc,
        ordered_auc=ordered_auc,
    )


def resamples(judged: Sequence[Judged], seed: int = 0, draws: int = _RESAMPLES) -> NDArray[np.int64]:
    """Return how often each template occurs in each bootstrap draw, (draws, n)."""
    systems, unit = np.unique([one.system for one in judged], return_inverse=True)
    if len(systems) < _SYSTEMS_TO_RESAMPLE:
        unit = np.arange(len(judged))
    units = int(unit.max()) + 1
    picked = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=draws)
    return picked[:, unit]


def average_precisions(
    critical: NDArray[np.bool_], score: NDArray[np.floating], copies: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the average precision of every draw, (draws,); equal scores count as one step. nan where a draw holds nothing critical."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    drawn = copies[:, order]
    found = np.cumsum(drawn * critical[order], axis=1)[:, ends]
    ringing = np.cumsum(drawn, axis=1)[:, ends]
    precision = found / np.maximum(ringing, 1)
    gained = np.diff(found, axis=1, prepend=0)
    total = found[:, -1].astype(np.float64)
    total[total == 0] = np.nan
    means: NDArray[np.float64] = (gained * precision).sum(axis=1) / total
    return means


def f1(critical: NDArray[np.bool_], alarms: NDArray[np.bool_]) -> float:
    """Return F1 of alarms; 0 where nothing is both."""
    right = int((critical & alarms).sum())
    return 2 * right / int(critical.sum() + alarms.sum()) if right else 0.0


def best_operation(critical: NDArray[np.bool_], score: NDArray[np.floating]) -> tuple[float, float]:
    """Return the best F1 over all thresholds, and the highest threshold that reaches it."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    values = 2 * np.cumsum(critical[order])[ends] / (critical.sum() + ends + 1)
    place = int(np.argmax(values))
    return _rounded(values[place]), float(score[order][ends[place]])


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


def _f1s(critical: NDArray[np.bool_], alarms: NDArray[np.bool_], copies: NDArray[np.int64]) -> NDArray[np.float64]:
    truths = copies @ critical.astype(np.int64)
    values: NDArray[np.float64] = (
        2.0 * (copies @ (critical & alarms).astype(np.int64)) / np.maximum(truths + copies @ alarms.astype(np.int64), 1)
    )
    values[truths == 0] = np.nan
    return values


def _level_aucs(judged: Sequence[Judged]) -> tuple[float, float]:
    told = [one for one in judged if one.level and one.chances]
    if not told:
        return _UNTOLD
    truth = np.array([LEVELS.index(one.level) for one in told])
    chances = np.array([one.chances for one in told])
    alone = [_auc(truth == level, chances[:, level]) for level in range(len(LEVELS))]
    ordered = [_auc(truth >= level, chances[:, level:].sum(axis=1)) for level in range(1, len(LEVELS))]
    return _mean(alone), _mean(ordered)


def _auc(truth: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    """Return how often a score of the one kind beats one of the other, a tie counting half; nan where there is only one kind."""
    ones, others = int(truth.sum()), int((~truth).sum())
    if not ones or not others:
        return _NAN
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[place][truth].sum() - ones * (ones + 1) / 2) / (ones * others))


def _mean(values: Sequence[float]) -> float:
    told = [value for value in values if not np.isnan(value)]
    return _rounded(np.mean(told)) if told else _NAN


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    if np.isnan(values).all():
        return _UNTOLD
    low, high = np.nanquantile(values, [0.025, 0.975])
    return _rounded(low), _rounded(high)


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)
