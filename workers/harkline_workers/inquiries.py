"""Entries whose senders ask why: judged like all others, but committed only when their lines are explained, one line at a time between two claims.

So an explanation, which takes a tenth of a second, delays nobody's line by more than that. What can be lost: an explanation, never a line. An entry
that waited too long, or came when too many waited, is committed without.
"""

from __future__ import annotations

import time
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harkline.contract import Explanation, LogBatch, LogLine, Verdict
    from harkline.ledger import Entry
    from harkline_workers.classify import Classified, Classifier

# Whoever waits does not wait longer than HARKLINE_WAIT_MAX_SECONDS, so an explanation after this would find nobody.
PATIENCE_SECONDS = 20.0
# Lines that may wait for theirs in one process.
MOST_LINES = 200

_EXPLAIN = attrgetter("explain")


class Judged(NamedTuple):
    """One claimed entry, its batches, and what was decided of their lines, in order."""

    entry: Entry
    batches: list[LogBatch]
    classified: Classified

    @property
    def asks(self) -> bool:
        """Whether a sender wants explanations, and will be able to read them."""
        # The first half costs next to nothing for the hundreds of batches of an entry that never ask.
        return any(map(_EXPLAIN, self.batches)) and any(batch.keep_verdicts for batch in self.batches if batch.explain)


class Inquiry:
    """One entry on its way to being explained."""

    def __init__(self, judged: Judged, classifier: Classifier, keep: Callable[[], None]) -> None:
        self.judged = judged
        self.explanations: dict[int, Explanation] = {}  # by the line's place in the entry
        self._classifier = classifier
        self._keep = keep
        self._left = deque(_asked_lines(judged))
        self._known: dict[tuple[str, str], Explanation] = {}  # equal lines have one
        self._gives_up_at = time.monotonic() + PATIENCE_SECONDS

    def go_on(self) -> bool:
        """Explain the next line; returns whether the entry is ready to be committed."""
        if self._left and time.monotonic() < self._gives_up_at:
            at, line, verdict = self._left.popleft()
            same = (line.message, line.level)
            if same not in self._known:
                self._known[same] = self._classifier.explain(line, verdict, self._keep)
            self.explanations[at] = self._known[same]
        return not self._left or time.monotonic() >= self._gives_up_at


class Inquiries:
    """The entries of one process that wait for explanations, first come, first served."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._waiting: deque[Inquiry] = deque()
        self._lines = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def entries(self) -> list[Entry]:
        """The entries that are claimed meanwhile, and must be kept."""
        return [inquiry.judged.entry for inquiry in self._waiting]

    def admit(self, judged: Judged, keep: Callable[[], None]) -> bool:
        """Take an entry in; False where it asks for nothing, or there is no room. `keep` is called between the calls of the model."""
        if not judged.asks or self._lines + judged.entry.lines > MOST_LINES:
            return False
        self._waiting.append(Inquiry(judged, self._classifier, keep))
        self._lines += judged.entry.lines
        return True

    def go_on(self) -> Inquiry | None:
        """Explain one line; returns the entry that this was the last of, which is now the caller's to commit."""
        if not self._waiting or not self._waiting[0].go_on():
            return None
        done = self._waiting.popleft()
        self._lines -= done.judged.entry.lines
        return done

    def drop(self) -> None:
        """Forget all: their entries stay claimed, and are handed to another process."""
        self._waiting.clear()
        self._lines = 0


def _asked_lines(judged: Judged) -> Iterator[tuple[int, LogLine, Verdict]]:
    at = 0
    for batch in judged.batches:
        for line in batch.lines:
            if batch.explain and batch.keep_verdicts:
                yield at, line, judged.classified.verdicts[at]
            at += 1
