"""Whether a taught model may take the place of the one before: the numbers of both, and what of them forbids it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harkline_training.metrics import Judged, summarise

# What teaching may cost on the corpus, whose lines the model before has been trained on and this one was not reminded of.
CORPUS_AP_MARGIN = 0.01
CORPUS_F1_MARGIN = 0.03
# A rank or two among the labels held out is no loss.
LABELS_AP_MARGIN = 0.01


class Numbers(NamedTuple):
    """How well scores and a threshold do on one set of lines; nan where the set cannot tell."""

    lines: int
    critical: int
    average_precision: float
    f1: float
    recall: float
    false_alarms_per_thousand: float
    wrong: int  # verdicts


def numbers_of(critical: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float) -> Numbers:
    """Judge scores (n,) against the truth (n,)."""
    judged = [
        Judged(str(place), bool(truth), float(score), "", "")
        for place, (truth, score) in enumerate(zip(critical, scores, strict=True))
    ]
    summary = summarise(judged, threshold)
    alarms = scores >= threshold
    return Numbers(
        lines=len(judged),
        critical=int(critical.sum()),
        average_precision=summary.average_precision,
        f1=summary.f1,
        recall=float(alarms[critical].mean()) if critical.any() else float("nan"),
        false_alarms_per_thousand=summary.false_alarms_per_thousand,
        wrong=int((alarms != critical).sum()),
    )


def log_odds(chances: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return log-odds; certainty becomes some fourteen."""
    clipped = np.clip(chances, 1e-6, 1 - 1e-6)
    odds: NDArray[np.float64] = np.log(clipped / (1 - clipped))
    return odds


def chances_of(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the chances that log-odds stand for."""
    chances: NDArray[np.float64] = 1 / (1 + np.exp(-odds))
    return chances


def shifted(chances: NDArray[np.float64], threshold: float, to: float) -> NDArray[np.float64]:
    """Return scores moved along with their threshold to another, so that scores of models with thresholds of their own can be judged as one set."""
    return chances_of(log_odds(chances) + (log_odds(to) - log_odds(threshold)))


def objections(
    labels: tuple[Numbers, Numbers] | None, corpus: tuple[Numbers, Numbers], right: tuple[int, int]
) -> list[str]:
    """Say what makes the model after worse than the one before; [] where nothing does. `right` counts the labels that each judges as they say."""
    said = []
    if right[1] < right[0]:
        said.append(f"of the labelled lines {right[1]} are judged as labelled instead of {right[0]}")
    if labels is not None:
        before, after = labels
        if before.critical and after.f1 < before.f1:
            said.append(f"F1 on labels held out falls from {before.f1:.3f} to {after.f1:.3f}")
        elif not before.critical and after.wrong > before.wrong:
            said.append(f"of labels held out, {after.wrong} ring falsely instead of {before.wrong}")
        if after.average_precision < before.average_precision - LABELS_AP_MARGIN:
            said.append(
                f"AP on labels held out falls from {before.average_precision:.3f} to {after.average_precision:.3f}"
            )
    before, after = corpus
    for name, was, now, margin in (
        ("AP", before.average_precision, after.average_precision, CORPUS_AP_MARGIN),
        ("F1", before.f1, after.f1, CORPUS_F1_MARGIN),
    ):
        if now < was - margin:
            said.append(f"{name} on the corpus falls from {was:.3f} to {now:.3f}, by more than {margin}: it forgets")
    return said


def table(columns: Sequence[tuple[str, Numbers]]) -> list[tuple[str, ...]]:
    """Return rows for a screen: a name, and a number of each column."""
    titles = (
        "lines",
        "of them critical",
        "AP",
        "F1 at the threshold",
        "recall",
        "false alarms in 1,000",
        "wrong verdicts",
    )
    values = zip(*(_shown(numbers) for _, numbers in columns), strict=True)
    return [(title, *row) for title, row in zip(titles, values, strict=True)]


def _shown(numbers: Numbers) -> tuple[str, ...]:
    lines, critical, *shares, alarms, wrong = numbers
    return (
        f"{lines:,}",
        f"{critical:,}",
        *("-" if np.isnan(share) else f"{share:.3f}" for share in shares),
        "-" if np.isnan(alarms) else f"{alarms:.0f}",
        f"{wrong:,}",
    )
