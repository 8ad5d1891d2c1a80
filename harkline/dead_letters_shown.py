"""Dead letters as they are shown: one JSON object a line for programs, a table for people. What a line says is never more than text."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table
from rich.text import Text

from harkline.screen import inert

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harkline.contract import Verdict
    from harkline.dead_letters import Letter, Replayed

Form = Literal["table", "ndjson"]

_UNREADABLE = "written by another version of harkline, which can read it"
# Control characters that JSON lets stand as they are, and a terminal would obey.
_OBEYED = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def form_for(output: Form | None) -> Form:
    """Return the form that was asked for, else the one for where standard output goes."""
    return output or ("table" if sys.stdout.isatty() else "ndjson")


def json_line(value: Any) -> Text:
    """Return an object as JSON on one line, with nothing in it that a terminal would obey."""
    import msgspec  # noqa: PLC0415 - keeps `harkline --help` quick

    text = msgspec.json.encode(value).decode()
    return Text(_OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def form(letter: Letter) -> dict[str, Any]:
    """Return a letter as programs get it; fields of the line that say nothing are left out."""
    import msgspec  # noqa: PLC0415

    result: dict[str, Any] = {"id": letter.id, "set_aside_at": _utc(letter.set_aside_at)}
    if letter.content is None:
        return result | {"error": _UNREADABLE}
    accepted = letter.accepted_at
    result["accepted_at"] = None if accepted is None else _utc(accepted)
    result |= {"batch": letter.content.batch, "position": letter.content.position, "reason": letter.content.reason}
    said = msgspec.structs.asdict(letter.content.line)
    return result | {"line": {name: value for name, value in said.items() if value not in ("", None)}}


def table(letters: Iterable[Letter], *, expand: bool) -> Table:
    """Return letters as a table, one line each."""
    result = Table(box=None, pad_edge=False, expand=expand)
    for column in ("id", "set aside (UTC)", "service"):
        result.add_column(column, no_wrap=True)
    result.add_column("message", no_wrap=True, overflow="ellipsis", ratio=3)
    result.add_column("reason", no_wrap=True, overflow="ellipsis", ratio=2)
    for letter in letters:
        content = letter.content
        message, reason = (content.line.message, content.reason) if content is not None else ("", _UNREADABLE)
        cells = [inert(letter.service, 24), inert(message), inert(reason)]
        result.add_row(letter.id, f"{_utc(letter.set_aside_at):%m-%d %H:%M:%S}", *map(Text, cells))
    return result


def whole(letter: Letter) -> Table:
    """Return everything that is known of a letter, its whole line included."""
    result = Table(box=None, show_header=False, pad_edge=False)
    result.add_column(style="dim", no_wrap=True)
    result.add_column(overflow="fold")
    for name, text in _rows(letter):
        parts = [Text(inert(part, len(part) + 1)) for part in text.split("\n")]
        result.add_row(Text(inert(name, 80)), Text("\n").join(parts))
    return result


def outcome_form(one: Replayed, verdict: Verdict | None) -> dict[str, Any]:
    """Return what became of a replayed letter as programs get it."""
    import msgspec  # noqa: PLC0415

    told = {"id": one.letter.id, "outcome": _outcome(one, verdict), "batch": one.batch}
    return told if verdict is None else told | {"verdict": msgspec.to_builtins(verdict)}


def outcome_line(one: Replayed, verdict: Verdict | None) -> Text:
    """Return what became of a replayed letter as people read it."""
    outcome = _outcome(one, verdict)
    line = Text(f"{one.letter.id} ")
    if outcome == "judged" and verdict is not None:
        style = "bold red" if verdict.severity == "critical" else "green"
        line.append(f"{verdict.level} {verdict.score:.2f} ", style=style)
    else:
        line.append(f"{outcome} ", style="yellow")
    line.append(f"{inert(one.letter.service, 24)} ", style="cyan")
    line.append(inert(one.letter.content.line.message if one.letter.content is not None else _UNREADABLE))
    if verdict is not None:
        line.append(f"  [{inert(verdict.why, 160)}]", style="dim")
    elif one.batch:
        line.append(f"  [batch {one.batch}]", style="dim")
    return line


def _outcome(one: Replayed, verdict: Verdict | None) -> str:
    if not one.batch:
        return one.status
    if verdict is None:
        return "waiting"
    return "set aside again" if verdict.degraded else "judged"


def _rows(letter: Letter) -> list[tuple[str, str]]:
    """Return what is known of a letter as (name, text)."""
    rows = [("id", letter.id), ("set aside", f"{_utc(letter.set_aside_at):%Y-%m-%d %H:%M:%S.%f} UTC")]
    if letter.content is None:
        return [*rows, ("unreadable", _UNREADABLE)]
    content, line = letter.content, letter.content.line
    if letter.accepted_at is not None:
        rows.append(("accepted", f"{_utc(letter.accepted_at):%Y-%m-%d %H:%M:%S.%f} UTC"))
    rows += [("batch", content.batch), ("position", str(content.position)), ("reason", content.reason)]
    rows += [("service", line.service or "-"), ("environment", line.environment), ("level", line.level)]
    if line.timestamp is not None:
        rows.append(("timestamp", f"{line.timestamp:.3f} s since the epoch"))
    rows += [("line id", line.id), *((f"label {name}", value) for name, value in (line.labels or {}).items())]
    return [row for row in [*rows, ("message", line.message)] if row[1]]


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
