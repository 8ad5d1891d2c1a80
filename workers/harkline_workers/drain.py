"""What a doorbell starts: claim entries, classify their lines, commit, until the ledger is empty or the shift is over.

What can be lost: nothing. Whatever happens between claim and commit, the entries stay pending and are handed to another process after
`abandoned_seconds`; whatever is committed twice is counted once.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from harkline import contract
from harkline.contract import SERVICE_OTHER, SERVICE_UNKNOWN, CriticalLine, DeadLetter
from harkline.errors import ContractError, LedgerUnavailable
from harkline.ledger import Commit
from harkline.logs import get_logger
from harkline_workers.classify import ClaimLost, Classified
from harkline_workers.inquiries import Inquiries, Judged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harkline.contract import Explanation, LogBatch, LogLine
    from harkline.ledger import Claim, Entry, Ledger
    from harkline.settings import Settings
    from harkline_workers.classify import Classifier
    from harkline_workers.isolation import Isolation
    from harkline_workers.metrics import WorkerMetrics

log = get_logger(__name__)

# A task ends after this long even if lines remain (the bell is up again by then), so that Celery can stop, count and show tasks.
SHIFT_SECONDS = 2.0
# While lines wait to be explained a shift goes on, but past this it takes no more of them, so that it ends.
ASKED_SECONDS = 10.0
# A claim should be worked off in about this long: short enough for a quick count, long enough that one round trip does not matter.
CLAIM_SECONDS = 0.5
_FEWEST_LINES = 64
_SMOOTHING = 0.3


class Drain:
    """Drains the ledger in one process."""

    def __init__(
        self,
        ledger: Ledger,
        classifier: Classifier,
        isolation: Isolation,
        metrics: WorkerMetrics,
        settings: Settings,
        consumer: str,
        ring: Callable[[], None],
        between_claims: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._classifier = classifier
        self._isolation = isolation
        self._metrics = metrics
        self._settings = settings
        self._consumer = consumer
        self._ring = ring
        self._between_claims = between_claims
        self._inquiries = Inquiries(classifier)
        self.is_working = False
        self._line_seconds = CLAIM_SECONDS / settings.claim_lines
        self._services: set[str] = {SERVICE_UNKNOWN, SERVICE_OTHER}
        self._services_full = False
        self._keep_inquiries = self._keeper(lambda: self._inquiries.entries)

    def run(self) -> int:
        """Work one shift; returns the lines counted. Raises LedgerUnavailable where Redis does not answer: the sweep rings when it is back."""
        self.is_working = True
        try:
            return self._shift()
        finally:
            self._inquiries.drop()
            self.is_working = False

    def _shift(self) -> int:
        counted = 0
        ends = time.monotonic() + SHIFT_SECONDS
        asked_until = time.monotonic() + ASKED_SECONDS
        answers_bell = True
        while True:
            if not self._inquiries:
                # Nothing is claimed here, so nothing waits for a model that is being loaded but what waits for all.
                self._between_claims()
            wanted = min(self._settings.claim_lines, max(_FEWEST_LINES, int(CLAIM_SECONDS / self._line_seconds)))
            claim = self._ledger.claim(self._consumer, wanted, answers_bell=answers_bell)
            answers_bell = False
            if claim.ring:
                self._ring()
            if claim.entries:
                counted += self._take(claim, may_explain=time.monotonic() < asked_until)
            elif not self._inquiries:
                return counted
            counted += self._explain_a_line()
            if time.monotonic() > ends and not self._inquiries:
                return counted

    def _take(self, claim: Claim, *, may_explain: bool) -> int:
        """Work one claim off and learn how long its lines took; returns the lines this process counted."""
        started = time.perf_counter()
        try:
            lines = self._work(claim, may_explain)
        except ClaimLost:
            lines = 0
        if lines:
            self._line_seconds += _SMOOTHING * ((time.perf_counter() - started) / lines - self._line_seconds)
        return lines

    def _explain_a_line(self) -> int:
        """Explain one line for someone who asked why; returns the lines counted, which are those of its entry if this was the last to be explained."""
        try:
            done = self._inquiries.go_on()
        except ClaimLost:  # all entries that wait are another's now
            self._inquiries.drop()
            return 0
        return self._commit([done.judged], [done.explanations]) if done is not None else 0

    def _work(self, claim: Claim, may_explain: bool) -> int:
        """Classify one claim and commit what nobody asks about; returns the lines this process counted."""
        if claim.deliveries > 1:
            self._metrics.redelivered.inc(len(claim.entries))
            log.info("entry_taken_over", entry=claim.entries[0].id, deliveries=claim.deliveries)
        readable = [(entry, batches) for entry in claim.entries if (batches := _decode(entry)) is not None]
        lines = [line for _, batches in readable for batch in batches for line in batch.lines]
        keep = self._keeper(lambda: [*claim.entries, *self._inquiries.entries])
        if claim.deliveries > self._settings.max_deliveries and readable:
            classified = self._judge_suspect(readable[0][0], lines)
        else:
            classified = self._classifier.classify(lines, keep)
        # Explaining may have been what the first process died of: counting comes first.
        may_explain = may_explain and claim.deliveries == 1
        ready = []
        at = 0
        for entry, batches in readable:
            end = at + sum(len(batch.lines) for batch in batches)
            judged = Judged(entry, batches, classified.part(at, end))
            at = end
            if not may_explain or not self._inquiries.admit(judged, self._keep_inquiries):
                ready.append(judged)
        return self._commit(ready, [{}] * len(ready))

    def _commit(self, judged: list[Judged], explanations: list[Mapping[int, Explanation]]) -> int:
        """Count entries, with the explanations of their lines by place; returns the lines this process counted."""
        kept = self._settings.critical_kept
        commits = [_commit(one, why, kept) for one, why in zip(judged, explanations, strict=True)]
        counted = self._ledger.commit(commits) if commits else []
        first = [one for one, is_first in zip(judged, counted, strict=True) if is_first]
        self._count(first)
        return sum(one.entry.lines for one in first)

    def _judge_suspect(self, entry: Entry, lines: list[LogLine]) -> Classified:
        keep = self._keeper(lambda: [entry, *self._inquiries.entries])

        def judge_range(start: int, end: int) -> Classified:
            keep()
            return self._classifier.classify(lines[start:end], keep)

        def by_rules(position: int) -> Classified:
            return Classified([self._classifier.judge_by_rules(lines[position], "it killed its worker")], {})

        return self._isolation.judge(entry.id, len(lines), judge_range, by_rules)

    def _keeper(self, entries: Callable[[], Sequence[Entry]]) -> Callable[[], None]:
        """Return the function that tells Redis, from time to time, that these entries are still worked on."""
        every = self._settings.abandoned_seconds / 4
        last = time.monotonic()

        def keep() -> None:
            nonlocal last
            if time.monotonic() - last > every and (kept := entries()):
                last = time.monotonic()
                held = self._ledger.touch(self._consumer, kept)
                if held < len(kept):
                    log.warning("entries_taken_from_us", lost=len(kept) - held)
                if held == 0:
                    raise ClaimLost

        return keep

    def _count(self, counted: list[Judged]) -> None:
        """Add to this process' metrics what this process' commit counted, and nothing else."""
        now = time.time()
        severities: Counter[tuple[str, str]] = Counter()
        sources: Counter[str] = Counter()
        degraded = 0
        for entry, batches, (verdicts, _) in counted:
            services = [line.service or SERVICE_UNKNOWN for batch in batches for line in batch.lines]
            self._admit(set(services))
            labels = [service if service in self._services else SERVICE_OTHER for service in services]
            severities.update(zip([verdict.severity for verdict in verdicts], labels, strict=True))
            sources.update([verdict.source for verdict in verdicts])
            degraded += sum(verdict.degraded for verdict in verdicts)
            self._metrics.batch_lines.observe(len(services))
            self._metrics.ingest_to_count.observe(max(0.0, now - _accepted_at(entry.id)))
        self._metrics.count(severities)
        for source, number in sources.items():
            self._metrics.classified.labels(source).inc(number)
        if degraded:
            self._metrics.degraded_lines.inc(degraded)

    def _admit(self, services: set[str]) -> None:
        new = services - self._services
        if not new or self._services_full:
            return
        try:
            admitted = self._ledger.admit_services(sorted(new))
            if len(admitted) < len(new):
                # Full for good: those that other processes admitted meanwhile are labels here too.
                admitted |= self._ledger.services()
                self._services_full = True
        except LedgerUnavailable as error:
            log.warning("services_not_admitted", error=str(error), consequence="counted as other")
            return
        self._services |= admitted
        self._metrics.know_services(sorted(admitted))

    def know_services(self, services: set[str]) -> None:
        """Take over the services admitted before this process started, so that their counters exist at 0 from the start."""
        self._services |= services
        self._metrics.know_services(sorted(services))


def _decode(entry: Entry) -> list[LogBatch] | None:
    try:
        return [contract.decode_batch(batch) for batch in entry.batches]
    except ContractError as error:
        # Left pending on purpose: a worker of the right version will take it over. The age of the oldest entry tells a person.
        log.error("entry_unreadable", entry=entry.id, error=str(error))
        return None


def _accepted_at(entry_id: str) -> float:
    """Return when Redis accepted an entry, in seconds since the epoch: its id says so."""
    return int(entry_id.split("-", maxsplit=1)[0]) / 1000


def _commit(judged: Judged, explanations: Mapping[int, Explanation], critical_kept: int) -> Commit:
    """Return the outcome of one entry; `explanations` are those of its lines that have one, by their place in it."""
    entry, batches, classified = judged
    commit = Commit(entry.id, entry.lines)
    at = 0
    for position, batch in enumerate(batches):
        name = contract.batch_id(entry.id, position)
        verdicts = classified.verdicts[at : at + len(batch.lines)]
        if batch.keep_verdicts:
            told = [
                msgspec.structs.replace(verdict, explanation=explanations[place]) if place in explanations else verdict
                for place, verdict in enumerate(verdicts, at)
            ]
            commit.verdicts.append((name, contract.encode_verdicts(told)))
        for offset, (line, verdict) in enumerate(zip(batch.lines, verdicts, strict=True)):
            if verdict.severity == "critical":
                commit.critical += 1
                if len(commit.critical_lines) < critical_kept:
                    commit.critical_lines.append(
                        contract.encode_critical(CriticalLine(name, _accepted_at(entry.id), line, verdict))
                    )
            if verdict.degraded:
                commit.degraded += 1
            if at + offset in classified.poison:
                commit.dead_letters.append(
                    contract.encode_dead_letter(DeadLetter(name, offset, classified.poison[at + offset], line))
                )
        at += len(batch.lines)
    return commit
