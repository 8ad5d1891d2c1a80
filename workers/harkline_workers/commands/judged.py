"""How `harkline classify` shows what was judged: one JSON object a line for programs, one coloured line for people."""

from __future__ import annotations

import re
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec
from rich.text import Text

from harkline.contract import Explanation, LogLine, Severity, Source, Verdict
from harkline.lines.faults import LINE_FAULTS, Rejected
from harkline.screen import inert
from harkline_workers.commands import explained

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

# Exit statuses.
NOTHING_GOOD = 1
WITHOUT_MODEL = 3

# Distinct templates are counted up to here: a set must not grow with the input.
_MOST_DISTINCT = 100_000

Form = Literal["ndjson", "table"]

_LEVEL_STYLES = {"critical": "bold white on red", "error": "bold red", "warning": "yellow"}
# Control characters that JSON lets stand as they are, and a terminal would obey.
_OBEYED = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")

_encoder = msgspec.json.Encoder()


class Judged(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One line and its verdict, flat, so that `jq 'select(.severity == "critical") | .message'` is all one needs."""

    index: int  # among what is not blank, from 0
    message: str
    service: str = ""
    severity: Severity
    score: float
    level: str
    template: str
    source: Source
    why: str
    degraded: bool
    model: str
    explanation: Explanation | None = None


Shown = Judged | Rejected


def judged(index: int, line: LogLine, verdict: Verdict) -> Judged:
    """Return a line and its verdict as they are shown."""
    return Judged(
        index=index,
        message=line.message,
        service=line.service,
        severity=verdict.severity,
        score=verdict.score,
        level=verdict.level,
        template=verdict.template,
        source=verdict.source,
        why=verdict.why,
        degraded=verdict.degraded,
        model=verdict.model,
        explanation=verdict.explanation,
    )


@dataclass(slots=True)
class Tally:
    """What was judged so far, in a few numbers."""

    lines: int = 0
    critical: int = 0
    rejected: int = 0
    degraded: int = 0
    templates: set[int] = field(default_factory=set)
    broken: str = ""  # why the input could not be read to its end
    interrupted: bool = False

    def add(self, shown: Sequence[Shown]) -> None:
        """Count what was judged."""
        for line in shown:
            if isinstance(line, Rejected):
                self.rejected += 1
                continue
            self.lines += 1
            self.critical += line.severity == "critical"
            self.degraded += line.degraded
            if len(self.templates) < _MOST_DISTINCT:
                self.templates.add(hash(line.template))

    @property
    def seen(self) -> int:
        """Every line, also those that were rejected."""
        return self.lines + self.rejected

    @property
    def status(self) -> int:
        """The exit status that says it all."""
        if self.interrupted:
            return 128 + signal.SIGINT
        if self.broken or (self.rejected and not self.lines):
            return NOTHING_GOOD
        return WITHOUT_MODEL if self.degraded else 0

    def summary(self, seconds: float) -> str:
        """Return one sentence for a person."""
        distinct = len(self.templates)
        parts = [
            f"{self.lines} lines",
            f"{self.critical} critical",
            f"{distinct}{' or more' if distinct == _MOST_DISTINCT else ''} distinct",
            *([f"{self.rejected} rejected"] if self.rejected else []),
            *([f"{self.degraded} degraded"] if self.degraded else []),
            f"{seconds:.1f} s",
        ]
        return ", ".join(parts)


class Printer:
    """Writes to standard output; `console` is the terminal behind it, None where it is none. Raises BrokenPipeError."""

    def __init__(self, form: Form, console: Console | None) -> None:
        self._form = form
        self._console = console

    def put(self, shown: Sequence[Shown]) -> None:
        """Write what was judged, all of it before this returns: whoever reads a pipe sees it now."""
        if self._console is not None:
            if shown:
                lines = _coloured(shown) if self._form == "table" else _escaped(shown)
                self._console.print(Text("\n").join(lines))
            return
        if self._form == "table":
            sys.stdout.buffer.writelines(f"{text.plain}\n".encode() for text in _coloured(shown))
        else:
            sys.stdout.buffer.write(_encoder.encode_lines(shown))
        sys.stdout.buffer.flush()


def _escaped(shown: Sequence[Shown]) -> Iterable[Text]:
    for line in _encoder.encode_lines(shown).decode().split("\n")[:-1]:
        yield Text(_OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", line))


def _coloured(shown: Sequence[Shown]) -> Iterable[Text]:
    for line in shown:
        result = Text(f"{line.index:>6} ", style="dim")
        if isinstance(line, Rejected):
            result.append(f"{'rejected':<8}      {line.error}: {LINE_FAULTS.get(line.error, '')}", style="yellow")
        else:
            is_critical = line.severity == "critical"
            result = Text(f"{line.index:>6} ")
            result.append(f"{line.level:<8}", style=_LEVEL_STYLES.get(line.level, "") if is_critical else "dim")
            result.append(f" {line.score:.2f} ", style="dim")
            if line.service:
                result.append(f"{inert(line.service, 24)} ", style="cyan")
            result.append(inert(line.message))
            result.append(f"  [{inert(line.why, 80)}]", style="dim")
            if is_critical and line.explanation is not None:
                result.append(f"\n{'':<6} ").append_text(explained.shown(line.explanation))
        yield result
