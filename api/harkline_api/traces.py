"""Join the continuation lines of a stack trace to the line they belong to, where the sender asks for it.

Off by default, so that a line in is a line counted. Known forms: indented lines, `Caused by:`, `... 23 more`, a Java exception above its
`at` lines, and Python's `Traceback` up to and including the exception it ends with, chained ones too.
"""

from __future__ import annotations

import re

_CONTINUES = re.compile(r"[ \t]|Caused by: |Suppressed: |\.\.\. \d+ (?:more|common frames omitted)")
_PYTHON_CHAIN = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_TRACEBACK = "Traceback (most recent call last):"
_JAVA_EXCEPTION = re.compile(r"(?:[a-z_$][\w$]*\.)+[A-Z][\w$]*(?:: |$)")
_JAVA_FRAME = re.compile(r"\s+at [\w$.<>/]+\(")


def join_traces(lines: list[str]) -> list[str]:
    """Return the lines with each continuation appended, after a newline, to the line before it. A first line always stands alone."""
    joined: list[list[str]] = []
    in_traceback = False
    for at, line in enumerate(lines):
        if in_traceback:
            continues = True
            # The first line of a traceback that is not indented is the exception, and ends it.
            in_traceback = line[0] in " \t" or line.startswith(_TRACEBACK)
        else:
            continues = _is_continuation(line, lines[at + 1] if at + 1 < len(lines) else "")
            in_traceback = line.startswith(_TRACEBACK)
        if continues and joined:
            joined[-1].append(line)
        else:
            joined.append([line])
    return ["\n".join(parts) for parts in joined]


def _is_continuation(line: str, following: str) -> bool:
    if _CONTINUES.match(line) or line.startswith(_TRACEBACK) or line in _PYTHON_CHAIN:
        return True
    return bool(_JAVA_EXCEPTION.match(line) and _JAVA_FRAME.match(following))
