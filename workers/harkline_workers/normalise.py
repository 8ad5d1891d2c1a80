"""Turn a raw line into the text that the model reads, once, the same way in training and in serving.

The result is the *complete* model input and therefore the cache key: two lines with the same input are the same line to us. Whatever the model
may use must survive here (is a count zero or not, which class of HTTP status, which exit code, the order of an amount, the last attempt or one of
several), and whatever it must not tell apart must not (addresses, ids, times, hosts in headers).

A line costs a few microseconds: its runs of digits are split off, what remains is its shape, and all that follows from the shape is remembered
(`shape.py`). Only the numbers that mean something are looked at again.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from harkline_workers.levels import LEVELS, canonical_level, level_of_number, level_of_priority
from harkline_workers.shape import Plan, Read, plan

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LEVELS", "NORMALISER_VERSION", "Normalised", "canonical_level", "normalise"]

# Any change of what `normalise` returns is a change of the model's input: raise this, retrain, and old caches fall away by themselves.
NORMALISER_VERSION = "2"

# Longer lines keep their head and their tail: the head names the event, the tail often holds the cause. In characters; the tokeniser cuts again.
_HEAD_CHARS = 700
_TAIL_CHARS = 350
_SHAPES_REMEMBERED = 16_384
_VALUES_REMEMBERED = 65_536

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
# C0, DEL, C1, zero-width and bidirectional controls: nothing a model or a terminal should see.
_CONTROLS = dict.fromkeys(
    [*range(0x20), *range(0x7F, 0xA0), *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF],
    " ",
)
_HAS_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")

# Words that are ids by their looks: hexadecimal, and letters among digits.
_ID = re.compile(
    r"""(?<![A-Za-z0-9])(?:0x[0-9a-fA-F]+
      | (?=[a-fA-F]*[0-9])[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*
      | (?=[A-Za-z]*[0-9]+[A-Za-z]+[0-9])[A-Za-z0-9]{7,}
    )(?![A-Za-z0-9])""",
    re.VERBOSE,
)
_DIGITS = re.compile(r"([0-9]+)")

_plan_of = lru_cache(_SHAPES_REMEMBERED)(plan)


class Normalised(NamedTuple):
    """What the model reads of one line, and what a person sees of it."""

    model_input: str  # level, then template: the complete input, and the cache key
    template: str  # the message with its variable parts masked as `#`
    level: str  # one of LEVELS as logged, or "" where the line carries none


def normalise(message: str, level: str = "") -> Normalised:
    """Return the model's input for one raw message (any length, any characters) and its logged level, which may be empty.

    A level given beside the message wins over one found in its header; the header's token is taken out of the text either way. Never raises.
    """
    text = message
    if len(text) > _HEAD_CHARS + _TAIL_CHARS:
        text = f"{text[:_HEAD_CHARS]} ... {text[-_TAIL_CHARS:]}"
    if not text.isprintable() and _HAS_CONTROLS.search(text):
        text = _ESCAPES.sub("", text).translate(_CONTROLS)
    parts = _DIGITS.split(text)
    if any(map(str.isalpha, parts[2:-1:2])) and any(piece.isalpha() and piece != "T" for piece in parts[2:-1:2]):
        # Letters between digits: most lines have none, so most never pay for the search.
        parts = _DIGITS.split(_ID.sub("1", text))
    known = _plan_of("0".join(parts[::2]))
    reads = known.reads
    digits = parts[1::2]
    given = canonical_level(level) if level else ""
    if not given:
        given = known.level or _level_in_digits(known, digits)
    if not reads:
        return _assembled(known.pieces, (), given)
    return _assembled(known.pieces, tuple([_READERS[read.kind](digits, read) for read in reads]), given)


@lru_cache(_VALUES_REMEMBERED)
def _assembled(pieces: tuple[str, ...], values: tuple[str, ...], level: str) -> Normalised:
    template = pieces[0] + "".join(value + piece for value, piece in zip(values, pieces[1:], strict=True))
    return Normalised(f"{level or 'none'} | {template}", template, level)


def _level_in_digits(known: Plan, digits: list[str]) -> str:
    if known.numbered_level >= 0:
        return level_of_number(digits[known.numbered_level])
    if known.priority >= 0:
        return level_of_priority(digits[known.priority])
    return ""


def _zero(digits: list[str], read: Read) -> str:
    if digits[read.first].strip("0") or (read.second >= 0 and digits[read.second].strip("0")):
        return "#"
    return "0"


def _status(digits: list[str], read: Read) -> str:
    value = digits[read.first]
    return f"{value[0]}xx" if len(value) == 3 and value[0] in "12345" else _exit(digits, read)


def _exit(digits: list[str], read: Read) -> str:
    value = digits[read.first].lstrip("0") or "0"
    return value if len(value) < 3 or (len(value) == 3 and value < "256") else "#"


def _ratio(digits: list[str], read: Read) -> str:
    nth = digits[read.first].lstrip("0")
    if not nth:
        return "0"
    return "all" if nth == digits[read.second].lstrip("0") else "#"


def _share(digits: list[str], read: Read) -> str:
    """Round a percentage or a temperature down to fives: nearly full is not full, and 75 C is not 95 C."""
    value = _amount_of(digits, read)
    if value == 0:
        return "0"
    if value < 1:
        return "0.5"
    if value < 5:
        return "2"
    if 99 <= value < 100:
        return "99"
    return str(5 * int(min(value, 200.0) / 5))


def _amount(digits: list[str], read: Read) -> str:
    """Round an amount down to 1, 2 or 5 and zeros: a lag of 7200 s and one of 2 s must differ, 7200 and 7300 need not."""
    whole = digits[read.first].lstrip("0")
    if not whole:
        return "0" if _zero(digits, read) == "0" else "0.5"
    first = "5" if whole[0] >= "5" else "2" if whole[0] >= "2" else "1"
    return first + "0" * min(len(whole) - 1, 6)


def _amount_of(digits: list[str], read: Read) -> float:
    whole = digits[read.first][:6]
    return float(f"{whole}.{digits[read.second][:6]}") if read.second >= 0 else float(whole)


def _last(digits: list[str], read: Read) -> str:  # noqa: ARG001 - a reader's signature
    return "#"


_READERS: dict[str, Callable[[list[str], Read], str]] = {
    "zero": _zero,
    "status": _status,
    "exit": _exit,
    "ratio": _ratio,
    "last": _last,
    "share": _share,
    "amount": _amount,
}
