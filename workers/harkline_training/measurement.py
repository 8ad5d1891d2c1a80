"""Everything that a model is measured by: unseen systems, lines from outside, slices, what int8 changes, and speed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harkline_training import baselines
from harkline_training.baselines import Baselines
from harkline_training.calibrate import Calibration, scores
from harkline_training.curves import THRESHOLDS, operating_points, precision_recall, reliability
from harkline_training.dataset import System, evaluation_examples, fingerprint, split_systems
from harkline_training.evaluate import LabelledSet, judge, outside_sets, unseen_set
from harkline_training.metrics import Judged, average_precisions, summarise
from harkline_training.record import Quantised, Row, SetReport, Speed, Unseen
from harkline_training.scoring import Answer, Exported, Logits, Run, answers, export_if_older, log_odds, settle
from harkline_workers.backends import BACKENDS
from harkline_workers.model import load_model, read_tokenizer
from harkline_workers.normalise import normalise

_LINES_COMPARED = 3000
_LINES_TIMED = 1500
_SLICES = ("contrast", "category", "length", "system")


class Folds(NamedTuple):
    """Cross-validated models in a work folder, and what its `training.json` says of them."""

    work: Path
    folds: int
    measured: int
    fingerprint: str
    calibration: Calibration

    @classmethod
    def of(cls, work: Path, trained: dict[str, Any]) -> Folds:
        """Read the facts of a training run."""
        return cls(
            work,
            trained["folds"],
            trained["measured_folds"],
            trained["fingerprint"],
            Calibration(**trained["calibration"]),
        )

    @property
    def directories(self) -> list[Path]:
        """The folders of the measured folds' checkpoints."""
        return [self.work / f"fold-{fold}" for fold in range(self.measured)]


def score_unseen(
    systems: Sequence[System], folds: Folds, run: Run, score: Callable[[Exported, Sequence[str]], NDArray[np.floating]]
) -> tuple[LabelledSet, NDArray[np.floating]]:
    """Score the systems that the measured folds held out, each by the model that had not seen it: (lines, levels) of whatever `score` asks it for."""
    labelled, parts = unseen_set(systems, folds.folds, folds.measured)
    logits = []
    for fold, (directory, part) in enumerate(zip(folds.directories, parts, strict=True)):
        export_if_older(directory, afresh=run.afresh)
        logits.append(score(Exported(directory, run, f"fold {fold}"), labelled.inputs[part]))
    return labelled, np.concatenate(logits)


def measure_unseen(systems: Sequence[System], folds: Folds, simpler: Baselines, run: Run) -> Unseen:
    """Measure the folds and the baselines on the same splits. Takes minutes."""
    labelled, fp32 = score_unseen(systems, folds, run, Exported.fp32)
    _, int8 = score_unseen(systems, folds, run._replace(afresh=False), Exported.int8)
    given = answers(labelled.inputs, Logits(fp32, int8), folds.calibration)
    _, parts = unseen_set(systems, folds.folds, folds.measured)
    by_fold = [
        simpler.answers(
            labelled.inputs[part],
            frozenset(system.name for system in split_systems(systems, folds.folds, fold).train),
        )
        for fold, part in run.progress.track(list(enumerate(parts)), description="baselines by fold")
    ]
    given |= {name: Answer(np.concatenate([fold[name].scores for fold in by_fold])) for name in by_fold[0]}
    judged = judge(labelled, *given["harkline"])
    return Unseen(
        fingerprint=fingerprint(systems),
        trained_on=folds.fingerprint,
        systems=len(systems),
        templates=sum(len(system.templates) for system in systems),
        folds=folds.folds,
        measured_folds=folds.measured,
        length_average_precision=length_alone(judged),
        report=report_on(labelled, given, folds.calibration.threshold),
        slices=slice_rows(judged, folds.calibration.threshold, run),
    )


def measure_outside(
    directory: Path, model_dir: Path, calibration: Calibration, simpler: Callable[[], Baselines], run: Run
) -> list[SetReport]:
    """Measure the exported model, and baselines that learned from the whole corpus, on labelled lines from outside it. [] where there are none."""
    sets = outside_sets(directory)
    if not sets:
        return []
    inputs = [text for labelled in sets for text in labelled.inputs]
    logits = Exported(model_dir, run, "lines from outside").both(inputs)
    given = answers(inputs, logits, calibration) | simpler().answers(inputs)
    reports, start = [], 0
    for labelled in sets:
        part = slice(start, start + len(labelled.inputs))
        mine = {
            name: Answer(answer.scores[part], None if answer.chances is None else answer.chances[part])
            for name, answer in given.items()
        }
        reports.append(report_on(labelled, mine, calibration.threshold))
        start = part.stop
    return reports


def report_on(labelled: LabelledSet, given: dict[str, Answer], threshold: float) -> SetReport:
    """Judge every scorer on one set; the first is the model, whose reliability and operating points are told too."""
    judged = {name: judge(labelled, *answer) for name, answer in given.items()}
    model = next(iter(judged.values()))
    drawable = any(one.critical for one in model)
    return SetReport(
        name=labelled.name,
        rows=[
            Row(labelled.name, name, summarise(ones, _threshold_of(name, threshold))) for name, ones in judged.items()
        ],
        curves=[precision_recall(name, ones) for name, ones in judged.items()] if drawable else [],
        reliability=reliability(model),
        operating=operating_points(model, sorted({*THRESHOLDS, threshold})) if drawable else [],
    )


def slice_rows(judged: Sequence[Judged], threshold: float, run: Run) -> list[Row]:
    """Judge the model slice by slice: by contrast, by category, by length, by system."""
    slices = [(key, value) for key in _SLICES for value in sorted({getattr(one, key) for one in judged}, key=_natural)]
    return [
        Row(f"{key} {value}", "harkline", summarise([one for one in judged if getattr(one, key) == value], threshold))
        for key, value in run.progress.track(slices, description="slices")
    ]


def length_alone(judged: Sequence[Judged]) -> float:
    """Return the average precision of "the longer, the worse": far above the share of critical templates, and length gives answers away."""
    critical = np.array([one.critical for one in judged])
    words = np.array([float(one.words) for one in judged])
    return round(float(average_precisions(critical, words, np.ones((1, len(judged)), dtype=np.int64))[0]), 4)


def stream_lines(directory: Path, systems: Sequence[System]) -> tuple[str, list[str]]:
    """Return where they come from, and raw lines that differ to the model: of the `*.log` under a folder, or of the corpus where it has none."""
    source = "streams from outside"
    lines = [
        line for path in sorted(directory.rglob("*.log")) for line in path.read_text("utf-8", "replace").splitlines()
    ]
    if not lines:
        source = "lines of the corpus"
        lines = [example.model_input.partition(" | ")[2] for example in evaluation_examples(systems)]
    distinct = list({normalise(line).model_input: line for line in lines}.values())
    places = np.random.default_rng(0).permutation(len(distinct))[:_LINES_COMPARED]
    return source, [distinct[place] for place in places]


def compare_quantised(
    model_dir: Path, source: str, lines: Sequence[str], calibration: Calibration, run: Run
) -> Quantised:
    """Compare the exported model's int8 verdicts with its fp32 ones on distinct lines."""
    inputs = [normalise(line).model_input for line in lines]
    logits = Exported(model_dir, run, source).both(inputs)
    settled, close = settle(logits, calibration)
    int8, fp32, final = (
        log_odds(scores(some, calibration.temperature)) for some in (logits.int8, logits.fp32, settled)
    )
    bar = log_odds(np.array(calibration.threshold))
    return Quantised(
        source=source,
        lines=len(inputs),
        critical=int((fp32 >= bar).sum()),
        flips_without=int(((int8 >= bar) != (fp32 >= bar)).sum()),
        flips_with=int(((final >= bar) != (fp32 >= bar)).sum()),
        rescored_share=round(float(close.mean()), 4),
        mean_log_odds=round(float(np.abs(int8 - fp32).mean()), 4),
    )


def measure_speed(model_dir: Path, lines: Sequence[str]) -> Speed:
    """Time the way of distinct lines through the exported model on one thread, in CPU time, since wall time is the neighbours' too."""
    few = list(lines[:_LINES_TIMED])
    model = load_model(model_dir)
    backend = BACKENDS["onnx"].make(model_dir, 1)
    backend.load()
    inputs = [normalise(line).model_input for line in few]
    encodings = [encoding.ids for encoding in read_tokenizer(model_dir).encode_batch_fast(inputs)]
    model.predict(inputs[:64])  # opens the fp32 graph where a line needs it
    backend.score(encodings[:64])
    speed = Speed(
        lines=len(few),
        normalised=_per_cpu_second(lambda: [normalise(line) for line in few], len(few)),
        served=_per_cpu_second(
            lambda: [model.predict(inputs[start : start + 64]) for start in range(0, len(inputs), 64)], len(few)
        ),
        graph=_per_cpu_second(lambda: backend.score(encodings), len(few)),
    )
    backend.close()
    model.close()
    return speed


def _per_cpu_second(work: Callable[[], object], lines: int) -> float:
    started = time.process_time()
    work()
    return round(lines / max(time.process_time() - started, 1e-9), 1)


def _natural(value: str) -> tuple[int, str]:
    number = re.match(r"\d+", value)
    return int(number.group()) if number else 0, value


def _threshold_of(scorer: str, threshold: float) -> float:
    return threshold if scorer.startswith("harkline") else baselines.THRESHOLD
