"""The schema of a line as senders write it, and its way into a LogLine. One pass, one object per line: this is the intake's hot loop.

Fields: `message` (or `msg`, `log`, `line`), `service`, `environment`, `timestamp`, `level` (or `severity`, `lvl`), `id`, `labels`. Unknown
fields are ignored, null means absent. Real senders write JSON that is none: NaN, raw control characters and lone surrogates are accepted
(the last as U+FFFD), one line at a time, by the slow path.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta

from harkline.contract import LogLine
from harkline_api.protocol import Decoded
from harkline_api.refusals import Refusal, Rejected
from harkline_api.timestamps import epoch_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harkline_api.protocol import Limits, Received

MAX_FIELD_CHARS = 256
MAX_LABELS = 64
MAX_LABEL_CHARS = 4096
# Between the head and the tail of a line that was too long to keep whole.
CUT = " ... "

Short = Annotated[str, Meta(max_length=MAX_FIELD_CHARS)]
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Label = Annotated[str, Meta(max_length=MAX_LABEL_CHARS)] | int | float | bool | None
Labels = Annotated[dict[Short, Label], Meta(max_length=MAX_LABELS)]

# What decoding JSON can raise: malformed or of the wrong type, not UTF-8, or nested past the interpreter's limit.
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Incoming(msgspec.Struct, gc=False):
    """A line as JSON brings it. Aliases are fields of their own, so that one typed decode sees them all."""

    message: str | None = None
    service: Short | None = None
    environment: Short | None = None
    timestamp: str | float | int | None = None
    level: Short | Number | None = None
    id: Short | Number | None = None
    labels: Labels | None = None
    msg: str | None = None
    log: str | None = None
    line: str | None = None
    severity: Short | Number | None = None
    lvl: Short | Number | None = None


class Bad(NamedTuple):
    """In the place of a line that could not be decoded."""

    code: str


Item = Incoming | str | Bad

_ALIAS_OF = {"msg": "message", "log": "message", "line": "message", "severity": "level", "lvl": "level"}
# Per field: its name, a struct of it alone (msgspec remembers how to convert structs, not unions), and the code where it does not fit.
_FIELDS = tuple(
    (
        field.name,
        msgspec.defstruct(f"Only_{field.name}", [(field.name, field.type)]),
        f"bad_{_ALIAS_OF.get(field.name, field.name)}",
    )
    for field in msgspec.structs.fields(Incoming)
)

_encoder = msgspec.json.Encoder()
# Reads what JSON forbids and senders write: NaN, raw control characters, lone surrogates.
LENIENT = json.JSONDecoder(strict=False)


class Defaults(NamedTuple):
    """What the request says of every line that does not say it of itself."""

    service: str = ""
    environment: str = ""
    level: str = ""


def defaults_of(received: Received) -> Defaults:
    """Read `?service=&environment=&level=`, or the headers X-Service, X-Environment and X-Level; the query wins."""
    values = []
    for name in Defaults._fields:
        value = received.args.get(name)
        if value is None:
            # WSGI hands headers over as latin-1, whatever they are.
            value = received.headers.get(f"X-{name}", "").encode("latin-1", "replace").decode("utf-8", "replace")
        if len(value) > MAX_FIELD_CHARS:
            raise Refusal(f"bad_{name}")
        values.append(value)
    return Defaults(*values)


def to_lines(items: Iterable[Item], defaults: Defaults, limits: Limits) -> Decoded:
    """Turn decoded items into lines, and say of each that is none what is wrong with it."""
    lines: list[LogLine] = []
    rejected: list[Rejected] = []
    # A message of at most this many characters is short enough by any measure: UTF-8 takes up to four bytes for one.
    short_chars = min(limits.kept_line_chars, limits.max_line_bytes // 4)
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


def shorten(message: str, kept_chars: int) -> str:
    """Return the message, or its head and its tail, `kept_chars` characters in all."""
    if len(message) <= kept_chars:
        return message
    tail = (kept_chars - len(CUT)) // 2
    return message[: kept_chars - len(CUT) - tail] + CUT + message[-tail:]


def item_of(raw: bytes) -> Item:
    """Decode one JSON value that the typed decoder refused, so that it is accepted after all, or the reason told. Never raises."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return Bad("bad_utf8")
    try:
        return item_of_value(LENIENT.decode(text))
    except RecursionError:
        return Bad("too_deep")
    except ValueError:  # also an integer of more than 4,300 digits
        return Bad("bad_json")


def item_of_value(value: object) -> Item:
    """Check one JSON value that Python's own, more lenient decoder read."""
    if isinstance(value, str):
        return _valid_text(value)
    if not isinstance(value, dict):
        return Bad("not_an_object")
    try:
        item = msgspec.convert(value, Incoming)
        _encoder.encode(item)
    except (msgspec.ValidationError, UnicodeEncodeError):  # the second: a lone surrogate
        return _repaired(value)
    return item


def _repaired(value: dict[str, object]) -> Item:
    fields = {}
    for name, alone, code in _FIELDS:
        found = value.get(name)
        if name == "labels" and isinstance(found, dict):
            found = {
                _valid_text(key): _valid_text(label) if isinstance(label, str) else label
                for key, label in found.items()
            }
        elif isinstance(found, str):
            found = _valid_text(found)
        elif isinstance(found, float) and name != "timestamp" and found.is_integer():
            found = int(found)  # JSON makes no difference between 50 and 50.0
        if found is None:
            continue
        try:
            fields[name] = getattr(msgspec.convert({name: found}, alone), name)
        except msgspec.ValidationError:
            return Bad(code)
    return Incoming(**fields)


def _label_texts(labels: dict[str, Label]) -> dict[str, str]:
    """Numbers, booleans and nulls become text: a label is for reading."""
    return {name: label if isinstance(label, str) else json.dumps(label) for name, label in labels.items()}


def _valid_text(text: str) -> str:
    """Replace lone surrogates, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
