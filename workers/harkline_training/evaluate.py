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

from harkline_training.dataset import Example, System, evaluation_examples, split_systems, without_level
from harkline_training.metrics import Judged

_LINES_A_TEMPLATE = 3


class LabelledSet(NamedTuple):
    """Lines with their truth; lines of one template are judged as one."""

    name: str
    inputs: list[str]
    templates: list[Judged]  # one for each input, its score not yet known


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
            level=template.level,
            reason=template.reason,
            words=_words(model_input),
        )
        for model_input, template in examples
    ]
    return LabelledSet(name, [example.model_input for example in examples], truths)


def unseen_set(systems: Sequence[System], folds: int, measured: int) -> tuple[LabelledSet, list[slice]]:
    """Return the systems of the first `measured` of `folds` folds as one set, and which of its lines each fold held out."""
    examples: list[Example] = []
    parts = []
    for fold in range(measured):
        held_out = evaluation_examples(split_systems(systems, folds, fold).held_out)
        parts.append(slice(len(examples), len(examples) + len(held_out)))
        examples.extend(held_out)
    return corpus_set("unseen systems", examples), parts


def outside_sets(directory: Path) -> list[LabelledSet]:
    """Read every `*.jsonl` under a folder of labelled lines (fields: text, label, severity, template, system, weight).

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
            labelled.inputs.append(without_level(row["text"]))
            labelled.templates.append(
                Judged(
                    name=template,
                    critical=row["label"] == "critical",
                    score=0.0,
                    system=row["system"],
                    category="",
                    weight=lines / len(scored),
                    level=row.get("severity") or "",
                    reason=row.get("reason", ""),
                    words=_words(labelled.inputs[-1]),
                )
            )
    return labelled


def judge(
    labelled: LabelledSet, line_scores: NDArray[np.floating], line_chances: NDArray[np.floating] | None = None
) -> list[Judged]:
    """Return one judgement a template: the mean score of its lines, standing for all of them.

    `line_scores` is (lines,); `line_chances` (lines, levels) holds the probability of each level, where the scorer gives them.
    """
    members: dict[str, list[int]] = {}
    for index, truth in enumerate(labelled.templates):
        members.setdefault(truth.name, []).append(index)
    return [
        labelled.templates[indexes[0]]._replace(
            score=float(line_scores[indexes].mean()),
            weight=sum(labelled.templates[index].weight for index in indexes),
            chances=() if line_chances is None else tuple(line_chances[indexes].mean(axis=0).tolist()),
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
    labelled, parts = unseen_set(systems, folds, measured)
    return labelled, np.concatenate([logits_by(fold, labelled.inputs[part]) for fold, part in enumerate(parts)])


def _words(model_input: str) -> int:
    """Return the words of the line itself, without the level that stands before it."""
    return len(model_input.partition(" | ")[2].split())
