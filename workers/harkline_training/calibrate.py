"""Make scores mean what they say: a temperature so that they are probabilities, and a threshold that is a budget of false alarms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harkline_workers.normalise import LEVELS

_CRITICAL_FROM = LEVELS.index("error")

# int8 moves a score by this many log-odds now and then, hardly ever by more: lines nearer to the threshold are scored again in fp32.
_SECOND_LOOK_LOG_ODDS = 0.5

# The budget behind the shipped threshold, in kinds of line and not in lines: of 1,000 templates of everyday operation (debug or info, no
# contrast pair) on systems never seen, this many may ring. Each rings once, as one incident; overrides silence it.
ROUTINE_ALARMS_PER_THOUSAND = 50.0
THRESHOLD_RULE = (
    f"The threshold is a budget: of 1,000 everyday templates (debug or info, no contrast pair) of unseen systems,"
    f" {ROUTINE_ALARMS_PER_THOUSAND:.0f} may ring."
)


class Calibration(NamedTuple):
    """What turns logits into a verdict."""

    temperature: float
    threshold: float
    second_look_log_odds: float = _SECOND_LOOK_LOG_ODDS


def probabilities(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the softmax of logits (n, levels) over a temperature."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    exponentials = np.exp(scaled)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def scores(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return P(error) + P(critical), (n,)."""
    return probabilities(logits, temperature)[:, _CRITICAL_FROM:].sum(axis=1)


def fit_temperature(logits: NDArray[np.floating], critical: NDArray[np.bool_]) -> float:
    """Return the temperature under which the scores' log loss on held-out lines is least. Scans a fixed grid: one number needs no optimiser."""
    grid = np.exp(np.linspace(np.log(0.3), np.log(5.0), 120))

    def log_loss(temperature: float) -> float:
        chance = np.clip(scores(logits, temperature), 1e-7, 1 - 1e-7)
        return float(-np.where(critical, np.log(chance), np.log1p(-chance)).mean())

    return float(min(grid, key=log_loss))


def threshold_for_budget(routine: NDArray[np.floating], false_alarms_per_thousand: float) -> float:
    """Return the lowest threshold at which at most that many of 1,000 routine lines would ring.

    `routine` are the scores of held-out lines of everyday operation. The result lies in 0.05 .. 0.95, whatever they say.
    """
    quantile = float(np.quantile(routine, 1.0 - false_alarms_per_thousand / 1000.0, method="higher"))
    return float(np.clip(np.nextafter(quantile, 1.0), 0.05, 0.95))


def calibrate(logits: NDArray[np.floating], critical: NDArray[np.bool_], routine: NDArray[np.bool_]) -> Calibration:
    """Fit temperature and threshold to held-out lines: `logits` (n, levels), `critical` and `routine` (n,)."""
    temperature = fit_temperature(logits, critical)
    threshold = threshold_for_budget(scores(logits, temperature)[routine], ROUTINE_ALARMS_PER_THOUSAND)
    return Calibration(round(temperature, 4), round(threshold, 4))
