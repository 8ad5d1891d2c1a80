"""Private keys in PEM form (RFC 7468, and OpenSSH's and PGP's likes): whole, cut at either end, with real or written-out newlines, and spread over lines.

A sender of plain lines sends a key as many: the line with `BEGIN`, lines of nothing but base64, the line with `END`. The lines between are told by
their neighbours, within one request.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Span = tuple[int, int]

SCREEN = r"-----(?:BEGIN|END)[ A-Z0-9]{1,40}PRIVATE KEY"
# The base64 lines of an RSA key of 16,384 bits are some 200.
MOST_LINES = 256

_MARKER = re.compile(r"-----(BEGIN|END)[ A-Z0-9]{1,40}PRIVATE KEY(?: BLOCK)?-----")
# From the first long run of base64 on: what follows it, runs and white space, written out (`\n`) or not.
_CONTENT = re.compile(r"[A-Za-z0-9+/=]{16,}+(?:(?:\s|\\[nr])*+[A-Za-z0-9+/=]++)*+")
_CONTENT_LINE = re.compile(r"\s*(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)\s*")
# In a line with a header of its own, only a run as long as a key's lines are.
_LINE_CHARS = 32
_LONG_RUN = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")


def private_keys(text: str) -> Iterator[Span]:
    """Yield whole blocks with their markers, and of broken ones what is there of their content."""
    begin: re.Match[str] | None = None
    at = 0
    for marker in _MARKER.finditer(text):
        if marker[1] == "END" and begin is not None:
            yield begin.start(), marker.end()
            begin = None
        else:
            yield from _content(text, at, marker.start())
            begin = marker if marker[1] == "BEGIN" else None
        at = marker.end()
    if begin is not None:
        yield from _content(text, at, len(text))


def lines_of_keys(messages: Sequence[str]) -> Iterator[tuple[int, list[Span]]]:
    """Yield (index, spans) of the messages between those that hold a key's `BEGIN` and its `END`, of which one may be in another request."""
    begun = -1
    for index, message in enumerate(messages):
        markers = _markers(message)
        if not markers:
            if 0 <= begun >= index - MOST_LINES:
                ends = index + 1 < len(messages) and _markers(messages[index + 1])[:1] == ["END"]
                if spans := _content_of_line(message, may_be_short=ends):
                    yield index, spans
            continue
        if markers[0] == "END" and begun < 0:
            yield from _before(messages, index)
        begun = index if markers[-1] == "BEGIN" else -1


def _markers(message: str) -> list[str]:
    return [marker[1] for marker in _MARKER.finditer(message)] if "-----" in message else []


def _before(messages: Sequence[str], end: int) -> Iterator[tuple[int, list[Span]]]:
    for index in range(end - 1, max(-1, end - 1 - MOST_LINES), -1):
        spans = _content_of_line(messages[index], may_be_short=index == end - 1)
        if not spans:
            return
        yield index, spans


def _content_of_line(message: str, *, may_be_short: bool) -> list[Span]:
    """Return where a line without markers holds a key's content; only the last line of one is short."""
    if _CONTENT_LINE.fullmatch(message) and (may_be_short or len(message) >= _LINE_CHARS):
        return [(0, len(message))]
    return [found.span() for found in _LONG_RUN.finditer(message)]


def _content(text: str, start: int, end: int) -> Iterator[Span]:
    for found in _CONTENT.finditer(text, start, end):
        yield found.span()
