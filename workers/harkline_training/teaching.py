"""Teach a model a person's labels, and measure what that did: on labels it had not seen, and on a part of the corpus that it was not reminded of.

**The threshold** moves along with the scores. Teaching shifts all scores a little, towards whichever side most labels are on; how far is read from
the held-back corpus, as the median change of log-odds of its critical lines and of its others, and the threshold in force, whether it shipped or came
from `harkline calibrate`, is shifted as far. So teaching changes verdicts on what was labelled and its like, and not how readily the model rings in
general. (To fix the share of held-back lines that ring instead would raise the threshold a little with every lesson: the model has seen those lines
when it was made, and is surer of them than of any line it will meet.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from tokenizers import Tokenizer

from harkline_training.calibrate import scores
from harkline_training.comparison import Numbers, chances_of, log_odds, numbers_of, shifted
from harkline_training.dataset import evaluation_examples
from harkline_training.lessons import Case, Split, folds_of, lessons_of
from harkline_training.train import Recipe, learn, logits_of
from harkline_workers.backends.encoder import PackedEncoder

_LINES_AT_ONCE = 128


class Taught(NamedTuple):
    """What came of teaching."""

    encoder: PackedEncoder
    threshold: float
    labels: tuple[Numbers, Numbers] | None  # before and after, on labels held out; None where none could be
    corpus: tuple[Numbers, Numbers]  # the same on the held-back part of the corpus
    right: tuple[int, int]  # cases that the model judges as the labels say, before and after


class Pupil(NamedTuple):
    """A model to teach, and how its logits are read."""

    encoder: PackedEncoder
    tokenizer: Tokenizer
    temperature: float
    threshold: float
    known: frozenset[str] = frozenset()  # marks of what it was taught before


class _Rehearsed(NamedTuple):
    """The held-back corpus as the model before saw it."""

    inputs: list[str]
    critical: NDArray[np.bool_]
    scores: NDArray[np.float64]


def teach(
    pupil: Pupil, cases: Sequence[Case], corpus: Split, recipe: Recipe, keep_share: float, progress: Progress
) -> Taught:
    """Teach all cases, after measuring on folds of them what teaching is worth. `keep_share` of the lines of an epoch come from the corpus."""
    examples = evaluation_examples(corpus.held_back, renderings=1)
    kept = _Rehearsed(
        [example.model_input for example in examples],
        np.array([example.template.critical for example in examples]),
        _scores(pupil, [example.model_input for example in examples], progress, "measuring what it knows"),
    )
    critical = np.array([case.critical for case in cases])
    before = _scores(pupil, [case.model_input for case in cases], progress, "measuring what it makes of the labels")
    folds, measured = folds_of(cases, pupil.known)
    after = np.full(len(cases), np.nan)
    for fold in range(measured):
        held_out = np.flatnonzero(folds == fold).tolist()
        shown = [case for case, place in zip(cases, folds, strict=True) if place != fold]
        if not held_out or not shown:
            continue
        title = f"without part {fold + 1} of {measured}" if measured > 1 else "without the labels held out"
        model, _, threshold = _taught(pupil, shown, corpus, kept, recipe, keep_share, progress, title)
        found = _scores(
            model, [cases[place].model_input for place in held_out], progress, "judging what it had not seen"
        )
        after[held_out] = shifted(found, threshold, pupil.threshold)
    model, kept_after, threshold = _taught(pupil, cases, corpus, kept, recipe, keep_share, progress, "with all labels")
    known = _scores(model, [case.model_input for case in cases], progress, "judging what it was told")
    seen = ~np.isnan(after)
    return Taught(
        encoder=model.encoder,
        threshold=threshold,
        labels=(
            numbers_of(critical[seen], before[seen], pupil.threshold),
            numbers_of(critical[seen], after[seen], pupil.threshold),
        )
        if seen.any()
        else None,
        corpus=(
            numbers_of(kept.critical, kept.scores, pupil.threshold),
            numbers_of(kept.critical, kept_after, threshold),
        ),
        right=(
            int(((before >= pupil.threshold) == critical).sum()),
            int(((known >= threshold) == critical).sum()),
        ),
    )


def _taught(
    pupil: Pupil,
    cases: Sequence[Case],
    corpus: Split,
    kept: _Rehearsed,
    recipe: Recipe,
    keep_share: float,
    progress: Progress,
    title: str,
) -> tuple[Pupil, NDArray[np.float64], float]:
    """Return a taught model, its scores of the held-back corpus, and its threshold."""
    encoder = learn(
        pupil.encoder,
        pupil.tokenizer,
        lambda epoch: lessons_of(cases, corpus.rehearsed, keep_share, recipe, epoch),
        recipe,
        progress,
        f"teaching {title}",
    )
    model = pupil._replace(encoder=encoder)
    found = _scores(model, kept.inputs, progress, "measuring what it still knows")
    return model, found, threshold_after(pupil.threshold, kept.critical, kept.scores, found)


def threshold_after(
    threshold: float, critical: NDArray[np.bool_], before: NDArray[np.float64], after: NDArray[np.float64]
) -> float:
    """Return the threshold that has moved as far as the scores of known lines have: the mean of the two sides' median change, in log-odds.

    Medians, because teaching moves a few lines far and the others hardly; of the two sides, because lines that the model is less sure of than it was
    move towards the middle from either. The result lies in 0.05 .. 0.95.
    """
    change = log_odds(after) - log_odds(before)
    shift = np.mean([np.median(change[side]) for side in (critical, ~critical) if side.any()])
    return float(np.clip(round(float(chances_of(log_odds(threshold) + shift)), 4), 0.05, 0.95))


def _scores(pupil: Pupil, inputs: Sequence[str], progress: Progress, title: str) -> NDArray[np.float64]:
    bar = progress.add_task(title, total=len(inputs))
    found = np.empty(len(inputs))
    # Of like lengths, so that few tokens are padding.
    order = sorted(range(len(inputs)), key=lambda place: len(inputs[place]))
    for start in range(0, len(order), _LINES_AT_ONCE):
        places = order[start : start + _LINES_AT_ONCE]
        logits = logits_of(pupil.encoder, pupil.tokenizer, [inputs[place] for place in places])
        found[places] = scores(logits, pupil.temperature)
        progress.advance(bar, len(places))
    progress.remove_task(bar)
    return found
