"""Take secrets and personal data out of lines before anything else sees them: `[redacted:NAME]` stands in their place.

Nearly all requests hold none, and pay for one pass: the texts of a request are joined and screened by all patterns at once, in an engine whose time
is linear in the text (Rust's regex crate, as pydantic wraps it; Python's `re` takes a hundred times as long for the same alternatives). Only where
the screen hits are lines looked at, and only by the patterns that hit.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from pydantic import StringConstraints, TypeAdapter

from harkline.lines.decoded import shorten
from harkline.lines.http_credentials import is_cookie
from harkline.lines.incoming import MAX_LABEL_CHARS
from harkline.lines.named_secrets import is_secret_label
from harkline.lines.patterns import PATTERNS, chosen
from harkline.lines.private_keys import lines_of_keys
from harkline.lines.stand_ins import is_stand_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harkline.contract import LogLine
    from harkline.lines.patterns import Pattern

_KEYS = "private_key"


class Redacted(NamedTuple):
    """Lines without secrets, the given ones where there were none, and how many were replaced, by pattern."""

    lines: list[LogLine]
    counts: Counter[str]


class _Screened(NamedTuple):
    pattern: Pattern
    hits: Callable[[str], bool]


class Redactor:
    """Redacts by some of the patterns. Texts must be fit for UTF-8, as those of a LogLine are. Safe to share between threads."""

    def __init__(self, names: Iterable[str]) -> None:
        wanted = set(names)
        patterns = [pattern for pattern in PATTERNS if pattern.name in wanted]
        self._screened = [_Screened(pattern, _screen([pattern])) for pattern in patterns]
        self._hits = _screen(patterns) if patterns else _never
        self._names = frozenset(pattern.name for pattern in patterns)

    def redact(self, text: str) -> tuple[str, Counter[str]]:
        """Return the text without secrets, the same object where it holds none, and how many were replaced."""
        counts: Counter[str] = Counter()
        if self._hits(text):
            text = _applied(text, self._present([text]), counts)
        return text, counts

    def redact_lines(self, lines: list[LogLine], kept_line_chars: int) -> Redacted:
        """Redact what senders write freely: messages, levels, ids, names and values of labels. Services and environments stay.

        Lines must come whole and leave with `kept_line_chars` at most: of a secret that was cut in two, neither half might be known.
        """
        counts: Counter[str] = Counter()
        messages = [line.message for line in lines]
        if self._hits("\n".join(messages)) or self._hits(_beside(lines)):
            lines = self._redacted(lines, messages, counts)
        if max(map(len, messages), default=0) > kept_line_chars or counts:
            lines = [_shortened(line, kept_line_chars) for line in lines]
        return Redacted(lines, counts)

    def _redacted(self, lines: list[LogLine], messages: list[str], counts: Counter[str]) -> list[LogLine]:
        lines = lines.copy()
        texts = [line.message if _is_plain(line) else f"{line.message}\n{_beside([line])}" for line in lines]
        suspects = [index for index, text in enumerate(texts) if self._hits(text)]
        present = self._present([texts[index] for index in suspects])
        if any(screened.pattern.name == _KEYS for screened in present):
            for index, spans in lines_of_keys(messages):
                message, replaced = _replaced(messages[index], spans, _KEYS)
                counts[_KEYS] += replaced
                lines[index] = msgspec.structs.replace(lines[index], message=message)
        for index in suspects:
            lines[index] = _line(lines[index], present, self._names, counts)
        return lines

    def _present(self, texts: Sequence[str]) -> list[_Screened]:
        """Return the patterns that may find something in any of the texts."""
        joined = "\n".join(texts)
        return [screened for screened in self._screened if screened.hits(joined)]


@cache
def redactor_of(said: str) -> Redactor:
    """Return the redactor that a setting means, made once in a process: compiling takes some forty milliseconds. Raises ValueError."""
    return Redactor(chosen(said))


def _line(line: LogLine, present: Sequence[_Screened], names: frozenset[str], counts: Counter[str]) -> LogLine:
    labels = line.labels
    if labels:
        labels = {}
        for name, value in (line.labels or {}).items():
            by_name = _pattern_of_label(name, value)
            if by_name in names:
                counts[by_name] += 1
                kept = _mark(by_name)
            else:
                kept = _applied(value, present, counts)
            labels[_applied(name, present, counts)] = kept
    return msgspec.structs.replace(
        line,
        message=_applied(line.message, present, counts),
        level=_applied(line.level, present, counts),
        id=_applied(line.id, present, counts),
        labels=labels,
    )


def _never(_text: str) -> bool:
    return False


def _screen(patterns: Sequence[Pattern]) -> Callable[[str], bool]:
    """Return what tells whether any of the patterns may find something in a text."""
    alternatives = "|".join(f"(?:{pattern.screen.replace('(?P<secret>', '(?:')})" for pattern in patterns)
    text: TypeAdapter[str] = TypeAdapter(Annotated[str, StringConstraints(strict=True, pattern=alternatives)])
    return text.validator.isinstance_python


def _is_plain(line: LogLine) -> bool:
    return not (line.level or line.id or line.labels)


def _beside(lines: Iterable[LogLine]) -> str:
    """Return what senders write freely beside messages; a label as it would be assigned, since its name may tell that it is a secret."""
    texts = {line.level for line in lines}
    labels: set[tuple[str, str]] = set()
    for line in lines:
        if line.id:
            texts.add(line.id)
        if line.labels:
            labels.update(line.labels.items())
    texts.update([f"{name}={value}" for name, value in labels])
    return "\n".join(texts)


def _pattern_of_label(name: str, value: str) -> str:
    """Return the pattern by which a label's whole value is a secret because of the label's name; "" where it is none."""
    small = name.lower()
    if small.endswith("cookie"):
        return "cookie" if is_cookie(value) else ""
    if small.endswith("authorization"):
        return "" if is_stand_in(value) else "authorization"
    return "secret_value" if is_secret_label(name, value) else ""


def _shortened(line: LogLine, kept_line_chars: int) -> LogLine:
    """Return the line within its limits: marks may be longer than what they replace."""
    message = shorten(line.message, kept_line_chars)
    labels = line.labels
    if labels and any(len(value) > MAX_LABEL_CHARS for value in labels.values()):
        labels = {name: shorten(value, MAX_LABEL_CHARS) for name, value in labels.items()}
    if message is line.message and labels is line.labels:
        return line
    return msgspec.structs.replace(line, message=message, labels=labels)


def _applied(text: str, present: Sequence[_Screened], counts: Counter[str]) -> str:
    """Return the text after every pattern that may find something in it."""
    for screened in present:
        if text and screened.hits(text):
            name = screened.pattern.name
            text, replaced = _replaced(text, screened.pattern.find(text), name)
            if replaced:
                counts[name] += replaced
    return text


def _replaced(text: str, spans: Iterable[tuple[int, int]], name: str) -> tuple[str, int]:
    """Return the text with marks in the place of the spans, and how many there were; of overlapping spans the first counts."""
    mark = _mark(name)
    pieces = []
    at = 0
    for start, end in sorted(spans):
        if start >= at:
            pieces.append(text[at:start])
            at = end
    if not at:
        return text, 0
    pieces.append(text[at:])
    return mark.join(pieces), len(pieces) - 1


def _mark(name: str) -> str:
    return f"[redacted:{name}]"
