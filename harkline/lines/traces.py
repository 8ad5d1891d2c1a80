"""Join the continuation lines of a stack trace to the line they belong to, where the sender asks for it.

Off by default, so that a line in is a line counted. Known forms: indented lines, `Caused by:`, `... 23 more`, a Java exception above its
`at` lines, and Python's `Traceback` up to and including the exception it ends with, chained ones too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_CONTINUES = re.compile(r"[ \t]|Caused by: |Suppressed: |\.\.\. \d+ (?:more|common frames omitted)")
_PYTHON_CHAIN = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_TRACEBACK = "Traceback (most recent call last):"
_JAVA_EXCEPTION = re.compile(r"(?:[a-z_$][\w$]*\.)+[A-Z][\w$]*(?:: |$)")
_JAVA_FRAME = re.compile(r"\s+at [\w$.<>/]+\(")


class TraceJoiner:
    """Joins lines that may come in pieces: each continuation goes, after a newline, behind the line before it. A first line always stands alone.

    A joined line that exceeds `most_chars` takes no more: it is too long to be accepted whatever follows, and must not fill the memory.
    """

    def __init__(self, most_chars: int) -> None:
        self._most_chars = most_chars
        self._parts: list[str] = []  # of the line that may still be continued
        self._chars = 0
        self._java: str | None = None  # an exception's line: what it belongs to depends on the line after it
        self._in_traceback = False

    def feed(self, lines: Iterable[str]) -> list[str]:
        """Take lines, none of them empty, and return those that are complete."""
        complete: list[str] = []
        for line in lines:
            if self._java is not None:
                self._place(self._java, _JAVA_FRAME.match(line) is not None, complete)
                self._java = None
            if self._in_traceback:
                continues = True
                # The first line of a traceback that is not indented is the exception, and ends it.
                self._in_traceback = line[0] in " \t" or line.startswith(_TRACEBACK)
            elif line.startswith(_TRACEBACK):
                continues = self._in_traceback = True
            else:
                continues = _CONTINUES.match(line) is not None or line in _PYTHON_CHAIN
                if not continues and _JAVA_EXCEPTION.match(line):
                    self._java = line
                    continue
            self._place(line, continues, complete)
        return complete

    def end(self) -> list[str]:
        """Return what was still open."""
        complete: list[str] = []
        if self._java is not None:
            self._place(self._java, False, complete)
            self._java = None
        if self._parts:
            complete.append("\n".join(self._parts))
            self._parts = []
        return complete

    def _place(self, line: str, continues: bool, complete: list[str]) -> None:
        if not continues or not self._parts:
            if self._parts:
                complete.append("\n".join(self._parts))
            self._parts = [line]
            self._chars = len(line)
        elif self._chars <= self._most_chars:
            self._parts.append(line)
            self._chars += 1 + len(line)
