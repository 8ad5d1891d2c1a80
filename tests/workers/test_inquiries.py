"""Whoever asks why is answered, and nobody else waits for it: explanations are made a line at a time, after judging and between claims."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest

from harkline import contract
from harkline.contract import LogBatch, LogLine, Verdict
from harkline.ledger import Appending, Ledger, connect
from harkline.settings import Settings
from tests.support.polling import wait_for
from tests.workers.fakes import FakeModel
from tests.workers.test_drain import Process


def append(ledger: Ledger, *messages: str, keep: bool = True, explain: bool = False) -> str:
    """Write one batch, which is an entry of its own; returns its name."""
    batch = LogBatch([LogLine(message) for message in messages], keep, explain)
    return ledger.append([Appending(contract.encode_batch(batch), len(messages))], 10**6)[0][0].batch


def verdicts(ledger: Ledger, batch: str) -> list[Verdict]:
    """Return the verdicts that were kept."""
    kept = ledger.verdicts(batch)
    assert kept is not None
    return kept


class WatchedModel(FakeModel):
    """Calls back before each exact call, which only explanations make."""

    def __init__(self, before_explaining: object = None) -> None:
        super().__init__()
        self.before_explaining = before_explaining

    def predict(self, inputs: Sequence[str], *, exactly: bool = False) -> np.ndarray:
        """Return (n, 5) probabilities."""
        if exactly and callable(self.before_explaining):
            self.before_explaining()
        return super().predict(inputs, exactly=exactly)


def test_verdicts_are_explained_for_those_who_ask_and_for_nobody_else(ledger: Ledger, settings: Settings) -> None:
    """Each line of the batch that asks has its explanation, in its place; a neighbour's verdicts and the critical stream have none."""
    asking = append(ledger, "bad disk", "fine", "kernel panic", explain=True)
    silent = append(ledger, "bad disk")
    process = Process(settings)
    assert process.drain.run() == 4
    explained = verdicts(ledger, asking)
    assert [verdict.severity for verdict in explained] == ["critical", "not_critical", "critical"]
    said = [verdict.explanation for verdict in explained]
    assert [why.said_by for why in said if why is not None] == ["model", "model", "floor: panic"]
    assert said[0] is not None
    assert said[0].words[0].word == "bad"
    assert verdicts(ledger, silent)[0].explanation is None
    assert all(critical.verdict.explanation is None for _, critical in ledger.critical_lines("0"))
    stats = ledger.stats()
    assert (stats.critical, stats.not_critical, stats.backlog_lines) == (3, 1, 0)


def test_a_neighbour_in_the_same_entry_is_not_explained(ledger: Ledger, settings: Settings) -> None:
    """Two batches of one entry, of which one asks: each line of that one is explained in its own place, and none of the other."""
    batches = [
        LogBatch([LogLine("bad port"), LogLine("bad fan")], keep_verdicts=True),
        LogBatch([LogLine("bad disk"), LogLine("fine")], keep_verdicts=True, explain=True),
    ]
    answers, _ = ledger.append([Appending(contract.encode_batch(batch), 2) for batch in batches], 10**6)
    process = Process(settings)
    assert process.drain.run() == 4
    silent, asking = (verdicts(ledger, answer.batch) for answer in answers)
    assert [verdict.explanation for verdict in silent] == [None, None]
    assert [len(verdict.explanation.words) for verdict in asking if verdict.explanation is not None] == [1, 0]
    assert [call[0] for call in process.model.exact_calls] == ["none | bad disk", "none | fine"]


def test_equal_lines_are_explained_once(ledger: Ledger, settings: Settings) -> None:
    """Twenty times the same line costs one explanation, and each of the twenty has it."""
    asking = append(ledger, *["bad disk"] * 20, explain=True)
    process = Process(settings)
    process.drain.run()
    assert len(process.model.exact_calls) == 1
    assert all(verdict.explanation is not None for verdict in verdicts(ledger, asking))


def test_nothing_is_explained_where_no_verdicts_are_kept(ledger: Ledger, settings: Settings) -> None:
    """An explanation that nobody can read is not made."""
    append(ledger, "bad disk", keep=False, explain=True)
    process = Process(settings)
    assert process.drain.run() == 1
    assert process.model.exact_calls == []


def test_lines_that_nobody_asked_about_are_counted_first(ledger: Ledger, settings: Settings) -> None:
    """Claimed together, the others' entry is committed before the first explanation begins."""
    counted: list[int] = []
    append(ledger, "bad disk", explain=True)
    append(ledger, *["fine"] * 7)
    model = WatchedModel(lambda: counted.append(ledger.stats().lines))
    assert Process(settings, model=model).drain.run() == 8
    assert counted == [7]


def test_lines_that_come_meanwhile_wait_for_one_explanation_at_most(ledger: Ledger, settings: Settings) -> None:
    """Between two explained lines new entries are claimed and counted, although the entry in hand is not finished."""
    counted: list[int] = []
    asking = append(ledger, "bad disk", "bad fan", "bad port", explain=True)

    def arrive() -> None:
        counted.append(ledger.stats().lines)
        append(ledger, "fine")

    assert Process(settings, model=WatchedModel(arrive)).drain.run() == 6
    assert counted == [0, 1, 2]
    assert all(verdict.explanation is not None for verdict in verdicts(ledger, asking))


def test_explaining_does_not_make_claims_smaller(ledger: Ledger, settings: Settings) -> None:
    """What a line takes is learned from judging alone."""
    append(ledger, *["bad disk"] * 10, explain=True)
    process = Process(settings)
    before = process.drain._line_seconds
    process.drain.run()
    assert process.drain._line_seconds == before


def test_an_entry_that_another_process_held_before_is_counted_without(ledger: Ledger, settings: Settings) -> None:
    """Whatever the first process died of, the second does not try it again: counting comes first."""
    hurried = settings.model_copy(update={"abandoned_seconds": 0.1})
    asking = append(ledger, "bad disk", explain=True)
    Ledger(connect(hurried), hurried).claim("dead", 100)
    alive = Process(hurried, "alive")
    wait_for(alive.drain.run, 5, "the abandoned entry to be counted")
    assert verdicts(ledger, asking)[0].explanation is None
    assert alive.model.exact_calls == []


def test_an_entry_is_kept_while_its_lines_are_explained(ledger: Ledger, settings: Settings) -> None:
    """Explanations that take longer than an entry may lie untouched do not give it away."""
    hurried = settings.model_copy(update={"abandoned_seconds": 2.0})
    asking = append(ledger, *[f"bad {name}" for name in ("disk", "fan", "port", "cable")], explain=True)
    thief = Ledger(connect(hurried), hurried)
    stolen: list[int] = []

    def dawdle() -> None:
        until = time.monotonic() + 0.7
        wait_for(lambda: time.monotonic() > until, 5, "time to pass")
        stolen.append(len(thief.claim("thief", 10, answers_bell=False).entries))

    assert Process(hurried, model=WatchedModel(dawdle)).drain.run() == 4
    assert stolen == [0, 0, 0, 0]
    assert all(verdict.explanation is not None for verdict in verdicts(ledger, asking))


@pytest.mark.parametrize("bound", ["PATIENCE_SECONDS", "MOST_LINES"])
def test_what_cannot_be_explained_in_time_is_counted_without(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """Too long a wait or too many lines: the verdicts come all the same, without explanations."""
    monkeypatch.setattr(f"harkline_workers.inquiries.{bound}", 0)
    asking = append(ledger, "bad disk", "fine", explain=True)
    process = Process(settings)
    assert process.drain.run() == 2
    assert [verdict.explanation for verdict in verdicts(ledger, asking)] == [None, None]
    assert process.model.exact_calls == []


def test_a_model_that_cannot_explain_loses_no_line(ledger: Ledger, settings: Settings) -> None:
    """The explanation of a line on which the model raises is empty, and says who judged."""
    asking = append(ledger, "poison", "bad disk", explain=True)
    assert Process(settings).drain.run() == 2
    first, second = verdicts(ledger, asking)
    assert first.degraded
    assert first.explanation is not None
    assert "told to raise" in first.explanation.said_by
    assert second.explanation is not None
    assert second.explanation.words[0].word == "bad"
