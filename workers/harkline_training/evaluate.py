"""Judge models and baselines on systems they have not seen, and on whatever labelled lines lie outside the repository.

The unit is the template, not the line: a thousand heartbeats say no more than one. The level is always taken away, because a truthful level makes
the task trivial and a missing one is where a model earns its keep.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from harkline_training.baselines import frozen_scores, keyword_scores, tfidf_scores
from harkline_training.checkpoint import base_directory, load_encoder, load_tokenizer
from harkline_training.dataset import (
    Example,
    System,
    evaluation_examples,
    split_systems,
    training_examples,
    without_level,
)
from harkline_training.metrics import Judged, Summary, summarise

Scorer = Callable[[Sequence[str]], NDArray[np.floating]]

# A keyword's score is no probability: this is where "error" words begin, and what a trained baseline takes for even odds.
BASELINE_THRESHOLD = 0.5
_LINES_A_TEMPLATE = 3


class LabelledSet(NamedTuple):
    """Lines with their truth; lines of one template are judged as one."""

    name: str
    inputs: list[str]
    templates: list[Judged]  # one for each input, its score not yet known


class Row(NamedTuple):
    """One line of a report."""

    lines: str  # which set, or which slice of it
    scorer: str
    summary: Summary


def corpus_set(name: str, examples: Sequence[Example]) -> LabelledSet:
    """Return examples of the corpus as a labelled set."""
    truths = [
        Judged(
            name=f"{template.system}:{template.text}",
            critical=template.critical,
            score=0.0,
            system=template.system,
            category=template.category,
            contrast=template.contrast or "none",
            routine=template.routine,
        )
        for template in (example.template for example in examples)
    ]
    return LabelledSet(name, [example.model_input for example in examples], truths)


def outside_sets(directory: Path) -> list[LabelledSet]:
    """Read every `*.jsonl` under a folder of labelled lines (fields: text, label, template, system, weight).

    A few lines of each template are scored and stand for all of them. [] where the folder does not exist.
    """
    return [_outside_set(path) for path in sorted(directory.rglob("*.jsonl"))]


def _outside_set(path: Path) -> LabelledSet:
    members: dict[str, list[dict[str, Any]]] = {}
    for text in path.read_text("utf-8").splitlines():
        if text.strip():
            row = json.loads(text)
            members.setdefault(row["template"], []).append(row)
    labelled = LabelledSet(path.stem, [], [])
    for template, rows in members.items():
        lines = sum(float(row.get("weight", 1)) for row in rows)
        scored = rows[:_LINES_A_TEMPLATE]
        for row in scored:
            critical = row["label"] == "critical"
            labelled.inputs.append(without_level(row["text"]))
            labelled.templates.append(Judged(template, critical, 0.0, row["system"], "", weight=lines / len(scored)))
    return labelled


def judge(labelled: LabelledSet, line_scores: NDArray[np.floating]) -> list[Judged]:
    """Return one judgement a template: the mean score of its lines, standing for all of them."""
    members: dict[str, list[int]] = {}
    for index, truth in enumerate(labelled.templates):
        members.setdefault(truth.name, []).append(index)
    return [
        labelled.templates[indexes[0]]._replace(
            score=float(line_scores[indexes].mean()), weight=sum(labelled.templates[index].weight for index in indexes)
        )
        for indexes in members.values()
    ]


def cross_validated(
    systems: Sequence[System],
    logits_by: Callable[[int, Sequence[str]], NDArray[np.float32]],
    folds: int,
    measured: int,
) -> tuple[LabelledSet, NDArray[np.float32]]:
    """Score the systems of the first `measured` of `folds` folds, each by the model of the fold that held it out.

    `logits_by` takes the fold and its inputs. Returns all lines as one set, and their logits (n, levels) in the same order.
    """
    examples: list[Example] = []
    logits = []
    for fold in range(measured):
        held_out = evaluation_examples(split_systems(systems, folds, fold).held_out)
        logits.append(logits_by(fold, [example.model_input for example in held_out]))
        examples.extend(held_out)
    return corpus_set("unseen systems", examples), np.concatenate(logits)


def cross_validated_baselines(
    systems: Sequence[System], folds: int, measured: int, progress: Progress
) -> dict[str, NDArray[np.float64]]:
    """Score the same lines, in the same order, by each baseline trained on the same folds."""
    base = base_directory()
    encoder, tokenizer = load_encoder(base), load_tokenizer(base)
    parts: dict[str, list[NDArray[np.float64]]] = {
        "keyword rules": [],
        "TF-IDF + logistic regression": [],
        "frozen MiniLM + head": [],
    }
    for fold in progress.track(range(measured), description="baselines"):
        split = split_systems(systems, folds, fold)
        inputs = [example.model_input for example in evaluation_examples(split.held_out)]
        learned_from = training_examples(split.train, renderings=2, seed=0)
        parts["keyword rules"].append(keyword_scores(inputs))
        parts["TF-IDF + logistic regression"].append(tfidf_scores(learned_from, inputs))
        parts["frozen MiniLM + head"].append(frozen_scores(encoder, tokenizer, learned_from, inputs))
    return {name: np.concatenate(chunks) for name, chunks in parts.items()}


def outside_rows(sets: Sequence[LabelledSet], scorers: dict[str, Scorer], threshold: float) -> list[Row]:
    """Judge scorers that have seen the whole corpus on sets from outside it."""
    return [
        Row(
            labelled.name,
            name,
            summarise(
                judge(labelled, score(labelled.inputs)),
                threshold if name.startswith("harkline") else BASELINE_THRESHOLD,
            ),
        )
        for labelled in sets
        for name, score in scorers.items()
    ]


def baseline_scorers(systems: Sequence[System]) -> dict[str, Scorer]:
    """Return the baselines trained on the whole corpus."""
    base = base_directory()
    encoder, tokenizer = load_encoder(base), load_tokenizer(base)
    learned_from = training_examples(systems, renderings=2, seed=0)
    return {
        "keyword rules": keyword_scores,
        "TF-IDF + logistic regression": lambda inputs: tfidf_scores(learned_from, inputs),
        "frozen MiniLM + head": lambda inputs: frozen_scores(encoder, tokenizer, learned_from, inputs),
    }


def unseen_rows(judged: Sequence[Judged], threshold: float) -> list[Row]:
    """Judge the cross-validated model slice by slice: by contrast, by category, by system."""
    slices = [
        (key, value)
        for key in ("contrast", "category", "system")
        for value in sorted({getattr(one, key) for one in judged})
    ]
    return [
        Row(f"{key} {value}", "harkline", summarise([one for one in judged if getattr(one, key) == value], threshold))
        for key, value in slices
    ]


def markdown(rows: Sequence[Row]) -> str:
    """Return rows as a table for the model card."""
    titles = (
        "lines",
        "scorer",
        "templates",
        "critical",
        "AP (95%)",
        "F1",
        "recall at 5 false alarms in 1,000",
        "false alarms in 1,000",
        "calibration error",
    )
    head = f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|"
    return "\n".join([head, *(_markdown_row(row) for row in rows)])


def _markdown_row(row: Row) -> str:
    got = row.summary
    numbers = (got.f1, got.recall_at_budget, got.false_alarms_per_thousand / 1000, got.calibration_error)
    f1, recall, alarms, error = ("-" if np.isnan(number) else f"{number:.3f}" for number in numbers)
    shown = "-" if alarms == "-" else f"{float(alarms) * 1000:.0f}"
    precision = (
        "-" if np.isnan(got.average_precision) else f"{got.average_precision:.3f} ({got.low:.3f}-{got.high:.3f})"
    )
    return f"| {row.lines} | {row.scorer} | {got.templates} | {got.critical} | {precision} | {f1} | {recall} | {shown} | {error} |"
