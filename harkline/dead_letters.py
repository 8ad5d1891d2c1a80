"""Dead letters, as an operator handles them: read, put back on the ledger, dropped.

A dead letter is a line that kept killing workers or raising. It was judged by the rules and counted when it was set aside, so a replay asks for the
model's verdict and counts nothing (docs/adr/0011). What can be lost: nothing but what is dropped; a replayed line that no model judges is set aside
again. Methods raise LedgerUnavailable.
"""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from harkline import contract
from harkline.contract import SERVICE_UNKNOWN, DeadLetter, LogBatch, Verdict
from harkline.errors import ContractError
from harkline.ledger import DEAD_LETTERS, asking_redis, verdicts_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harkline.ledger import Appended, Ledger

# Letters of one round trip; the longest have some ten thousand characters.
PORTION = 100
_POLL_SECONDS = 0.2
_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


class Letter(NamedTuple):
    """One letter: its place in the stream, and what it holds, None where another version of harkline wrote it."""

    id: str
    content: DeadLetter | None

    @property
    def set_aside_at(self) -> float:
        """When it became a dead letter, in seconds since the epoch."""
        return int(self.id.split("-", maxsplit=1)[0]) / 1000

    @property
    def accepted_at(self) -> float | None:
        """When its line was accepted, in seconds since the epoch: its batch's id says so."""
        place = contract.parse_batch_id(self.content.batch) if self.content is not None else None
        return None if place is None else int(place[0].split("-", maxsplit=1)[0]) / 1000

    @property
    def service(self) -> str:
        """The service of its line, `unknown` where it named none."""
        return (self.content.line.service if self.content is not None else "") or SERVICE_UNKNOWN


class Replayed(NamedTuple):
    """What became of a letter that was to be replayed: `ok` (on the ledger as `batch`), `gone`, `full` or `unreadable`."""

    letter: Letter
    status: str
    batch: str = ""


class DeadLetters:
    """The stream of dead letters."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._redis = ledger.redis

    def newest(self, *, service: str = "", since: float | None = None) -> Iterator[Letter]:
        """Yield letters, the newest first, of one service and set aside since a moment; none that comes after the first was asked for."""
        last = "+"
        first = "-" if since is None else f"{max(0, int(since * 1000))}-0"
        while True:
            with asking_redis():
                found = cast("list[Any]", self._redis.xrevrange(DEAD_LETTERS, max=last, min=first, count=PORTION))
            for letter in map(_letter, found):
                if not service or letter.service == service:
                    yield letter
            if len(found) < PORTION:
                return
            last = f"({found[-1][0].decode()}"

    def find(self, ids: Sequence[str]) -> list[Letter | None]:
        """Return the letters of these ids, None for each that is not there."""
        found: list[Letter | None] = []
        for start in range(0, len(ids), PORTION):
            pipe = self._redis.pipeline(transaction=False)
            for name in ids[start : start + PORTION]:
                pipe.xrange(DEAD_LETTERS, name, name)
            with asking_redis():
                found += [_letter(entries[0]) if entries else None for entries in pipe.execute()]
        return found

    def drop(self, ids: Sequence[str]) -> int:
        """Erase letters; returns how many were there."""
        dropped = 0
        for start in range(0, len(ids), PORTION):
            with asking_redis():
                dropped += self._redis.xdel(DEAD_LETTERS, *ids[start : start + PORTION])
        return dropped

    def replay(self, letters: Sequence[Letter], bound_lines: int) -> tuple[list[Replayed], bool]:
        """Put at most PORTION letters back on the ledger, each once whoever else tries. Returns one answer each, and whether the caller must ring."""
        readable = [(letter, letter.content) for letter in letters if letter.content is not None]
        payloads = [
            (letter.id, contract.encode_batch(LogBatch([content.line], keep_verdicts=True)))
            for letter, content in readable
        ]
        answers: list[Appended] = []
        must_ring = False
        if payloads:
            answers, must_ring = self._ledger.replay(payloads, bound_lines)
        replayed = [
            Replayed(letter, answer.status, answer.batch if answer.status == "ok" else "")
            for (letter, _), answer in zip(readable, answers, strict=True)
        ]
        return replayed + [Replayed(one, "unreadable") for one in letters if one.content is None], must_ring

    def await_verdicts(self, batches: Sequence[str], seconds: float) -> Iterator[tuple[str, Verdict]]:
        """Yield (batch, verdict of its one line) as replayed letters are judged, until all are or `seconds` are over."""
        ends = time.monotonic() + seconds
        pause = threading.Event()
        waiting = list(batches)
        while waiting:
            asked = waiting[:PORTION]
            with asking_redis():
                kept = cast("list[bytes | None]", self._redis.mget([verdicts_key(batch) for batch in asked]))
            judged = {batch: verdicts for batch, verdicts in zip(asked, kept, strict=True) if verdicts is not None}
            for batch, verdicts in judged.items():
                yield batch, contract.decode_verdicts(verdicts)[0]
            waiting = [batch for batch in waiting if batch not in judged]
            if not judged and time.monotonic() > ends:
                return
            if not judged:
                pause.wait(_POLL_SECONDS)


def is_letter_id(value: str) -> bool:
    """Return whether a value could be the id of a letter."""
    return _ID.fullmatch(value) is not None


def _letter(entry: tuple[bytes, dict[bytes, bytes]]) -> Letter:
    name, fields = entry
    try:
        return Letter(name.decode(), contract.decode_dead_letter(fields[b"letter"]))
    except (ContractError, KeyError):
        return Letter(name.decode(), None)
