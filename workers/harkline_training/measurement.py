"""Everything that a training round is measured by, in one pass: unseen systems, lines from outside, slices, and what int8 changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from harkline_training.calibrate import Calibration, scores
from harkline_training.checkpoint import load_encoder, load_tokenizer
from harkline_training.dataset import System
from harkline_training.evaluate import (
    BASELINE_THRESHOLD,
    Row,
    Scorer,
    baseline_scorers,
    cross_validated,
    cross_validated_baselines,
    judge,
    outside_rows,
    outside_sets,
    unseen_rows,
)
from harkline_training.export import export_graphs
from harkline_training.metrics import summarise
from harkline_training.train import logits_of
from harkline_workers.backends import BACKENDS
from harkline_workers.model import load_model, read_tokenizer
from harkline_workers.normalise import normalise

_LINES_COMPARED = 3000


class Quantised(NamedTuple):
    """What int8 does to verdicts, with and without the second look in fp32."""

    lines: int  # distinct model inputs
    critical: int  # of them in fp32
    flips_without: int
    flips_with: int
    rescored_share: float
    mean_log_odds: float  # by which int8 differs from fp32
    unseen_ap_fp32: float
    unseen_ap_int8: float


class Measured(NamedTuple):
    """The tables of one round."""

    unseen: list[Row]
    outside: list[Row]
    slices: list[Row]
    quantised: Quantised


def measure(
    work: Path,
    model_dir: Path,
    systems: Sequence[System],
    outside: Path,
    calibration: Calibration,
    folds: int,
    measured: int,
    progress: Progress,
) -> Measured:
    """Measure the folds of a work folder and the exported model. Takes minutes: each fold scores what it had not seen, twice, and is quantised too."""
    temperature, threshold, _ = calibration
    directories = [work / f"fold-{fold}" for fold in range(measured)]
    tokenizer = load_tokenizer(directories[0])
    encoders = [load_encoder(directory, dropout=0.0).eval() for directory in directories]
    labelled, logits = cross_validated(
        systems, lambda fold, inputs: logits_of(encoders[fold], tokenizer, inputs), folds, measured
    )
    judged = judge(labelled, scores(logits, temperature))
    unseen = [Row(labelled.name, "harkline", summarise(judged, threshold))]
    for name, line_scores in cross_validated_baselines(systems, folds, measured, progress).items():
        unseen.append(Row(labelled.name, name, summarise(judge(labelled, line_scores), BASELINE_THRESHOLD)))
    _, int8_logits = cross_validated(
        systems, lambda fold, inputs: _int8_logits(directories[fold], inputs), folds, measured
    )
    int8_ap = summarise(judge(labelled, scores(int8_logits, temperature)), threshold).average_precision
    sets = outside_sets(outside)
    scorers: dict[str, Scorer] = {"harkline": _shipped_scorer(model_dir), **(baseline_scorers(systems) if sets else {})}
    streams = sorted(
        {
            normalise(line).model_input
            for path in sorted(outside.rglob("*.log"))
            for line in path.read_text("utf-8", "replace").splitlines()
        }
    )
    return Measured(
        unseen=unseen,
        outside=outside_rows(sets, scorers, threshold),
        slices=unseen_rows(judged, threshold),
        quantised=_compare(
            model_dir, _sample(streams or labelled.inputs), calibration, (unseen[0].summary.average_precision, int8_ap)
        ),
    )


def _int8_logits(directory: Path, inputs: Sequence[str]) -> NDArray[np.float32]:
    export_graphs(directory)
    backend = BACKENDS["onnx"].make(directory, 1)
    backend.load()
    return backend.score([encoding.ids for encoding in read_tokenizer(directory).encode_batch_fast(list(inputs))])


def _shipped_scorer(model_dir: Path) -> Scorer:
    model = load_model(model_dir)
    critical_from = model.levels.index("error")
    return lambda inputs: model.predict(inputs)[:, critical_from:].sum(axis=1)


def _sample(inputs: Sequence[str]) -> list[str]:
    places = np.random.default_rng(0).permutation(len(inputs))[:_LINES_COMPARED]
    return [inputs[place] for place in places]


def _compare(
    model_dir: Path, inputs: Sequence[str], calibration: Calibration, unseen_ap: tuple[float, float]
) -> Quantised:
    backend = BACKENDS["onnx"].make(model_dir, 1)
    backend.load()
    encodings = [encoding.ids for encoding in read_tokenizer(model_dir).encode_batch_fast(list(inputs))]
    fast, exact = (
        scores(score(encodings), calibration.temperature) for score in (backend.score, backend.score_exactly)
    )
    fast_odds, exact_odds, bar = (np.log(chance / (1 - chance)) for chance in (fast, exact, calibration.threshold))
    close = np.abs(fast_odds - bar) < calibration.second_look_log_odds
    settled = np.where(close, exact_odds, fast_odds)
    return Quantised(
        lines=len(inputs),
        critical=int((exact_odds >= bar).sum()),
        flips_without=int(((fast_odds >= bar) != (exact_odds >= bar)).sum()),
        flips_with=int(((settled >= bar) != (exact_odds >= bar)).sum()),
        rescored_share=float(close.mean()),
        mean_log_odds=float(np.abs(fast_odds - exact_odds).mean()),
        unseen_ap_fp32=unseen_ap[0],
        unseen_ap_int8=unseen_ap[1],
    )
