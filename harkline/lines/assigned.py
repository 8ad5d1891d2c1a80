"""How a value is given to a name in logs, and where it ends: at its quote, escaped as often as it was when it opened, or where an unquoted one runs out.

A value that is cut before its quote closes reaches to the end of its line. An unquoted one may hold what usually ends values, as passwords do: a comma
ends it only where a space, another name or the end follows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Behind a name: its closing quote, escaped or not, and a bracket (`"token"`, `\\"token\\"`, `['token']`), then what assigns.
CLOSED = r"""(?:\\{0,7}["'`]\]?)?"""
ASSIGNS = r"[ \t]{0,8}(?:=>|:=|={1,2}|:)"
# The same, and what opens the value: a bracket, as in `Authorization:[Bearer ...]`, and a quote, escaped or not.
ASSIGNED = (
    rf"(?P<closed>{CLOSED})(?P<assigns>{ASSIGNS})(?P<gap>[ \t]{{0,8}})"
    r"""(?:[\[(](?!redacted:))?(?P<quote>\\{0,7}["'`])?"""
)

_ENDS = r"""[,;&|"'`<>(){}\[\]\\]"""
_UNQUOTED = re.compile(
    rf"""(?:[^\s,;&|"'`<>(){{}}\[\]\\]++
      | \[redacted:[a-z_]{{1,20}}\]
      | (?!{_ENDS}{{1,8}}(?:\s|$|[\w.-]{{1,40}}[\\"']{{0,3}}[ ]?[=:])){_ENDS}
    )*+""",
    re.VERBOSE,
)
_SMALL = {ord(capital): capital.lower() for capital in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def occurrences(text: str, words: Iterable[str]) -> list[int]:
    """Return where any of the words begin, in any case, in order. Far faster than a search that ignores case."""
    small = text.lower() if text.isascii() else text.translate(_SMALL)  # others change their length in lower case
    places = []
    for word in words:
        at = small.find(word)
        while at >= 0:
            places.append(at)
            at = small.find(word, at + len(word))
    return sorted(places)


def end_of_value(text: str, start: int, quote: str | None) -> int:
    """Return where the value ends that begins at `start`, behind `quote` (with its backslashes) or bare."""
    if not quote:
        unquoted = _UNQUOTED.match(text, start)
        return unquoted.end() if unquoted else start
    escapes = len(quote) - 1
    at = text.find(quote[-1], start)
    while at >= 0:
        before = 0
        while at - before > start and text[at - before - 1] == "\\":
            before += 1
        # An escape of the value itself is written with twice as many backslashes as its quote, and one more.
        if before < escapes or before % (2 * escapes + 2) == escapes:
            return _end_of_line(text, start, at - min(before, escapes))
        at = text.find(quote[-1], at + 1)
    return _end_of_line(text, start, len(text))


def _end_of_line(text: str, start: int, end: int) -> int:
    newline = text.find("\n", start, end)
    return end if newline < 0 else newline
