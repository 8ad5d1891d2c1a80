"""From decoded items and plain messages to LogLines within their limits. One pass, one object per line: this is the intake's hot loop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from harkline.contract import LogLine
from harkline.lines.faults import Rejected
from harkline.lines.incoming import Bad, Incoming
from harkline.lines.timestamps import epoch_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harkline.lines.incoming import Item, Label
    from harkline.settings import Settings

# Between the head and the tail of a line that was too long to keep whole.
CUT = " ... "


class Limits(NamedTuple):
    """The bounds and habits a decoder keeps to, from the settings."""

    max_line_bytes: int
    kept_line_chars: int
    max_request_lines: int
    join_traces: bool


class Defaults(NamedTuple):
    """What is said of every line that does not say it of itself."""

    service: str = ""
    environment: str = ""
    level: str = ""


class Decoded(NamedTuple):
    """Lines in the order in which they were sent, and those that are none. Every index that is not rejected is a line's."""

    lines: list[LogLine]
    rejected: list[Rejected]


def limits_of(settings: Settings) -> Limits:
    """Return the limits that the settings say."""
    return Limits(settings.max_line_bytes, settings.kept_line_chars, settings.max_request_lines, settings.join_traces)


def to_lines(items: Iterable[Item], defaults: Defaults, limits: Limits) -> Decoded:
    """Turn decoded items into lines, and say of each that is none what is wrong with it."""
    lines: list[LogLine] = []
    rejected: list[Rejected] = []
    short_chars = _short_chars(limits)
    default_service, default_environment, default_level = defaults
    for index, entry in enumerate(items):
        if isinstance(entry, Incoming):
            item = entry
        elif isinstance(entry, Bad):
            rejected.append(Rejected(index, entry.code))
            continue
        else:
            item = Incoming(entry)
        message = item.message or item.msg or item.log or item.line
        if not message or message.isspace():
            rejected.append(Rejected(index, "missing_message"))
            continue
        if len(message) > short_chars:
            if len(message.encode()) > limits.max_line_bytes:
                rejected.append(Rejected(index, "line_too_long"))
                continue
            message = shorten(message, limits.kept_line_chars)
        timestamp = None
        if item.timestamp is not None and item.timestamp != "":
            timestamp = epoch_seconds(item.timestamp)
            if timestamp is None:
                rejected.append(Rejected(index, "bad_timestamp"))
                continue
        level = item.level
        if level is None:
            level = item.lvl if item.severity is None else item.severity
        if level is None or level == "":
            level = default_level
        lines.append(
            LogLine(
                message,
                item.service or default_service,
                item.environment or default_environment,
                timestamp,
                level if isinstance(level, str) else str(level),
                "" if item.id is None else item.id if isinstance(item.id, str) else str(item.id),
                _label_texts(item.labels) if item.labels else None,
            )
        )
    return Decoded(lines, rejected)


def messages_to_lines(messages: Sequence[str], defaults: Defaults, limits: Limits) -> Decoded:
    """Turn plain messages, none of them blank, into lines; those that are too long are rejected."""
    service, environment, level = defaults
    if not messages or len(max(messages, key=len)) <= _short_chars(limits):
        return Decoded([LogLine(message, service, environment, None, level) for message in messages], [])
    lines, rejected = [], []
    for index, message in enumerate(messages):
        if len(message.encode()) > limits.max_line_bytes:
            rejected.append(Rejected(index, "line_too_long"))
        else:
            lines.append(LogLine(shorten(message, limits.kept_line_chars), service, environment, None, level))
    return Decoded(lines, rejected)


def shorten(message: str, kept_chars: int) -> str:
    """Return the message, or its head and its tail, `kept_chars` characters in all."""
    if len(message) <= kept_chars:
        return message
    tail = (kept_chars - len(CUT)) // 2
    return message[: kept_chars - len(CUT) - tail] + CUT + message[-tail:]


def _short_chars(limits: Limits) -> int:
    """Return the characters that are short enough by any measure: UTF-8 takes up to four bytes for one."""
    return min(limits.kept_line_chars, limits.max_line_bytes // 4)


def _label_texts(labels: dict[str, Label]) -> dict[str, str]:
    """Numbers, booleans and nulls become text: a label is for reading."""
    return {name: label if isinstance(label, str) else json.dumps(label) for name, label in labels.items()}
