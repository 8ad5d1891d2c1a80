"""A shift at the ledger: what is claimed is classified, committed and counted, once, whatever happens in between."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from harkline import contract
from harkline import ledger as ledger_module
from harkline.contract import LogBatch, LogLine
from harkline.ledger import Appending, Ledger, connect
from harkline.settings import Settings
from harkline_workers.classify import Classifier
from harkline_workers.drain import Drain
from harkline_workers.isolation import Isolation
from harkline_workers.metrics import WorkerMetrics
from tests.support.polling import wait_for
from tests.workers.fakes import FakeModel


class Process:
    """One worker process, without Celery around it."""

    def __init__(self, settings: Settings, name: str = "p1", model: FakeModel | None = None) -> None:
        self.registry = CollectorRegistry()
        self.model = model or FakeModel()
        self.rung = 0
        client = connect(settings)
        metrics = WorkerMetrics(self.registry)
        classifier = Classifier(self.model, "", 1000, None, metrics)
        self.drain = Drain(Ledger(client, settings), classifier, Isolation(client), metrics, settings, name, self._ring)

    def _ring(self) -> None:
        self.rung += 1

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def hurried(settings: Settings) -> Settings:
    return settings.model_copy(update={"abandoned_seconds": 0.1})


def append(ledger: Ledger, *messages: str, service: str = "", keep: bool = False) -> str:
    batch = LogBatch([LogLine(message, service) for message in messages], keep)
    return ledger.append([Appending(contract.encode_batch(batch), len(messages))], 10**6)[0][0].batch


def test_a_shift_empties_the_ledger_and_counts_every_line(ledger: Ledger, settings: Settings) -> None:
    """Ledger totals, per-service counters and the critical stream all tell the same story."""
    append(ledger, "fine", "bad disk", service="db")
    append(ledger, "fine")
    process = Process(settings)
    assert process.drain.run() == 3
    stats = ledger.stats()
    assert (stats.critical, stats.not_critical, stats.backlog_lines) == (1, 2, 0)
    assert process.value("log_severity_total", severity="critical", service="db") == 1
    assert process.value("log_severity_total", severity="not_critical", service="db") == 1
    assert process.value("log_severity_total", severity="not_critical", service="unknown") == 1
    [(_, found)] = ledger.critical_lines("0")
    assert (found.line.message, found.line.service, found.verdict.severity) == ("bad disk", "db", "critical")


def test_a_new_service_appears_with_both_severities(ledger: Ledger, settings: Settings) -> None:
    """A service's counters exist for both severities as soon as it is seen, and at 0 from the start in the next process."""
    append(ledger, "fine", service="new")
    Process(settings).drain.run()
    later = Process(settings)
    later.drain.know_services(ledger.services())
    assert later.registry.get_sample_value("log_severity_total", {"severity": "critical", "service": "new"}) == 0.0


def test_services_past_the_bound_count_as_other(ledger: Ledger, settings: Settings) -> None:
    """Attacker-chosen names do not become labels without end."""
    small = settings.model_copy(update={"service_labels_max": 2})
    process = Process(small)
    for at in range(50):
        append(ledger, "fine", service=f"svc-{at}")
    process.drain.run()
    services = {
        sample.labels["service"]
        for metric in process.registry.collect()
        if metric.name == "log_severity"
        for sample in metric.samples
    }
    assert services == {"svc-0", "svc-1", "other", "unknown"}
    assert process.value("log_severity_total", severity="not_critical", service="other") == 48


def test_verdicts_are_kept_only_where_asked_for(ledger: Ledger, settings: Settings) -> None:
    """A waiting request finds its verdicts, in order; others leave nothing behind."""
    waited = append(ledger, "bad", "fine", keep=True)
    silent = append(ledger, "bad")
    Process(settings).drain.run()
    kept = ledger.verdicts(waited)
    assert kept is not None
    assert [verdict.severity for verdict in kept] == ["critical", "not_critical"]
    assert ledger.verdicts(silent) is None


def test_a_process_that_dies_before_its_commit_loses_nothing(ledger: Ledger, hurried: Settings) -> None:
    """What a dead process had claimed is counted by another, once."""
    append(ledger, "bad", "fine")
    Ledger(connect(hurried), hurried).claim("dead", 100)
    alive = Process(hurried, "alive")
    wait_for(alive.drain.run, 5, "the abandoned entry to be counted")
    assert ledger.stats().lines == 2
    assert alive.value("harkline_redelivered_entries_total") == 1


def test_a_process_that_was_overtaken_counts_nothing(ledger: Ledger, settings: Settings) -> None:
    """A process that commits what another has counted adds nothing, neither to the ledger nor to its own metrics."""
    append(ledger, "bad")
    fast = Ledger(connect(settings), settings)

    def overtake(_: Sequence[str]) -> None:
        [entry] = fast.redis.xpending_range(ledger_module.LEDGER, ledger_module.GROUP, "-", "+", 1)
        assert fast.commit([ledger_module.Commit(entry["message_id"].decode(), 1, 1)]) == [True]

    slow = Process(settings, "slow", FakeModel(overtake))
    assert slow.drain.run() == 0
    assert ledger.stats().lines == 1
    assert slow.value("log_severity_total", severity="critical", service="unknown") == 0


def test_an_entry_of_another_version_stays_for_who_can_read_it(ledger: Ledger, settings: Settings) -> None:
    """Bytes this version cannot read are left pending, not dropped and not counted; others go on."""
    ledger.append([Appending(b"\x92\x09\x90", 1)], 100)
    append(ledger, "fine")
    assert Process(settings).drain.run() == 1
    assert ledger.stats().backlog_lines == 1


def test_a_line_on_which_the_model_raises_becomes_a_dead_letter(ledger: Ledger, settings: Settings) -> None:
    """It is counted by the rules and set aside in the same commit, so totals stay exact."""
    append(ledger, "fine", "poison", "bad")
    Process(settings).drain.run()
    stats = ledger.stats()
    assert (stats.lines, stats.dead, stats.degraded) == (3, 1, 1)
    [(_, fields)] = ledger.redis.xrange(ledger_module.DEAD_LETTERS)
    letter = contract.decode_dead_letter(fields[b"letter"])
    assert (letter.position, letter.line.message) == (1, "poison")


class Killed(BaseException):
    """Stands for kill -9: nothing of the process runs after it."""


def test_a_line_that_kills_its_process_is_found_and_set_aside(ledger: Ledger, hurried: Settings) -> None:
    """Each death halves the range of suspects; the culprit ends as a dead letter, the innocents get the model's verdict."""
    killer = "kills its process"
    messages = [f"fine {chr(97 + at)}" for at in range(16)]
    messages[11] = killer
    append(ledger, *messages)

    def die_of_killer(inputs: Sequence[str]) -> None:
        if any(killer in model_input for model_input in inputs):
            raise Killed

    def life(at: int) -> bool:
        process = Process(hurried, f"life {at}", FakeModel(die_of_killer))
        with contextlib.suppress(Killed):
            process.drain.run()
        return ledger.stats().lines == 16

    lives = iter(range(1000))
    wait_for(lambda: life(next(lives)), 30, "the culprit to be found")
    stats = ledger.stats()
    assert (stats.lines, stats.dead, stats.degraded, stats.backlog_lines) == (16, 1, 1, 0)
    [(_, fields)] = ledger.redis.xrange(ledger_module.DEAD_LETTERS)
    assert contract.decode_dead_letter(fields[b"letter"]).line.message == killer
