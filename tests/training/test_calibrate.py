"""Scores become probabilities, and thresholds are budgets that are kept."""

from __future__ import annotations

import numpy as np
import pytest

from harkline_training.calibrate import fit_temperature, scores, threshold_for_budget, threshold_on_plateau


def test_a_temperature_undoes_its_inverse() -> None:
    """Logits blown up three times want a temperature three times as high."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3000, 5))
    critical = rng.random(3000) < scores(logits)
    once, thrice = fit_temperature(logits, critical), fit_temperature(3 * logits, critical)
    assert once == pytest.approx(1.0, abs=0.1)
    assert thrice == pytest.approx(3 * once, rel=0.05)


def test_a_budget_of_routine_alarms_is_kept() -> None:
    """Of 1,000 routine lines no more than the budget ring at the threshold, and one more would at any lower one."""
    routine = 0.9 * np.random.default_rng(1).random(1000)
    threshold = threshold_for_budget(routine, 50)
    assert (routine >= threshold).sum() <= 50 < (routine >= threshold - 0.01).sum()


def _held_out() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    critical = rng.random(4000) < 0.4
    routine = ~critical & (rng.random(4000) < 0.4)
    score = 1 / (1 + np.exp(-rng.normal(np.where(critical, 1.5, -1.5), 1.2)))
    return critical, routine, score


def test_the_plateaus_lower_end_costs_what_was_agreed() -> None:
    """With a wide budget F1 stays within the share given up of its best, and the threshold lies below the best one."""
    critical, routine, score = _held_out()
    threshold = threshold_on_plateau(critical, routine, score, 1000, f1_given_up=0.01)

    def f1_at(bar: float) -> float:
        alarms = score >= bar
        return float(2 * (alarms & critical).sum() / (alarms.sum() + critical.sum()))

    bars = np.unique(score)
    values = np.array([f1_at(bar) for bar in bars])
    assert f1_at(threshold) == pytest.approx(values.max() - 0.01, abs=1e-3)
    assert threshold < bars[values.argmax()]


def test_the_budget_outranks_the_plateau() -> None:
    """Where the plateau's lower end rings for too many routine templates, the threshold is that of the budget."""
    critical, routine, score = _held_out()
    assert threshold_on_plateau(critical, routine, score, 5) == pytest.approx(threshold_for_budget(score[routine], 5))
