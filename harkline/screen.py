"""What people see on a terminal: text of unknown origin made inert, critical lines in one form everywhere."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

# C0, DEL, C1, and the bidirectional and zero-width controls: a log line must not move the cursor, colour the screen or reorder what is read.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_SHOWN_CHARS = 400


def inert(text: str, chars: int = _SHOWN_CHARS) -> str:
    """Return `text` on one line, its control characters replaced by `.`, shortened to `chars` characters."""
    safe = _UNSAFE.sub(".", text)
    return safe if len(safe) <= chars else f"{safe[: chars - 1]}…"


def critical_line(line: Mapping[str, Any], verdict: Mapping[str, Any], accepted_at: float) -> Text:
    """Return one critical line as it is shown by `up`, `tail` and `demo`."""
    when = time.strftime("%H:%M:%S", time.localtime(accepted_at))
    result = Text(f"{when} ")
    result.append(f"{verdict['level']:<8}", style="bold white on red" if verdict["level"] == "critical" else "bold red")
    result.append(f" {verdict['score']:.2f} ", style="dim")
    result.append(f"{inert(line.get('service') or '-', 24)} ", style="cyan")
    result.append(inert(line["message"]))
    result.append(f"  [{inert(verdict['why'], 80)}]", style="dim")
    return result
