"""Make scores mean what they say: a temperature so that they are probabilities, and a threshold that is a budget of false alarms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harkline_workers.normalise import LEVELS

_CRITICAL_FROM = LEVELS.index("error")

# int8 moves a score by this many log-odds now and then, hardly ever by more: lines nearer to the threshold are scored again in fp32. Of 2,400 distinct
# lines of streams and corpus, int8 alone judges 38 otherwise than fp32, with 0.2 it is 15 (2.7% scored again), with 0.5 it is 4 (7.3%). With 0.2 a
# frequent line can still be told otherwise in other company, and a budget that `harkline calibrate` found was broken by it.
_SECOND_LOOK_LOG_ODDS = 0.5

# The budget behind the shipped threshold, in kinds of line and not in lines: of 1,000 templates of everyday operation (debug or info, no
# contrast pair) on systems never seen, this many may ring. Each rings once, as one incident; overrides silence it.
ROUTINE_ALARMS_PER_THOUSAND = 100.0
# What of the best F1 on unseen systems may be given up for a lower threshold (`threshold_on_plateau`).
F1_GIVEN_UP = 0.01
THRESHOLD_RULE = (
    f"The threshold is a budget: the lowest one whose F1 on unseen systems is within {F1_GIVEN_UP:.2f} of the best, as long as of 1,000 everyday"
    f" templates (debug or info, no contrast pair) no more than {ROUTINE_ALARMS_PER_THOUSAND:.0f} ring."
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


def threshold_on_plateau(
    critical: NDArray[np.bool_],
    routine: NDArray[np.bool_],
    score: NDArray[np.floating],
    routine_alarms_per_thousand: float,
    f1_given_up: float = F1_GIVEN_UP,
) -> float:
    """Return the lowest threshold of the flat top of F1 whose alarms on routine templates stay within a budget. One score a template, all (n,).

    F1 hardly changes over a wide range of thresholds, and lines that nobody wrote for a corpus score lower than those of one, so the lower end of
    that range finds more outside and costs next to nothing inside. Where the budget is spent before the top is reached, the budget decides.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    values = 2 * np.cumsum(critical[order])[ends] / (critical.sum() + ends + 1)
    top = float(score[order][ends[np.flatnonzero(values >= values.max() - f1_given_up)[-1]]])
    budget = threshold_for_budget(score[routine], routine_alarms_per_thousand)
    return float(np.clip(max(top, budget), 0.05, 0.95))
