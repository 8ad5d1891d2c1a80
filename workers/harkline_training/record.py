"""What was measured of a model, as a small file beside it: whoever has no checkpoints of the folds can still read what they said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from harkline_training.curves import Bin, Curve, OperatingPoint
from harkline_training.metrics import Summary

EVALUATION_NAME = "evaluation.json"
_FORMAT = 1


class Row(msgspec.Struct, frozen=True):
    """One line of a report."""

    lines: str  # which set, or which slice of it
    scorer: str
    summary: Summary


class SetReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything told of one set of labelled lines."""

    name: str
    rows: list[Row]  # one a scorer; the first is the model
    curves: list[Curve]
    reliability: list[Bin]
    operating: list[OperatingPoint]


class Unseen(msgspec.Struct, frozen=True, kw_only=True):
    """What the folds' models said of systems that they had not seen."""

    fingerprint: str  # of the corpus that they were judged on
    trained_on: str  # and of the one that they were trained on
    systems: int  # of the whole corpus
    templates: int
    folds: int
    measured_folds: int
    length_average_precision: float  # of the number of words alone: what the corpus gives away by length
    report: SetReport
    slices: list[Row]


class Quantised(msgspec.Struct, frozen=True, kw_only=True):
    """What int8 does to verdicts, with and without the second look in fp32."""

    source: str  # where the lines come from
    lines: int  # distinct model inputs
    critical: int  # of them in fp32
    flips_without: int
    flips_with: int
    rescored_share: float
    mean_log_odds: float  # by which int8 differs from fp32


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast one core scores distinct lines, in lines per CPU-second."""

    lines: int
    normalised: float  # raw line to model input
    served: float  # model input to probabilities: tokenise, int8, second look
    graph: float  # the int8 graph alone


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One round of measurements of one model."""

    format: int = _FORMAT
    weights: str  # digest of the shipped weights
    threshold: float  # that lines were judged at
    unseen: Unseen | None
    outside: list[SetReport]
    quantised: Quantised
    speed: Speed


def write_evaluation(directory: Path, evaluation: Evaluation) -> None:
    """Write the file beside the weights."""
    (directory / EVALUATION_NAME).write_bytes(msgspec.json.encode(evaluation) + b"\n")


def read_evaluation(directory: Path, weights: str, threshold: float) -> Evaluation | None:
    """Return what was recorded of just these weights at this threshold, or None: no file, another model's, or another release's."""
    try:
        document = msgspec.json.decode((directory / EVALUATION_NAME).read_bytes())
        recorded = msgspec.convert(_with_nan(document), Evaluation)
    except (OSError, msgspec.MsgspecError):
        return None
    wanted = (_FORMAT, weights, threshold)
    return recorded if (recorded.format, recorded.weights, recorded.threshold) == wanted else None


def _with_nan(document: Any, key: str = "") -> Any:
    """Put back what JSON has no word for: a number that was nan is null in the file. `unseen` alone may be missing as a whole."""
    if document is None and key != "unseen":
        return float("nan")
    if isinstance(document, dict):
        return {name: _with_nan(value, name) for name, value in document.items()}
    if isinstance(document, list):
        return [_with_nan(value) for value in document]
    return document
