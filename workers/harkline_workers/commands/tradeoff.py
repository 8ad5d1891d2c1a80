"""How `harkline calibrate` shows what a threshold trades: lines that ring before and after, and the lines on either side of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from harkline.screen import inert
from harkline_workers.budget import HIGHEST, LOWEST, choose_threshold

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from harkline_workers.budget import Choice

_NEAREST = 10
_SHOWN_CHARS = 140
# Above this threshold a model rings for little but what it is surest of.
_DEAF_FROM = 0.9

REMEDY = "label what rings in vain and teach the model (`harkline train --from`), or allow a larger budget"


@dataclass(frozen=True, slots=True)
class Scored:
    """What was read, as arrays of one row for each distinct input of the model."""

    inputs: list[str]
    templates: NDArray[np.int64]  # (n,) inputs that differ in their level alone share a template
    quiet: NDArray[np.int64]  # (n,) lines that should not ring; all lines where nothing is labelled
    loud: NDArray[np.int64]  # (n,) lines labelled critical
    floored: NDArray[np.bool_]  # (n,) inputs under a floor, which ring whatever their score
    scores: NDArray[np.float64]  # (n,)

    def governed(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the scores and the quiet lines of what a threshold decides: inputs under no floor."""
        return self.scores[~self.floored], self.quiet[~self.floored]

    def ringing(self, threshold: float) -> int:
        """Return the quiet lines that a threshold lets ring."""
        scores, lines = self.governed()
        return int(lines[scores >= threshold].sum())

    def alarms(self, threshold: float) -> NDArray[np.bool_]:
        """Return which inputs ring, floors included, (n,)."""
        return (self.scores >= threshold) | self.floored


def show(out: Console, before: tuple[Scored, float], after: tuple[Scored, Choice], is_labelled: bool) -> None:
    """Print the table of before and after, the lines next to the new threshold, and what the numbers alone do not say."""
    scored, choice = after
    lines = int(scored.quiet.sum() + scored.loud.sum())
    table = Table(title=f"{lines:,} lines, {len(scored.inputs):,} distinct to the model", title_justify="left")
    for title in ("", "before", "after"):
        table.add_column(title, justify="right" if title else "left")
    columns = zip(_column(*before, is_labelled), _column(scored, choice.threshold, is_labelled), strict=True)
    for (title, was), (_, now) in columns:
        table.add_row(title, was, now)
    out.print(table)
    if scored.floored.any():
        out.print(
            f"{int(scored.floored.sum()):,} distinct lines are under a floor: they ring whatever the threshold, and are no part of the budget"
        )
    order = np.argsort(-scored.scores, kind="stable")
    order = order[~scored.floored[order]]
    rings = scored.scores[order] >= choice.threshold
    _list(out, "just above, ring", scored, order[rings][-_NEAREST:])
    _list(out, "just below, silent", scored, order[~rings][:_NEAREST])
    for sentence in _remarks(scored, choice):
        out.print(f"\n{sentence}")


def _column(scored: Scored, threshold: float, is_labelled: bool) -> list[tuple[str, str]]:
    alarms = scored.alarms(threshold)
    quiet = int(scored.quiet.sum())
    kind = "lines not critical" if is_labelled else "lines"
    ringing_templates = np.unique(scored.templates[alarms]).size
    column = [
        ("threshold", f"{threshold:.6g}"),
        (f"{kind} that ring by their score, of 1,000", _rate(scored.ringing(threshold), quiet)),
        (f"{kind} that ring by a floor, of 1,000", _rate(int(scored.quiet[scored.floored].sum()), quiet)),
        ("distinct templates that ring, of 1,000", _rate(ringing_templates, int(scored.templates.max()) + 1)),
    ]
    critical = int(scored.loud.sum())
    if critical:
        right = int(scored.loud[alarms].sum())
        f1 = 2 * right / (critical + right + int(scored.quiet[alarms].sum()))
        column += [("recall of critical lines", f"{right / critical:.3f}"), ("F1", f"{f1:.3f}")]
    return column


def _list(out: Console, title: str, scored: Scored, places: NDArray[np.int64]) -> None:
    out.print(f"\n[bold]{title}[/]" if places.size else f"\n[bold]{title}:[/] none")
    for place in places.tolist():
        lines = int(scored.quiet[place] + scored.loud[place])
        out.print(
            f"  {scored.scores[place]:.4f} {lines:>9,} x  {inert(scored.inputs[place], _SHOWN_CHARS)}", markup=False
        )


def _remarks(scored: Scored, choice: Choice) -> list[str]:
    """Say why the budget is not kept or not used up, and what a threshold this far out means."""
    remarks = []
    if not choice.is_possible:
        remarks.append(
            f"[bold yellow]the budget cannot be kept:[/] {choice.ringing:,} lines score {HIGHEST} or more, and {choice.allowed:,} may ring"
        )
    elif choice.bound == LOWEST:
        remarks.append(
            f"the budget would allow more: even at {LOWEST}, where calibration stops, {choice.ringing:,} lines ring and {choice.allowed:,} may"
        )
    elif choice.first_silent is not None:
        scores, lines = scored.governed()
        tied = int(lines[scores == choice.first_silent].sum())
        if tied > 1:
            remarks.append(
                f"{choice.ringing:,} lines ring and {choice.allowed:,} may: the next {tied:,} have one score ({choice.first_silent:.4f}), so they ring"
                " together or not at all"
            )
        if tied > max(1, choice.allowed):
            others = scores != choice.first_silent
            without = choose_threshold(scores[others], lines[others], choice.allowed).threshold
            remarks.append(
                f"these {tied:,} alone exceed the budget; without them the threshold would be {without:g}: label them not_critical and teach the model"
                " (`harkline train --from`), then calibrate again"
            )
    if choice.threshold > _DEAF_FROM:
        remarks.append(
            f"[yellow]above {_DEAF_FROM} the model rings only for what it is surest of, and misses much: {REMEDY}[/]"
        )
    return remarks


def _rate(part: int, whole: int) -> str:
    return f"{1000 * part / whole:.2f}" if whole else "-"
