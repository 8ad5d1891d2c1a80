"""Erase what is stored of a service, or of what a pattern matches, in portions, so that nobody who works on the ledger waits for it.

Streams are read up to where they ended at the start, and in the order in which lines move: the ledger, then where a commit puts them. So what is
counted meanwhile is met where it went; what is accepted meanwhile is not looked at. Going on after an error, or once more, does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import msgspec
import redis

from harkline import contract
from harkline.contract import SERVICE_UNKNOWN
from harkline.errors import ContractError
from harkline.ledger import CRITICAL, DEAD_LETTERS, LEDGER, SERVICES, asking_redis, verdicts_key
from harkline.remains import compact

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator

    from harkline.contract import LogBatch, LogLine, Verdict
    from harkline.ledger import Ledger

# Entries of the ledger may have megabytes each, the others some ten kilobytes.
_LEDGER_PORTION = 8
_LINES_PORTION = 200
_KEYS_PORTION = 1000


class Target(Protocol):
    """What is to be forgotten."""

    def is_line(self, line: LogLine) -> bool:
        """Whether a line is meant."""

    def is_text(self, text: str) -> bool:
        """Whether text that was made of a line, and stands without it, is meant."""

    def is_service(self, name: str) -> bool:
        """Whether the name of a service is meant."""


@dataclass(frozen=True, slots=True)
class OfService:
    """All lines of one service; `unknown` are those that name none."""

    name: str

    def is_line(self, line: LogLine) -> bool:
        """By the service the sender named."""
        return (line.service or SERVICE_UNKNOWN) == self.name

    def is_text(self, text: str) -> bool:  # noqa: ARG002 - text names no service
        """Never: nothing says whose it is."""
        return False

    def is_service(self, name: str) -> bool:
        """By the whole name."""
        return name == self.name


@dataclass(frozen=True, slots=True)
class Matching:
    """All lines of which any text, labels included, holds what the pattern matches."""

    pattern: re.Pattern[str]

    def is_line(self, line: LogLine) -> bool:
        """By each text of the line on its own."""
        texts = [line.message, line.service, line.environment, line.level, line.id]
        for name, value in (line.labels or {}).items():
            texts += [name, value]
        return any(map(self.pattern.search, texts))

    def is_text(self, text: str) -> bool:
        """By the text."""
        return self.pattern.search(text) is not None

    def is_service(self, name: str) -> bool:
        """By the name."""
        return self.pattern.search(name) is not None


class Outcome(NamedTuple):
    """What was found at one place, and what of it is gone."""

    place: str
    found: int
    erased: int
    note: str = ""


class Forgetter:
    """One run over everything that is stored. `erase` False only counts; `advance` is told (place, looked at, of how many or None)."""

    def __init__(
        self,
        ledger: Ledger,
        target: Target,
        *,
        erase: bool,
        uncounted: bool = False,
        all_verdicts: bool = False,
        advance: Callable[[str, int, int | None], None] = lambda *_: None,
    ) -> None:
        self._ledger = ledger
        self._redis = ledger.redis
        self._target = target
        self._erase = erase
        self._uncounted = uncounted
        self._all_verdicts = all_verdicts
        self._advance = advance
        self._batches: set[str] = set()  # of which a line is meant
        self.left_waiting = 0  # lines that are meant, and stay on the ledger
        self.unread = 0  # lines of another version, which may be meant, and stay where they are

    def run(self) -> list[Outcome]:
        """Look everywhere, and erase where asked to. Raises LedgerUnavailable; what was erased by then is gone."""
        with asking_redis():
            return [
                self._from_ledger(),
                self._from_critical(),
                self._from_dead_letters(),
                self._from_verdicts(),
                self._from_services(),
                self._from_slow_log(),
            ]

    def _from_ledger(self) -> Outcome:
        found = erased = unreadable = 0
        for name, fields in self._entries(LEDGER, "waiting lines", _LEDGER_PORTION):
            values = list(fields.values())
            try:
                batches = [contract.decode_batch(batch) for batch in values[1:]]
            except ContractError:
                unreadable += int(values[0])
                continue
            left = [self._without(batch) for batch in batches]
            meant = sum(len(batch.lines) for batch in batches) - sum(len(batch.lines) for batch in left)
            found += meant
            if meant and self._erase and self._uncounted:
                rest = [(contract.encode_batch(batch), len(batch.lines)) for batch in left if batch.lines]
                if self._ledger.forget_lines(name, meant, rest):
                    erased += meant
        self.left_waiting = found - erased
        self.unread += unreadable
        notes = []
        if found and not self._uncounted:
            notes.append("accepted and not yet counted: they stay, unless --uncounted is said")
        if unreadable:
            notes.append(f"{unreadable} lines of another version of harkline could not be read")
        return Outcome("waiting lines", found, erased, "; ".join(notes))

    def _from_critical(self) -> Outcome:
        def is_meant(fields: dict[bytes, bytes]) -> bool:
            kept = contract.decode_critical(fields[b"line"])
            return self._is_meant(kept.batch, kept.line)

        return self._from_stream(CRITICAL, "critical lines", is_meant)

    def _from_dead_letters(self) -> Outcome:
        def is_meant(fields: dict[bytes, bytes]) -> bool:
            letter = contract.decode_dead_letter(fields[b"letter"])
            return self._is_meant(letter.batch, letter.line)

        return self._from_stream(DEAD_LETTERS, "dead letters", is_meant)

    def _from_stream(self, key: str, place: str, is_meant: Callable[[dict[bytes, bytes]], bool]) -> Outcome:
        """Erase from a stream of one line an entry."""
        found = erased = unreadable = 0
        doomed: list[str] = []
        for name, fields in self._entries(key, place, _LINES_PORTION):
            try:
                if is_meant(fields):
                    found += 1
                    doomed.append(name)
            except (ContractError, KeyError):
                unreadable += 1
            if len(doomed) == _LINES_PORTION:
                erased += self._delete(key, doomed)
                doomed = []
        erased += self._delete(key, doomed)
        self.unread += unreadable
        notes = [f"{unreadable} of another version of harkline could not be read"] if unreadable else []
        # Also where nothing was erased: an earlier run may have been cut off here.
        if self._erase and not compact(self._redis, key):
            notes.append("others erased here all the while, so bytes of it are still in Redis: say it again")
        return Outcome(place, found, erased, "; ".join(notes))

    def _from_verdicts(self) -> Outcome:
        """Erase the kept verdicts of batches that are known to hold such a line, and those whose own text is meant: they name no service."""
        found = erased = others = 0
        longest = 0
        seen: set[bytes] = set()
        for key in self._keys(verdicts_key("*"), "kept verdicts"):
            if key in seen:  # SCAN may name a key twice
                continue
            seen.add(key)
            if self._all_verdicts or key.decode().rpartition(":")[2] in self._batches or self._is_meant_verdict(key):
                found += 1
                erased += self._redis.delete(key) if self._erase else 0
            else:
                others += 1
                longest = max(longest, self._redis.ttl(key))
        if not others:
            return Outcome("kept verdicts", found, erased)
        note = f"{others} more name no service and no such text; the last is gone in {longest} s, --all-verdicts erases them now"
        return Outcome("kept verdicts", found, erased, note)

    def _from_services(self) -> Outcome:
        meant = [name for name in self._ledger.services() if self._target.is_service(name)]
        erased = self._redis.srem(SERVICES, *meant) if meant and self._erase else 0
        return Outcome("names of services", len(meant), erased)

    def _from_slow_log(self) -> Outcome:
        """Empty Redis' list of slow commands, which quotes the beginnings of what they carried."""
        self._advance("slow commands", 0, None)
        try:
            found = self._redis.slowlog_len()
            if found and self._erase:
                self._redis.slowlog_reset()
        except redis.ResponseError as error:
            return Outcome("slow commands", 0, 0, f"Redis' slow log cannot be read or emptied: {error}")
        note = "Redis' slow log quotes the beginnings of long commands; it is emptied as a whole" if found else ""
        return Outcome("slow commands", found, found if self._erase else 0, note)

    def _is_meant(self, batch: str, line: LogLine) -> bool:
        if not self._target.is_line(line):
            return False
        self._batches.add(batch)
        return True

    def _is_meant_verdict(self, key: bytes) -> bool:
        if isinstance(self._target, OfService):
            return False
        data = cast("bytes | None", self._redis.get(key))
        try:
            verdicts = contract.decode_verdicts(data) if data is not None else []
        except ContractError:
            return False
        return any(self._target.is_text(text) for verdict in verdicts for text in _texts(verdict))

    def _without(self, batch: LogBatch) -> LogBatch:
        return msgspec.structs.replace(batch, lines=[line for line in batch.lines if not self._target.is_line(line)])

    def _delete(self, key: str, names: list[str]) -> int:
        return self._redis.xdel(key, *names) if names and self._erase else 0

    def _entries(self, key: str, place: str, portion: int) -> Iterator[tuple[str, dict[bytes, bytes]]]:
        """Yield the entries that the stream has now, the oldest first."""
        newest = cast("list[Any]", self._redis.xrevrange(key, count=1))
        total, done = self._redis.xlen(key), 0
        first = "-"
        self._advance(place, 0, total)
        while newest:
            found = cast("list[Any]", self._redis.xrange(key, first, newest[0][0], count=portion))
            for name, fields in found:
                yield name.decode(), fields
            done += len(found)
            self._advance(place, done, max(total, done))
            if len(found) < portion:
                return
            first = f"({found[-1][0].decode()}"

    def _keys(self, pattern: str, place: str) -> Iterator[bytes]:
        looked_at, cursor = 0, 0
        while True:
            self._advance(place, looked_at, None)
            cursor, keys = cast("tuple[int, list[bytes]]", self._redis.scan(cursor, pattern, _KEYS_PORTION))
            yield from keys
            looked_at += _KEYS_PORTION
            if not cursor:
                return


def _texts(verdict: Verdict) -> list[str]:
    """Return all text of a verdict that came from a line, or from an example that the model was taught."""
    texts = [verdict.template]
    if verdict.explanation is not None:
        texts += [effect.word for effect in verdict.explanation.words]
        texts += [near.template for near in verdict.explanation.nearest]
    return texts
