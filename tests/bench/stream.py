"""The lines that are measured with: logs as their systems wrote them, or a generated stream where there are none, and variations of them."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_WORD = re.compile(r"(?<![\w./-])[a-z]{4,14}(?![\w./-])")
_CODE = re.compile(rb"(?i)(?:error|errno|code|status|exit|exited|signal|HTTP/1[.]1\")[^\n\w]{0,4}(?:with )?\d+")
_GENERATED_LINES = 28_000


@dataclass(frozen=True, slots=True)
class Stream:
    """Raw lines in the order in which they arrive, each with the service that wrote it."""

    origin: str
    lines: tuple[str, ...]
    services: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.lines)

    def sample(self, lines: int, seed: int) -> Stream:
        """Return so many lines drawn at random, so that a short measurement sees the same mix as a long one."""
        places = random.Random(seed).sample(range(len(self)), min(lines, len(self)))
        return self.at(places)

    def at(self, places: Sequence[int]) -> Stream:
        """Return the lines at these places."""
        return replace(
            self, lines=tuple(self.lines[at] for at in places), services=tuple(self.services[at] for at in places)
        )


def load_stream(folder: Path) -> Stream:
    """Return the systems' logs of a folder, interleaved as they would arrive, or a stream generated from the training corpus where there are none."""
    files = sorted(folder.glob("*_2k.log"))
    if not files:
        return _generated()
    logs = {path.name.removesuffix("_2k.log").lower(): path.read_text("utf-8", "replace").split("\n") for path in files}
    longest = max(map(len, logs.values()))
    pairs = [(service, log[at].rstrip("\r")) for at in range(longest) for service, log in logs.items() if at < len(log)]
    kept = [(service, line) for service, line in pairs if line.strip()]
    return Stream(
        f"{len(kept):,} raw lines of {len(files)} systems, as they wrote them",
        tuple(line for _, line in kept),
        tuple(service for service, _ in kept),
    )


def all_different(stream: Stream, lines: int, seed: int) -> Stream:
    """Return lines that share no template: lines of the stream, two words of each replaced by words of the stream.

    Lengths stay what they are, so a line costs what it costs; no cache and no memory of former lines can help.
    """
    rng = random.Random(seed)
    words = [word for line in stream.lines for word in _WORD.findall(line)]
    chosen = stream.at([rng.randrange(len(stream)) for _ in range(lines)])
    return replace(chosen, lines=tuple(_with_other_words(line, words, rng) for line in chosen.lines))


def _with_other_words(line: str, words: Sequence[str], rng: random.Random) -> str:
    found = list(_WORD.finditer(line))
    if len(found) < 2:
        return f"{line} {rng.choice(words)} {rng.choice(words)}"
    for match in sorted(rng.sample(found, 2), key=re.Match.start, reverse=True):
        line = f"{line[: match.start()]}{rng.choice(words)}{line[match.end() :]}"
    return line


def other_numbers(stream: Stream, seed: int) -> Stream:
    """Return the same lines with other numbers, as lines from the same statement of a program have.

    In every run of digits all but the first are drawn anew, so that an amount keeps its order and zero stays zero. Codes stay: the same event has the same.
    """
    raw = "\n".join(stream.lines).encode("utf-8", "replace")
    text = np.frombuffer(raw, dtype=np.uint8).copy()
    digit = (text >= ord("0")) & (text <= ord("9"))
    follows = np.concatenate(([False], digit[:-1]))
    run = np.cumsum(digit & ~follows)
    meant = np.bincount(run[digit & (text != ord("0"))], minlength=int(run[-1]) + 1 if run.size else 1) > 0
    change = digit & follows & meant[run]
    for code in _CODE.finditer(raw):
        change[code.start() : code.end()] = False
    text[change] = np.random.default_rng(seed).integers(ord("1"), ord("9") + 1, int(change.sum()), dtype=np.uint8)
    return replace(stream, lines=tuple(text.tobytes().decode("utf-8").split("\n")))


def json_bodies(stream: Stream, per_request: int) -> list[bytes]:
    """Return JSON arrays of `{"message", "service"}`, as shippers send them."""
    objects = [
        {"message": line, "service": service} for line, service in zip(stream.lines, stream.services, strict=True)
    ]
    return [
        json.dumps(objects[start : start + per_request], ensure_ascii=False).encode("utf-8", "replace")
        for start in range(0, len(objects), per_request)
    ]


def plain_bodies(stream: Stream, per_request: int) -> list[bytes]:
    """Return bodies of plain lines."""
    return [
        "\n".join(stream.lines[start : start + per_request]).encode("utf-8", "replace")
        for start in range(0, len(stream), per_request)
    ]


def _generated() -> Stream:
    """Render lines of the training corpus in a process of its own: the bench itself imports nothing of the product."""
    command = [sys.executable, "-m", "tests.bench.corpus_lines", str(_GENERATED_LINES)]
    said = subprocess.run(command, capture_output=True, check=True).stdout
    pairs = [json.loads(line) for line in said.splitlines()]
    return Stream(
        f"{len(pairs):,} lines generated from the training corpus",
        tuple(line for _, line in pairs),
        tuple(service for service, _ in pairs),
    )
