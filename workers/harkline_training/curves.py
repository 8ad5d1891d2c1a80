"""What one number hides: precision against recall, score against truth, and what each threshold would cost."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from harkline_training.metrics import Judged, f1

_CURVE_POINTS = 80
_BINS = 10
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


class Curve(msgspec.Struct, frozen=True):
    """Precision against recall of one scorer on one set, thinned to what an eye can tell apart."""

    scorer: str
    recall: list[float]
    precision: list[float]


class Bin(msgspec.Struct, frozen=True):
    """Templates whose scores lie in one tenth: where score and truth agree, a score is a probability."""

    low: float
    high: float
    templates: int
    mean_score: float
    critical_share: float


class OperatingPoint(msgspec.Struct, frozen=True):
    """What one threshold would mean."""

    threshold: float
    f1: float
    precision: float  # nan where nothing rings
    recall: float
    routine_alarms_per_thousand: float  # of 1,000 templates of everyday operation; nan where the set names none
    false_alarms_per_thousand: float  # of 1,000 lines that are not critical


def precision_recall(scorer: str, judged: Sequence[Judged]) -> Curve:
    """Return the curve of a set that holds something critical."""
    critical = np.array([one.critical for one in judged])
    score = np.array([one.score for one in judged])
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    found = np.cumsum(critical[order])[ends]
    recall, precision = found / critical.sum(), found / (ends + 1)
    kept = np.unique(np.searchsorted(recall, np.linspace(0, 1, _CURVE_POINTS)).clip(max=recall.size - 1))
    return Curve(scorer, recall[kept].round(4).tolist(), precision[kept].round(4).tolist())


def reliability(judged: Sequence[Judged]) -> list[Bin]:
    """Return the tenths of the score that hold a template."""
    critical = np.array([one.critical for one in judged])
    score = np.array([one.score for one in judged])
    place = np.minimum((score * _BINS).astype(int), _BINS - 1)
    return [
        Bin(
            low=round(index / _BINS, 2),
            high=round((index + 1) / _BINS, 2),
            templates=int((place == index).sum()),
            mean_score=round(float(score[place == index].mean()), 4),
            critical_share=round(float(critical[place == index].mean()), 4),
        )
        for index in range(_BINS)
        if (place == index).any()
    ]


def operating_points(judged: Sequence[Judged], thresholds: Sequence[float]) -> list[OperatingPoint]:
    """Return what each threshold would mean on a set that holds something critical."""
    critical = np.array([one.critical for one in judged])
    routine = np.array([one.routine for one in judged])
    score = np.array([one.score for one in judged])
    weight = np.array([one.weight for one in judged])
    quiet = float(weight[~critical].sum())
    points = []
    for threshold in thresholds:
        alarms = score >= threshold
        points.append(
            OperatingPoint(
                threshold=round(threshold, 4),
                f1=round(f1(critical, alarms), 4),
                precision=round(float(critical[alarms].mean()), 4) if alarms.any() else float("nan"),
                recall=round(float(alarms[critical].mean()), 4),
                routine_alarms_per_thousand=round(1000 * float(alarms[routine].mean()), 1)
                if routine.any()
                else float("nan"),
                false_alarms_per_thousand=round(1000 * float(weight[alarms & ~critical].sum()) / quiet, 1)
                if quiet
                else float("nan"),
            )
        )
    return points
