"""Score lines with an exported model the three ways that it can answer: in fp32, in int8, and as a worker serves it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from harkline_training.calibrate import Calibration, probabilities, scores
from harkline_training.export import FP32_GRAPH, INT8_GRAPH, WEIGHTS, export_graphs
from harkline_training.kept import KeptRows, in_portions
from harkline_workers import rules
from harkline_workers.backends import BACKENDS
from harkline_workers.model import read_tokenizer
from harkline_workers.normalise import normalise


class Run(NamedTuple):
    """How one evaluation works: where it shows how far it is, with how many threads, and where it keeps scores."""

    progress: Progress
    threads: int
    keep: Path
    afresh: bool  # do not use what an earlier run kept


class Logits(NamedTuple):
    """What a model says of lines, (lines, levels) each."""

    fp32: NDArray[np.floating]
    int8: NDArray[np.floating]


class Answer(NamedTuple):
    """One way of answering: a score a line, and the five levels' probabilities where they mean something."""

    scores: NDArray[np.float64]
    chances: NDArray[np.float64] | None = None


def weights_digest(directory: Path) -> str:
    """Return a short digest of a folder's weights: the name under which their numbers are recorded."""
    with (directory / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def export_if_older(directory: Path, *, afresh: bool = False) -> None:
    """Write both graphs beside a checkpoint's weights where they are missing or older than the weights."""
    weights = (directory / WEIGHTS).stat().st_mtime
    graphs = [directory / name for name in (FP32_GRAPH, INT8_GRAPH)]
    if afresh or not all(graph.exists() and graph.stat().st_mtime >= weights for graph in graphs):
        export_graphs(directory)


class Exported:
    """The graphs of a folder, ready to score; what they say in fp32 is kept between runs."""

    def __init__(self, directory: Path, run: Run, what: str) -> None:
        self._backend = BACKENDS["onnx"].make(directory, run.threads)
        self._backend.load()
        self._tokenizer = read_tokenizer(directory)
        self._kept = KeptRows(run.keep / f"fp32-{weights_digest(directory)}.npz", afresh=run.afresh)
        self._progress = run.progress
        self._what = what

    def fp32(self, inputs: Sequence[str]) -> NDArray[np.floating]:
        """Return logits (lines, levels)."""
        return self._kept.rows(
            inputs,
            lambda lines: self._backend.score_exactly(self._encode(lines)),
            f"{self._what}, fp32",
            self._progress,
        )

    def int8(self, inputs: Sequence[str]) -> NDArray[np.floating]:
        """Return logits (lines, levels). Not kept: a line's neighbours in its row move them a little."""
        return in_portions(
            inputs, lambda lines: self._backend.score(self._encode(lines)), f"{self._what}, int8", self._progress
        )

    def both(self, inputs: Sequence[str]) -> Logits:
        """Return both."""
        return Logits(self.fp32(inputs), self.int8(inputs))

    def _encode(self, lines: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(lines))]


def settle(logits: Logits, calibration: Calibration) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Return the logits that a worker goes by, and which lines it looked at a second time, in fp32."""
    odds = log_odds(scores(logits.int8, calibration.temperature))
    bar = log_odds(np.array(calibration.threshold))
    close: NDArray[np.bool_] = np.abs(odds - bar) < calibration.second_look_log_odds
    return np.where(close[:, None], logits.fp32, logits.int8), close


def answer(logits: NDArray[np.floating], temperature: float) -> Answer:
    """Return logits as probabilities."""
    return Answer(scores(logits, temperature), probabilities(logits, temperature))


def answers(inputs: Sequence[str], logits: Logits, calibration: Calibration) -> dict[str, Answer]:
    """Return what the model says in fp32 and in int8, and what a worker makes of it: int8, the second look, the rules' floors."""
    temperature = calibration.temperature
    settled, _ = settle(logits, calibration)
    served = np.where(_floored(inputs), 1.0, scores(settled, temperature))
    return {
        "harkline": answer(logits.fp32, temperature),
        "harkline, int8 alone": answer(logits.int8, temperature),
        "harkline, as served": Answer(served, probabilities(settled, temperature)),
    }


def log_odds(chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-odds of probabilities, those of 0 and 1 cut to what a float can carry back."""
    inside = np.clip(chance, 1e-9, 1 - 1e-9)
    return np.log(inside / (1 - inside))


def _floored(inputs: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which lines ring by a rule's floor. Their level was taken away, so the floors that ask for one stay silent."""
    return np.array(
        [rules.floor(normalise(text.partition(" | ")[2])._replace(level="")) is not None for text in inputs], dtype=bool
    )
