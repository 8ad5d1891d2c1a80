"""Turn a raw line into the text that the model reads, once, the same way in training and in serving.

The result is the *complete* model input and therefore the cache key: two lines with the same input are the same line to us. Whatever the model
may use must survive here (is a count zero or not, which class of HTTP status, which exit code, the order of an amount, the last attempt or one of
several), and whatever it must not tell apart must not (addresses, ids, times, hosts in headers).

A line's runs of digits are split off, what remains is its shape, and all that follows from the shape is remembered (`shape.py`). Where the numbers of
a line are as many digits long as those of a line met before, not even that: the places of the few numbers that mean something are known, and only
they are looked at. Such a line costs two microseconds.
"""

from __future__ import annotations

import re
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from harkline_workers.levels import LEVELS, canonical_level, level_of_number, level_of_priority
from harkline_workers.recent import Recent
from harkline_workers.shape import Plan, Read, plan

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LEVELS", "NORMALISER_VERSION", "Normalised", "canonical_level", "normalise"]

# Any change of what `normalise` returns is a change of the model's input: raise this, retrain, and old caches fall away by themselves.
NORMALISER_VERSION = "3"

# Longer lines keep their head and their tail: the head names the event, the tail often holds the cause. In characters; the tokeniser cuts again.
_HEAD_CHARS = 700
_TAIL_CHARS = 350
_SHAPES_REMEMBERED = 16_384
_FORMS_REMEMBERED = 16_384
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
_BEFORE_X = re.compile(rb"[0-9](?=x)")
_TO_FORM = bytes.maketrans(b"123456789", b"000000000")
_SUCCESSES = frozenset(("200", "201", "202", "204", "205", "206", "207"))

_plan_of = lru_cache(_SHAPES_REMEMBERED)(plan)

Reader: TypeAlias = "Callable[[list[str], Read], str]"  # runs of digits, and which of them are meant


class Normalised(NamedTuple):
    """What the model reads of one line, and what a person sees of it."""

    model_input: str  # level, then template: the complete input, and the cache key
    template: str  # the message with its variable parts masked as `#`
    level: str  # one of LEVELS as logged, or "" where the line carries none


class _Form(NamedTuple):
    """What is known of all lines that differ in the values of their digits alone: the plan, and where the runs stand that it reads."""

    pieces: tuple[str, ...]
    reads: tuple[tuple[Reader, Read], ...]  # their runs count those of `spans`
    spans: tuple[slice, ...]
    level: str  # that the line shows in words, or ""
    level_of: Callable[[str], str] | None  # what reads the last span as the line's level, where it is a number


_forms: Recent[bytes, _Form] = Recent(_FORMS_REMEMBERED)


def normalise(message: str, level: str = "") -> Normalised:
    """Return the model's input for one raw message (any length, any characters) and its logged level, which may be empty.

    A level given beside the message wins over one found in its header; the header's token is taken out of the text either way. Never raises.
    """
    try:
        data = message.encode()
        digitless = data.translate(_TO_FORM)
        if b"0x" in digitless:
            # `0x` begins an id and `1x` does not: here the form is not all that decides.
            digitless += b"".join(_BEFORE_X.findall(data))
    except UnicodeEncodeError:  # a lone surrogate, which JSON can carry and UTF-8 cannot
        digitless = b""
    form = _forms.get(digitless)
    if form is None:
        return _normalise_afresh(message, level, digitless)
    spans = [message[span] for span in form.spans]
    given = (canonical_level(level) if level else "") or form.level
    if not given and form.level_of is not None:
        given = form.level_of(spans[-1])
    return _assembled(form.pieces, tuple([read(spans, what) for read, what in form.reads]), given)


def _normalise_afresh(message: str, level: str, digitless: bytes) -> Normalised:
    text = message
    if len(text) > _HEAD_CHARS + _TAIL_CHARS:
        text = f"{text[:_HEAD_CHARS]} ... {text[-_TAIL_CHARS:]}"
    if not text.isprintable() and _HAS_CONTROLS.search(text):
        text = _ESCAPES.sub("", text).translate(_CONTROLS)
    parts = _DIGITS.split(text)
    ids: list[tuple[int, int]] = []
    if any(map(str.isalpha, parts[2:-1:2])) and any(piece.isalpha() and piece != "T" for piece in parts[2:-1:2]):
        # Letters between digits: most lines have none, so most never pay for the search.
        ids = [match.span() for match in _ID.finditer(text)]
        parts = _DIGITS.split(_ID.sub("1", text))
    known = _plan_of("0".join(parts[::2]))
    if digitless and len(text) == len(message):
        form = _form(known, parts, ids)
        if form is not None:
            _forms.put(digitless, form)
    digits = parts[1::2]
    given = (canonical_level(level) if level else "") or known.level or _level_in_digits(known, digits)
    return _assembled(known.pieces, tuple([_READERS[read.kind](digits, read) for read in known.reads]), given)


def _form(known: Plan, parts: list[str], ids: list[tuple[int, int]]) -> _Form | None:
    """Return what is known of a line of this plan whose text fell into these parts, every other one a run of digits, once its ids had become one digit each.

    None in the rare case that a plan reads an id together with a number: that one digit stands nowhere in the line.
    """
    starts = _starts(parts, ids)[1::2]
    digits = parts[1::2]
    of_ids = {starts.index(start) for start, _ in ids if start in starts}
    spans: list[slice] = []

    def place(run: int) -> int:
        if run < 0:
            return -1
        spans.append(slice(starts[run], starts[run] + len(digits[run])))
        return len(spans) - 1

    pieces = [known.pieces[0]]
    reads = []
    for read, piece in zip(known.reads, known.pieces[1:], strict=True):
        runs = {read.first, read.second} - {-1}
        if runs <= of_ids:
            # The same for every line of this form, so it becomes part of the text.
            pieces[-1] += _READERS[read.kind](digits, read) + piece
        elif runs & of_ids:
            return None
        else:
            reads.append((_READERS[read.kind], Read(read.kind, place(read.first), place(read.second))))
            pieces.append(piece)
    level_of = None
    if known.numbered_level >= 0:
        place(known.numbered_level)
        level_of = level_of_number
    elif known.priority >= 0:
        place(known.priority)
        level_of = level_of_priority
    return _Form(tuple(pieces), tuple(reads), tuple(spans), known.level, level_of)


def _starts(parts: list[str], ids: list[tuple[int, int]]) -> list[int]:
    """Return where each part began in the text as it was before its ids (start, end) became one digit each."""
    starts = []
    grown = at = 0
    waiting = deque(ids)
    for part in parts:
        while waiting and waiting[0][0] < at + grown:
            start, end = waiting.popleft()
            grown += end - start - 1
        starts.append(at + grown)
        at += len(part)
    return starts


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
    """Return the class of an HTTP status; anything else that a status may be is an exit code or a signal (137, 203/EXEC, 255)."""
    value = digits[read.first]
    return (
        f"{value[0]}xx" if len(value) == 3 and ("300" <= value <= "599" or value in _SUCCESSES) else _exit(digits, read)
    )


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


_READERS: dict[str, Reader] = {
    "zero": _zero,
    "status": _status,
    "exit": _exit,
    "ratio": _ratio,
    "last": _last,
    "share": _share,
    "amount": _amount,
}
