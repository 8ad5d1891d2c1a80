"""A worker in miniature: claims what the API wrote, judges it by one word, and commits. Exact as the real one, since the ledger is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec

from harkline.contract import (
    CriticalLine,
    Explanation,
    LogLine,
    Neighbour,
    Verdict,
    WordEffect,
    batch_id,
    decode_batch,
    encode_critical,
    encode_verdicts,
)
from harkline.errors import LedgerUnavailable
from harkline.ledger import LEDGER, Commit

if TYPE_CHECKING:
    from harkline.contract import LogBatch
    from harkline.ledger import Ledger


def verdict_of(line: LogLine) -> Verdict:
    """Judge a line: critical if it says so."""
    critical = "critical" in line.message
    return Verdict(
        severity="critical" if critical else "not_critical",
        score=1.0 if critical else 0.0,
        level="critical" if critical else "info",
        template=line.message,
        source="rule",
        why="the word",
        degraded=False,
        model="",
    )


def explained(verdict: Verdict) -> Verdict:
    """Explain a verdict: the word did it."""
    words = [WordEffect("critical", 1.5), WordEffect("the", None)]
    nearest = [Neighbour("a critical example", "error", "tests", 0.75)]
    return msgspec.structs.replace(verdict, explanation=Explanation(words, nearest, "the word"))


def stored_entries(ledger: Ledger) -> list[list[LogBatch]]:
    """Return what lies on the ledger: the batches of each entry."""
    entries: Any = ledger.redis.xrange(LEDGER)
    return [[decode_batch(payload) for name, payload in fields.items() if name != b"lines"] for _, fields in entries]


def stored_lines(ledger: Ledger) -> list[LogLine]:
    """Return every line on the ledger, in order."""
    return [line for entry in stored_entries(ledger) for batch in entry for line in batch.lines]


def count_all(ledger: Ledger) -> int:
    """Claim and commit whatever waits; returns the number of lines counted."""
    lines = 0
    while claim := ledger.claim("test", 10_000).entries:
        commits = []
        for entry in claim:
            commit = Commit(entry.id, entry.lines)
            for position, payload in enumerate(entry.batches):
                batch = decode_batch(payload)
                name = batch_id(entry.id, position)
                verdicts = [verdict_of(line) for line in batch.lines]
                commit.critical += sum(verdict.severity == "critical" for verdict in verdicts)
                if batch.keep_verdicts:
                    told = [explained(verdict) for verdict in verdicts] if batch.explain else verdicts
                    commit.verdicts.append((name, encode_verdicts(told)))
                commit.critical_lines += [
                    encode_critical(CriticalLine(name, 1795335139.0, line, verdict))
                    for line, verdict in zip(batch.lines, verdicts, strict=True)
                    if verdict.severity == "critical"
                ]
            commits.append(commit)
        ledger.commit(commits)
        lines += sum(entry.lines for entry in claim)
    return lines


class Consumer:
    """Counts in the background until the block ends."""

    def __init__(self, ledger: Ledger, pause_seconds: float = 0.01) -> None:
        self._ledger = ledger
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Consumer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(self._pause_seconds):
            try:
                count_all(self._ledger)
            except LedgerUnavailable:  # the test hung it
                continue
