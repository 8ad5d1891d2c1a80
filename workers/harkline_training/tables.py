"""Show reports to people: as Markdown in the model card, as tables on a terminal. The same columns in both."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from math import isnan

from rich.table import Table

from harkline_training.curves import OperatingPoint
from harkline_training.metrics import Summary
from harkline_training.record import Row

_Column = tuple[str, Callable[[Row], str]]

_HEAD_WIDTH = 8  # of a column on a terminal, in characters; words are left whole


def number(value: float, digits: int = 3) -> str:
    """Return a share as `.896`, which leaves room for its neighbours, other numbers as they are, and - for what cannot be told."""
    shown = "-" if isnan(value) else f"{value:.{digits}f}"
    return shown.removeprefix("0") if shown.startswith("0.") else shown


def _interval(value: float, low: float, high: float) -> str:
    return number(value) if isnan(low) else f"{number(value)} ({number(low)}-{number(high)})"


def _best(got: Summary) -> str:
    return "-" if isnan(got.best_threshold) else f"{number(got.best_f1)} at {number(got.best_threshold, 2)}"


_PRECISION: _Column = (
    "AP (95%)",
    lambda row: _interval(
        row.summary.average_precision, row.summary.average_precision_low, row.summary.average_precision_high
    ),
)
_F1: _Column = ("F1 (95%)", lambda row: _interval(row.summary.f1, row.summary.f1_low, row.summary.f1_high))
_COUNTS: tuple[_Column, ...] = (
    ("templates", lambda row: str(row.summary.templates)),
    ("critical", lambda row: str(row.summary.critical)),
)
_RATES: tuple[_Column, ...] = (
    ("recall", lambda row: number(row.summary.recall)),
    ("false alarms in 1,000", lambda row: number(row.summary.false_alarms_per_thousand, 0)),
    ("calibration error", lambda row: number(row.summary.calibration_error)),
)

SCORERS: tuple[_Column, ...] = (
    ("scorer", lambda row: row.scorer),
    _PRECISION,
    _F1,
    ("best F1", lambda row: _best(row.summary)),
    ("recall at 5 in 1,000", lambda row: number(row.summary.recall_at_budget)),
    *_RATES,
    ("5-way AUC", lambda row: number(row.summary.level_auc)),
    ("ordered AUC", lambda row: number(row.summary.ordered_auc)),
)
SLICES: tuple[_Column, ...] = (("lines", lambda row: row.lines), *_COUNTS, _PRECISION, _F1, *_RATES)

_OPERATING: tuple[tuple[str, Callable[[OperatingPoint], str]], ...] = (
    ("threshold", lambda point: number(point.threshold, 2)),
    ("F1", lambda point: number(point.f1)),
    ("precision", lambda point: number(point.precision)),
    ("recall", lambda point: number(point.recall)),
    ("routine alarms in 1,000 templates", lambda point: number(point.routine_alarms_per_thousand, 0)),
    ("false alarms in 1,000 lines", lambda point: number(point.false_alarms_per_thousand, 0)),
)


def markdown(rows: Sequence[Row], columns: Sequence[_Column]) -> str:
    """Return rows as a Markdown table."""
    return _markdown([title for title, _ in columns], [[cell(row) for _, cell in columns] for row in rows])


def terminal(title: str, rows: Sequence[Row], columns: Sequence[_Column]) -> Table:
    """Return rows as a table for a terminal."""
    return _terminal(title, [name for name, _ in columns], [[cell(row) for _, cell in columns] for row in rows])


def operating_markdown(points: Sequence[OperatingPoint]) -> str:
    """Return what each threshold would mean as a Markdown table."""
    return _markdown([title for title, _ in _OPERATING], [[cell(point) for _, cell in _OPERATING] for point in points])


def operating_terminal(title: str, points: Sequence[OperatingPoint]) -> Table:
    """Return what each threshold would mean as a table for a terminal."""
    return _terminal(
        title, [name for name, _ in _OPERATING], [[cell(point) for _, cell in _OPERATING] for point in points]
    )


def _markdown(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    head = [f"| {' | '.join(titles)} |", f"{'|---' * len(titles)}|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in cells)])


def _terminal(title: str, titles: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    for place, name in enumerate(titles):
        head = textwrap.fill(name, _HEAD_WIDTH, break_long_words=False)
        table.add_column(head, justify="left" if place == 0 else "right", no_wrap=True)
    for row in cells:
        table.add_row(*row)
    return table
