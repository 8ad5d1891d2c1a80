"""Read the worst errors: what the corpus should teach next is what its model still gets wrong on systems that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from harkline_training.evaluate import LabelledSet
from harkline_training.metrics import Judged
from harkline_workers.normalise import LEVELS

# What errors are counted by, in the order of the page.
_KEYS: tuple[tuple[str, Callable[[Judged], str]], ...] = (
    ("contrast", lambda one: one.contrast),
    ("category", lambda one: one.category),
    ("level", lambda one: one.level),
    ("length", lambda one: one.length),
    ("system", lambda one: one.system),
    ("reason", lambda one: one.reason),
)
_REASONS_SHOWN = 40
_CHARS_SHOWN = 300


class Count(NamedTuple):
    """How many of one kind went wrong, on either side."""

    kind: str
    critical: int
    missed: int
    quiet: int
    rang: int

    @property
    def wrong(self) -> int:
        """Errors of both sides."""
        return self.missed + self.rang


def count_errors(judged: Sequence[Judged], key: Callable[[Judged], str], threshold: float) -> list[Count]:
    """Count misses and false alarms by a key, the kind with most errors first. Templates whose key is empty are left out."""
    kinds: dict[str, list[int]] = {}
    for one in judged:
        if kind := key(one):
            counts = kinds.setdefault(kind, [0, 0, 0, 0])
            place = 0 if one.critical else 2
            counts[place] += 1
            counts[place + 1] += (one.score >= threshold) != one.critical
    return sorted(
        (Count(kind, *counts) for kind, counts in kinds.items()), key=lambda count: (-count.wrong, count.kind)
    )


def errors_page(sets: Sequence[tuple[LabelledSet, Sequence[Judged]]], threshold: float, worst: int) -> str:
    """Return a Markdown page: for each set its counts, then its worst misses and its worst false alarms with their scores."""
    return "\n".join(
        ["# What the model gets wrong", "", f"Threshold {threshold:.3f}."]
        + [line for labelled, judged in sets for line in _section(labelled, judged, threshold, worst)]
    )


def _section(labelled: LabelledSet, judged: Sequence[Judged], threshold: float, worst: int) -> list[str]:
    missed = sorted((one for one in judged if one.critical and one.score < threshold), key=lambda one: one.score)
    rang = sorted((one for one in judged if not one.critical and one.score >= threshold), key=lambda one: -one.score)
    critical = sum(one.critical for one in judged)
    lines = [
        "",
        f"## {labelled.name}: {len(missed)} of {critical} missed, {len(rang)} of {len(judged) - critical} rang falsely",
    ]
    for name, key in _KEYS:
        counts = count_errors(judged, key, threshold)
        if len(counts) > 1:
            lines += _table(name, counts[:_REASONS_SHOWN] if name == "reason" else counts)
    texts: dict[str, str] = {}
    for truth, text in zip(labelled.templates, labelled.inputs, strict=True):
        texts.setdefault(truth.name, text.partition(" | ")[2])
    for title, ones in (("Worst misses", missed), ("Worst false alarms", rang)):
        lines += ["", f"### {title}, {min(worst, len(ones))} of {len(ones)}", ""]
        lines += [_line(one, texts[one.name]) for one in ones[:worst]]
    return lines


def _table(name: str, counts: Sequence[Count]) -> list[str]:
    head = ["", f"| {name} | critical | missed | share | quiet | rang | share |", "|---|---|---|---|---|---|---|"]
    return head + [
        f"| {one.kind} | {one.critical} | {one.missed} | {_share(one.missed, one.critical)} |"
        f" {one.quiet} | {one.rang} | {_share(one.rang, one.quiet)} |"
        for one in counts
    ]


def _line(one: Judged, text: str) -> str:
    """Return one error as a list item; what is code to Markdown stays one span, whatever the line holds."""
    guessed = LEVELS[max(range(len(LEVELS)), key=lambda level: one.chances[level])] if one.chances else "?"
    facts = ", ".join(
        fact for fact in (one.contrast if one.contrast != "none" else "", one.category, one.reason) if fact
    )
    shown = text.replace("`", "'")[:_CHARS_SHOWN]
    return f"- {one.score:.3f} {one.level or '?'} taken for {guessed} [{one.system}{': ' + facts if facts else ''}] `{shown}`"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"
