"""`harkline demo`: stream the shipped sample, several systems with an incident in the middle, and show what was found, missed and falsely rung.

The sample is our own writing. Each line says whether a person on call would want it (`page`), so the demo can be honest about its own result.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harkline.client import Client

_BATCH_LINES = 12
_WAIT_SECONDS = 20


class SampleLine(msgspec.Struct, frozen=True):
    """One line of the sample."""

    service: str
    message: str
    page: bool
    level: str = ""


@dataclass(slots=True)
class Result:
    """What became of the sample."""

    lines: int = 0
    found: list[tuple[SampleLine, dict[str, Any]]] = field(default_factory=list)
    missed: list[tuple[SampleLine, dict[str, Any]]] = field(default_factory=list)
    false: list[tuple[SampleLine, dict[str, Any]]] = field(default_factory=list)
    unanswered: int = 0
    slowest_seconds: float = 0.0


def sample() -> list[SampleLine]:
    """Return the shipped sample, in its order."""
    text = (files("harkline") / "samples" / "demo.jsonl").read_bytes()
    return [msgspec.json.decode(line, type=SampleLine) for line in text.splitlines() if line]


def stream(
    client: Client, lines: list[SampleLine], result: Result, pace_seconds: float
) -> Iterator[list[tuple[SampleLine, dict[str, Any]]]]:
    """Send the sample in small batches and yield each batch with its verdicts, filling `result`."""
    pause = threading.Event()
    for start in range(0, len(lines), _BATCH_LINES):
        batch = lines[start : start + _BATCH_LINES]
        body = msgspec.json.encode(
            [
                {"message": line.message, "service": line.service} | ({"level": line.level} if line.level else {})
                for line in batch
            ]
        )
        began = time.monotonic()
        answer = client.post(f"/logs?wait={_WAIT_SECONDS}", body, "application/json")
        result.slowest_seconds = max(result.slowest_seconds, time.monotonic() - began)
        result.lines += len(batch)
        verdicts = answer.get("verdicts")
        if verdicts is None:
            result.unanswered += len(batch)
            continue
        judged = list(zip(batch, verdicts, strict=True))
        for line, verdict in judged:
            critical = verdict["severity"] == "critical"
            if critical and line.page:
                result.found.append((line, verdict))
            elif critical:
                result.false.append((line, verdict))
            elif line.page:
                result.missed.append((line, verdict))
        yield judged
        pause.wait(pace_seconds)
