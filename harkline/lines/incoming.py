"""The schema of a line as senders write it in JSON, and the patience with those who write JSON that is none.

Fields: `message` (or `msg`, `log`, `line`), `service`, `environment`, `timestamp`, `level` (or `severity`, `lvl`), `id`, `labels`. Unknown
fields are ignored, null means absent. NaN, raw control characters and lone surrogates are accepted (the last as U+FFFD), one line at a time,
by the slow path.
"""

from __future__ import annotations

import json
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

MAX_FIELD_CHARS = 256
MAX_LABELS = 64
MAX_LABEL_CHARS = 4096

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


def _valid_text(text: str) -> str:
    """Replace lone surrogates, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
