"""Find the line that kills workers. A raise is caught where it happens; a kill leaves only what was written down before it.

An entry that was delivered too often is judged in ranges of lines. Which range is on the table is kept in Redis before it is judged; the next
delivery finds it there, knows that it killed its judge, and halves it. After about log2(lines) deaths the culprit stands alone, and dies once more,
to be sure: it is judged by the rules, counted, and set aside as a dead letter in the same commit. Innocent lines get their model verdict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
import redis

from harkline.errors import LedgerUnavailable
from harkline.ledger import suspect_key
from harkline.logs import get_logger
from harkline_workers.classify import ClaimLost, Classified

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

_LIFETIME_SECONDS = 86_400


class Suspicion(msgspec.Struct):
    """What is known of one suspect entry, as half-open ranges of line positions."""

    ranges: list[tuple[int, int]]  # to judge, in order
    on_table: tuple[int, int] | None = None  # being judged when the last process died, if it did
    culprits: list[int] = []
    accused: list[int] = []  # alone on the table once when their process died: perhaps by chance


_decoder = msgspec.json.Decoder(Suspicion)


class Isolation:
    """The record of suspects in Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def judge(
        self,
        entry: str,
        lines: int,
        judge_range: Callable[[int, int], Classified],
        judge_by_rules: Callable[[int], Classified],
    ) -> Classified:
        """Judge the lines of a suspect entry range by range; culprits found by earlier deaths by `judge_by_rules` alone. May die again, wiser."""
        suspicion = self._read(entry, lines)
        if suspicion.on_table is not None:
            start, end = suspicion.on_table
            at = suspicion.ranges.index(suspicion.on_table)
            log.warning("suspect_killed_worker", entry=entry, start=start, end=end)
            if end - start > 1:
                _halve(suspicion, at)
            elif start in suspicion.accused:
                suspicion.ranges.pop(at)
                suspicion.culprits.append(start)
            else:
                suspicion.accused.append(start)
        verdicts: dict[int, Classified] = {}
        at = 0
        while at < len(suspicion.ranges):
            start, end = suspicion.on_table = suspicion.ranges[at]
            self._write(entry, suspicion)
            try:
                verdicts[start] = judge_range(start, end)
            except (LedgerUnavailable, ClaimLost):
                # Not these lines' doing.
                suspicion.on_table = None
                self._write(entry, suspicion)
                raise
            except Exception as error:  # noqa: BLE001 - whatever a line makes raise, the others must be judged
                log.error("suspect_raised", entry=entry, start=start, end=end, error=f"{type(error).__name__}: {error}")
                if end - start > 1:
                    _halve(suspicion, at)
                else:
                    suspicion.ranges.pop(at)
                    suspicion.culprits.append(start)
            else:
                at += 1
        for position in suspicion.culprits:
            verdicts[position] = judge_by_rules(position)
        suspicion.on_table = None
        self._write(entry, suspicion)
        return _joined(verdicts, set(suspicion.culprits))

    def _read(self, entry: str, lines: int) -> Suspicion:
        try:
            data = cast("bytes | None", self._redis.get(suspect_key(entry)))
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error
        return Suspicion([(0, lines)] if lines else []) if data is None else _decoder.decode(data)

    def _write(self, entry: str, suspicion: Suspicion) -> None:
        try:
            self._redis.set(suspect_key(entry), msgspec.json.encode(suspicion), ex=_LIFETIME_SECONDS)
        except redis.RedisError as error:
            raise LedgerUnavailable(str(error)) from error


def _halve(suspicion: Suspicion, at: int) -> None:
    start, end = suspicion.ranges[at]
    middle = (start + end) // 2
    suspicion.ranges[at : at + 1] = [(start, middle), (middle, end)]


def _joined(parts: dict[int, Classified], culprits: set[int]) -> Classified:
    verdicts = []
    poison = {}
    for start in sorted(parts):
        part = parts[start]
        poison.update({start + at: reason for at, reason in part.poison.items()})
        verdicts += part.verdicts
    poison.update(dict.fromkeys(culprits, "killed its worker, or raised"))
    return Classified(verdicts, poison)
