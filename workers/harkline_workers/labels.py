"""Read lines that people have labelled, for `harkline calibrate` and `harkline train`: CSV with a header, or JSONL.

A row is a line as `POST /logs` takes it (`message` or `msg`, `log`, `line`; perhaps `level`, `service`) and its `label`: `critical` or `not_critical`,
or one of the five levels. All problems are told at once, each with its row, and nothing is guessed: a wrong label teaches for ever.
"""

from __future__ import annotations

import csv
import io
import itertools
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from harkline.errors import HarklineError
from harkline.lines.decoded import Defaults, Limits, to_lines
from harkline.lines.faults import LINE_FAULTS
from harkline.lines.incoming import Bad, item_of_value
from harkline_workers.normalise import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harkline.contract import LogLine
    from harkline.lines.incoming import Item

CRITICAL, NOT_CRITICAL = "critical", "not_critical"
_SIDES = frozenset((CRITICAL, NOT_CRITICAL))
_CRITICAL_FROM = LEVELS.index("error")
_MESSAGES = ("message", "msg", "log", "line")
# Many a log has a `severity` of its own, which is a level. Only one that holds nothing but these two words is a label.
_LABEL, _MAYBE_LABEL = "label", "severity"
_SHOWN_PROBLEMS = 10
_ROWS_LOOKED_AT = 100


class LabelsError(HarklineError):
    """The file of labels cannot be used as it is. `problems` holds one sentence for each row that is wrong."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self.problems = problems
        shown = [f"  {problem}" for problem in problems[:_SHOWN_PROBLEMS]]
        if len(problems) > _SHOWN_PROBLEMS:
            shown.append(f"  and {len(problems) - _SHOWN_PROBLEMS} more")
        super().__init__("\n".join([f"{path} cannot be used:", *shown]))


class Label(NamedTuple):
    """One line and what a person says of it."""

    row: int  # in the file, from 1, the header of a CSV counted
    line: LogLine
    critical: bool
    level: int | None  # its place in LEVELS; None where only the side of the pager is said


class _Row(NamedTuple):
    number: int
    fields: dict[str, object]


def has_labels(path: Path) -> bool:
    """Tell whether a file holds labels: a .csv always, a .jsonl or .ndjson where its first rows do. Raises OSError where there is no such file."""
    if path.suffix == ".csv":
        return True
    if path.suffix not in {".jsonl", ".ndjson"}:
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return _label_name(_jsonl_rows(itertools.islice(file, _ROWS_LOOKED_AT), [])) is not None


def read_labels(path: Path, limits: Limits) -> list[Label]:
    """Return the rows of a file of labels, in order. Raises LabelsError with every row that is wrong, OSError where there is no such file.

    `critical` is the level of that name, unless the file says `not_critical` anywhere or knows no other level: then it is only a side.
    """
    problems: list[str] = []
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelsError(path, [f"it is not UTF-8 (byte {error.start}); save it as UTF-8"]) from None
    rows = _csv_rows(text, problems) if path.suffix == ".csv" else _jsonl_rows(text.split("\n"), problems)
    name = _label_name(rows)
    if name is None:
        wanted = f"it needs a column `{_LABEL}`, each {CRITICAL} or {NOT_CRITICAL}, or one of {', '.join(LEVELS)}"
        found = f"; its first row has {', '.join(map(repr, rows[0].fields))}" if rows else "; it has no rows"
        raise LabelsError(path, [*problems, wanted + found])
    given = [row.fields.pop(name, None) for row in rows]
    words = [_word(label) for label in given]
    problems += [
        f"row {row.number}: its label is {label!r}, which is none of {', '.join((CRITICAL, NOT_CRITICAL, *LEVELS[:-1]))}"
        if label is not None
        else f"row {row.number}: it has no label"
        for row, label, word in zip(rows, given, words, strict=True)
        if word not in _SIDES and word not in LEVELS
    ]
    decoded = to_lines((_item(row) for row in rows), Defaults(), limits)
    problems += [f"row {rows[bad.index].number}: {LINE_FAULTS[bad.error]}" for bad in decoded.rejected]
    if problems:
        raise LabelsError(path, sorted(problems, key=_row_of))
    only_sides = NOT_CRITICAL in words or not any(word in LEVELS for word in words if word != CRITICAL)
    return [
        Label(row.number, line, *_meaning(word, only_sides))
        for row, word, line in zip(rows, words, decoded.lines, strict=True)
    ]


def _meaning(word: str, only_sides: bool) -> tuple[bool, int | None]:
    if word == NOT_CRITICAL or (word == CRITICAL and only_sides):
        return word == CRITICAL, None
    level = LEVELS.index(word)
    return level >= _CRITICAL_FROM, level


def _item(row: _Row) -> Item:
    if not any(row.fields.get(name) for name in _MESSAGES):
        return Bad("missing_message")
    return item_of_value(row.fields)


def _csv_rows(text: str, problems: list[str]) -> list[_Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    rows: list[_Row] = []
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            problems.append(f"row {reader.line_num}: no CSV ({error})")
            return rows
        if fields is None:
            return rows
        if None in fields or None in fields.values():
            problems.append(
                f"row {reader.line_num}: not as many values as the header has columns; quote values that hold the separator"
            )
            continue
        # An empty cell is how a CSV says that there is none.
        given: dict[str, object] = {
            name.strip().lower(): value if value.strip() else None for name, value in fields.items()
        }
        if any(given.values()):
            rows.append(_Row(reader.line_num, given))


def _delimiter(text: str) -> str:
    """Return what separates the header's columns: spreadsheets of half the world write semicolons."""
    header = text.split("\n", 1)[0]
    return max(",;\t", key=header.count)


def _jsonl_rows(lines: Iterable[str], problems: list[str]) -> list[_Row]:
    rows: list[_Row] = []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            fields = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            problems.append(f"row {number}: no JSON ({error})")
            continue
        if isinstance(fields, dict):
            rows.append(_Row(number, fields))
        else:
            problems.append(f"row {number}: no JSON object")
    return rows


def _label_name(rows: Iterable[_Row]) -> str | None:
    """Return the name of the column that holds the labels, or None."""
    maybe = False
    for row in rows:
        if _LABEL in row.fields:
            return _LABEL
        if _word(row.fields.get(_MAYBE_LABEL)) not in _SIDES:
            return None
        maybe = True
    return _MAYBE_LABEL if maybe else None


def _word(label: object) -> str:
    return label.strip().lower().replace(" ", "_").replace("-", "_") if isinstance(label, str) else ""


def _row_of(problem: str) -> int:
    return int(problem.split(":", 1)[0].removeprefix("row "))
