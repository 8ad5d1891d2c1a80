"""The numbers are what their names say, agree with a library where it has them, and say nothing where a set cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harkline_training.curves import operating_points, precision_recall, reliability
from harkline_training.metrics import (
    Judged,
    average_precisions,
    best_operation,
    calibration_error,
    f1,
    recall_at_budget,
    resamples,
    summarise,
)
from harkline_workers.normalise import LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _judged(truths: Sequence[bool], scores: Sequence[float], systems: int = 1) -> list[Judged]:
    return [
        Judged(f"t{place}", bool(truth), float(score), f"s{place % systems}", "app", routine=not truth)
        for place, (truth, score) in enumerate(zip(truths, scores, strict=True))
    ]


def _random(seed: int, size: int = 200) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    truth = rng.random(size) < 0.3
    return truth, (0.3 * truth + 0.7 * rng.random(size)).round(1)  # rounded, so that many are equal


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_the_librarys(seed: int) -> None:
    """Over the set as it is and over any resample of it, equal scores included."""
    library = pytest.importorskip("sklearn.metrics")
    truth, score = _random(seed)
    copies = resamples(_judged(truth, score), seed + 100, draws=3)
    got = average_precisions(truth, score, copies)
    for draw, value in zip(copies, got, strict=True):
        assert value == pytest.approx(library.average_precision_score(np.repeat(truth, draw), np.repeat(score, draw)))


def test_the_best_f1_is_reached_at_its_threshold() -> None:
    """No threshold does better, and the one named does as well as it says."""
    truth, score = _random(1)
    best, threshold = best_operation(truth, score)
    assert best == pytest.approx(f1(truth, score >= threshold), abs=1e-4)
    assert best == pytest.approx(max(f1(truth, score >= bar) for bar in np.unique(score)), abs=1e-4)


def test_intervals_hold_their_values() -> None:
    """Average precision and F1 lie within their own bootstrap intervals, which are not empty."""
    got = summarise(_judged(*_random(2)), 0.6)
    assert got.average_precision_low < got.average_precision < got.average_precision_high
    assert got.f1_low < got.f1 < got.f1_high


def test_many_systems_are_resampled_as_wholes() -> None:
    """Templates of one system come and go together where there are many systems, and alone where there are few."""
    truth, score = _random(3)
    many = resamples(_judged(truth, score, systems=50), draws=4)
    assert all(len({int(draw[place]) for place in range(7, 200, 50)}) == 1 for draw in many)
    few = resamples(_judged(truth, score, systems=4), draws=4)
    assert any(len({int(draw[place]) for place in range(3, 200, 4)}) > 1 for draw in few)


def test_recall_at_a_budget_spends_no_more_than_it_has() -> None:
    """Five in 1,000 of 400 lines are two false alarms: what lies above the third quiet line is found."""
    scores = [0.9, 0.8, 0.7, 0.95, 0.75, 0.1]
    truths = [False, False, False, True, True, True]
    weights = [1.0, 1.0, 1.0, 1.0, 1.0, 395.0]
    assert recall_at_budget(np.array(truths), np.array(scores), np.array(weights)) == pytest.approx(2 / 3)


def test_false_alarms_are_counted_in_lines() -> None:
    """A template that stands for many lines costs as many."""
    loud = Judged("a", critical=False, score=0.9, system="s", category="", weight=30)
    calm = Judged("b", critical=False, score=0.1, system="s", category="", weight=970)
    assert summarise([loud, calm], 0.5).false_alarms_per_thousand == pytest.approx(30)


def test_a_set_without_anything_critical_tells_what_it_can() -> None:
    """False alarms and calibration are told; precision, recall and F1 are nan, not zero and not an error."""
    got = summarise(_judged([False, False], [0.2, 0.9]), 0.5)
    assert (got.false_alarms_per_thousand, got.calibration_error) == (500, pytest.approx(0.55))
    untold = (got.average_precision, got.average_precision_low, got.f1, got.f1_high, got.recall, got.best_f1)
    assert np.isnan([*untold, got.recall_at_budget, got.level_auc]).all()


def test_levels_are_ranked_one_by_one_and_in_order() -> None:
    """Right levels give 1; a level mistaken for its neighbour costs the five-way number more than the ordered one; unknown levels are left out."""
    sure = np.eye(len(LEVELS)) * 0.8 + 0.04
    right = [
        Judged(f"{level}", place >= 3, 0.0, "s", "", level=level, chances=tuple(sure[place]))
        for place, level in enumerate(LEVELS)
    ]
    assert (summarise(right, 0.5).level_auc, summarise(right, 0.5).ordered_auc) == (1.0, 1.0)
    swapped = [*right[:3], right[3]._replace(chances=right[4].chances), right[4]._replace(chances=right[3].chances)]
    got = summarise([*swapped, right[0]._replace(name="unknown", level="")], 0.5)
    assert got.level_auc < got.ordered_auc < 1.0
    assert np.isnan(summarise(_judged([True, False], [0.9, 0.1]), 0.5).level_auc)


@pytest.mark.parametrize(
    ("words", "band"), [(0, "0-4 words"), (5, "5-7 words"), (19, "15-19 words"), (300, "20 or more words")]
)
def test_lengths_fall_into_bands(words: int, band: str) -> None:
    """Every number of words has its band."""
    assert Judged("a", critical=True, score=0.5, system="s", category="", words=words).length == band


def test_a_curve_ends_where_everything_critical_rings() -> None:
    """It is short, its recall only grows, and its last point is the precision at the lowest critical score."""
    truth, score = _random(4, size=5000)
    curve = precision_recall("ours", _judged(truth, score))
    assert len(curve.recall) == len(curve.precision) <= 81
    assert curve.recall == sorted(curve.recall)
    assert (curve.recall[-1], curve.precision[-1]) == (
        1.0,
        pytest.approx(truth[score >= score[truth].min()].mean(), abs=1e-4),
    )


def test_reliability_counts_every_template_once() -> None:
    """Its tenths hold all of them, and their gaps add up to the calibration error."""
    truth, score = _random(5)
    bins = reliability(_judged(truth, score))
    assert sum(one.templates for one in bins) == truth.size
    gaps = sum(one.templates * abs(one.mean_score - one.critical_share) for one in bins) / truth.size
    assert gaps == pytest.approx(calibration_error(truth, score), abs=1e-3)


def test_an_operating_point_says_what_its_threshold_costs() -> None:
    """F1, recall and both kinds of alarm at a threshold; nothing rings at one above all scores."""
    middle, top = operating_points(_judged([True, True, False, False], [0.9, 0.3, 0.8, 0.1]), (0.5, 0.99))
    assert (middle.precision, middle.recall, middle.routine_alarms_per_thousand) == (0.5, 0.5, 500)
    assert (top.f1, top.recall, top.false_alarms_per_thousand) == (0.0, 0.0, 0.0)
    assert np.isnan(top.precision)
