"""Turn a person's labels into lessons: repeats counted, contradictions set aside, and folds in which no template is on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harkline_training.dataset import System, Template, split_systems, without_level
from harkline_training.train import Lesson, Recipe, corpus_lessons
from harkline_workers.labels import Label
from harkline_workers.normalise import LEVELS, normalise

# How a labelled line shows its level while it is learned: as given, taken away, or replaced by one drawn at random.
_AS_GIVEN, _REMOVED = 0.6, 0.3
# A part of the corpus that teaching never shows, in systems: what it forgets is measured there.
_HELD_BACK_PARTS, _HELD_BACK_SEED = 15, 3
# So few labels that one fold of them would prove nothing are each held out once.
CROSS_VALIDATED_CASES = 300
_FOLDS, _FOLDS_OF_MANY = 3, 5
# Labels beside which less of the corpus than this is forgotten too fast.
_LEAST_REHEARSED = 256
_MARK_CHARS = 8


class Case(NamedTuple):
    """One distinct input of the model, and what was said of it."""

    model_input: str
    message: str  # one of those that it stands for
    template: str
    critical: bool
    level: int | None  # its place in LEVELS; None where only the side of the pager was said
    rows: tuple[int, ...]  # of the file
    level_decides: bool  # whether labels of the same template differ with the level that the line carries


class Gathered(NamedTuple):
    """The labels of a file, one case for each distinct input."""

    cases: list[Case]
    repeats: int  # rows that say again what another said
    contradictions: list[tuple[int, ...]]  # rows that say both of one input; they teach nothing


class Split(NamedTuple):
    """The corpus, as far as it is rehearsed, and the part that is held back."""

    rehearsed: list[System]
    held_back: list[System]


def gather(labels: Sequence[Label]) -> Gathered:
    """Group labels by the model's input."""
    by_input: dict[str, list[Label]] = {}
    template_of = {}
    for label in labels:
        normalised = normalise(label.line.message, label.line.level)
        by_input.setdefault(normalised.model_input, []).append(label)
        template_of[normalised.model_input] = normalised.template
    sides: dict[str, set[bool]] = {}
    for text, said in by_input.items():
        sides.setdefault(template_of[text], set()).update(label.critical for label in said)
    cases, contradictions = [], []
    for text, said in by_input.items():
        rows = tuple(label.row for label in said)
        if len({label.critical for label in said}) > 1:
            contradictions.append(rows)
            continue
        levels = {label.level for label in said}
        level = said[0].level if len(levels) == 1 else None
        template = template_of[text]
        cases.append(
            Case(text, said[0].line.message, template, said[0].critical, level, rows, len(sides[template]) > 1)
        )
    repeats = sum(len(case.rows) - 1 for case in cases)
    return Gathered(cases, repeats, contradictions)


def folds_of(cases: Sequence[Case], known: Container[str] = frozenset()) -> tuple[NDArray[np.int64], int]:
    """Return the fold of each case (n,), and how many of the folds are to be measured: all of few labels, one of many.

    Cases of one template share a fold, and each fold has its share of either side, as far as templates allow. Cases that the pupil was taught before
    (`known`, of `mark`) are in no fold, which is -1: it cannot be asked what it makes of lines unseen by them.
    """
    fresh = [case for case in cases if mark(case) not in known]
    folds, measured = (_FOLDS, _FOLDS) if len(fresh) <= CROSS_VALIDATED_CASES else (_FOLDS_OF_MANY, 1)
    is_critical = {case.template: case.critical for case in fresh}
    place: dict[str, int] = {}
    for side in (True, False):
        templates = sorted((name for name, critical in is_critical.items() if critical == side), key=_digest)
        # The smaller side's remainder goes to the last folds, the larger one's to the first.
        place |= {name: (at if side else -1 - at) % folds for at, name in enumerate(templates)}
    return np.array([place.get(case.template, -1) for case in cases], dtype=np.int64), measured


def mark(case: Case) -> str:
    """Return what a manifest remembers of a case that was taught: a digest of its template, which tells nothing of the text."""
    return _digest(case.template)[:_MARK_CHARS]


def marks_of(lessons: object) -> frozenset[str]:
    """Return the marks of all that a model was taught, from its manifest's `taught`."""
    texts = [lesson.get("marks", "") for lesson in lessons] if isinstance(lessons, list) else []
    return frozenset(text[at : at + _MARK_CHARS] for text in texts for at in range(0, len(text), _MARK_CHARS))


def split_corpus(systems: Sequence[System]) -> Split:
    """Hold back a fixed part of the corpus, by system."""
    split = split_systems(systems, _HELD_BACK_PARTS, 0, _HELD_BACK_SEED)
    return Split(split.train, split.held_out)


def lessons_of(
    cases: Sequence[Case], rehearsed: Sequence[System], keep_share: float, recipe: Recipe, epoch: int
) -> list[Lesson]:
    """Return one epoch's lines, shuffled: every case once, and so much of the corpus that it makes up `keep_share` of them all."""
    rng = Random(f"teach:{recipe.seed}:{epoch}")
    lessons = [_case_lesson(case, rng) for case in cases]
    lessons += corpus_lessons(_sample(rehearsed, _rehearsed_lines(len(cases), keep_share), rng), recipe, epoch)
    rng.shuffle(lessons)
    return lessons


def _case_lesson(case: Case, rng: Random) -> Lesson:
    draw = rng.random()
    text = case.model_input
    if not case.level_decides and draw >= _AS_GIVEN:
        is_removed = draw < _AS_GIVEN + _REMOVED
        text = without_level(case.message) if is_removed else normalise(case.message, rng.choice(LEVELS)).model_input
    return Lesson(text, case.critical, case.level)


def _rehearsed_lines(cases: int, keep_share: float) -> int:
    if keep_share == 0:
        return 0
    return max(_LEAST_REHEARSED, round(cases * keep_share / (1 - keep_share)))


def _sample(systems: Sequence[System], templates: int, rng: Random) -> list[System]:
    """Draw templates from a corpus, all of it where there are no more."""
    everything = [(place, template) for place, system in enumerate(systems) for template in system.templates]
    drawn: dict[int, list[Template]] = {}
    for place, template in rng.sample(everything, min(templates, len(everything))):
        drawn.setdefault(place, []).append(template)
    return [replace(systems[place], templates=tuple(found)) for place, found in sorted(drawn.items())]


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
