"""A replayed dead letter meets a worker: judged by the model that is there now, counted no second time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from harkline import contract
from harkline.contract import LogBatch, LogLine
from harkline.dead_letters import DeadLetters
from harkline.ledger import Appending, Ledger, connect
from harkline.settings import Settings
from harkline_workers.classify import Classifier
from harkline_workers.drain import Drain
from harkline_workers.isolation import Isolation
from harkline_workers.metrics import WorkerMetrics
from tests.workers.fakes import FakeModel


class Cured(FakeModel):
    """The same model after a correction: it reads what it choked on."""

    def predict(self, inputs: Sequence[str], *, exactly: bool = False) -> NDArray[np.float32]:
        return super().predict([text.replace("poison", "remedy") for text in inputs], exactly=exactly)


def work(settings: Settings, model: FakeModel | None) -> CollectorRegistry:
    """Work one shift as a process with this model; returns its metrics."""
    registry = CollectorRegistry()
    client = connect(settings, timeout_seconds=30)
    metrics = WorkerMetrics(registry)
    classifier = Classifier(model, "" if model else "no model", 100, None, metrics)
    Drain(Ledger(client, settings), classifier, Isolation(client), metrics, settings, "p", lambda: None).run()
    client.close()
    return registry


@pytest.fixture
def letters(ledger: Ledger, settings: Settings) -> DeadLetters:
    """One dead letter: a line on which the model raised, counted by the rules beside an innocent one."""
    lines = [LogLine("fine", "db"), LogLine("poison bad disk", "db")]
    ledger.append([Appending(contract.encode_batch(LogBatch(lines)), 2)], 100)
    work(settings, FakeModel())
    assert ledger.stats().dead == 1
    return DeadLetters(ledger)


def test_a_corrected_model_judges_it_and_no_number_moves(
    ledger: Ledger, settings: Settings, letters: DeadLetters
) -> None:
    """The verdict is the model's, a critical line is shown, totals and per-service counters stay, and no letter is left."""
    before = ledger.stats()
    [replayed], must_ring = letters.replay(list(letters.newest()), 100)
    assert must_ring
    metrics = work(settings, Cured())
    [(_, verdict)] = letters.await_verdicts([replayed.batch], 5)
    assert (verdict.severity, verdict.source, verdict.degraded) == ("critical", "model", False)
    assert [found.line.message for _, found in ledger.critical_lines("0")] == ["poison bad disk"]
    assert list(letters.newest()) == []
    after = ledger.stats()
    for number in ("critical", "not_critical", "degraded", "dead", "last_critical_at", "backlog_lines"):
        assert getattr(after, number) == getattr(before, number), number
    for severity in contract.SEVERITIES:
        counted = metrics.get_sample_value("log_severity_total", {"severity": severity, "service": "db"})
        assert not counted


@pytest.mark.parametrize("model", [FakeModel(), None], ids=["raises again", "no model"])
def test_what_no_model_judges_is_a_dead_letter_as_before(
    ledger: Ledger, settings: Settings, letters: DeadLetters, model: FakeModel | None
) -> None:
    """A replay that meets the same fault, or workers without a model, loses nothing: the same letter is there again, counted as dead once."""
    [letter] = list(letters.newest())
    [replayed], _ = letters.replay([letter], 100)
    work(settings, model)
    [again] = list(letters.newest())
    assert (again.content, again.id > letter.id) == (letter.content, True)
    assert ledger.stats().dead == 1
    assert ledger.stats().lines == 2
    [(_, verdict)] = letters.await_verdicts([replayed.batch], 5)
    assert verdict.degraded
