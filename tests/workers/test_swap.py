"""Another model takes over between two claims, or not at all; what is wrong with it is said, and the old one serves on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from harkline import contract
from harkline.contract import LogBatch, LogLine
from harkline.errors import ModelError
from harkline.ledger import Appending, Ledger, connect
from harkline.settings import Settings
from harkline_workers import store
from harkline_workers.cache import SharedCache
from harkline_workers.classify import Classifier
from harkline_workers.drain import Drain
from harkline_workers.heartbeat import Heartbeat
from harkline_workers.isolation import Isolation
from harkline_workers.metrics import WorkerMetrics
from harkline_workers.source import ModelSource
from harkline_workers.swap import ModelSwap
from tests.support.polling import wait_for
from tests.workers.fakes import FakeModel
from tests.workers.models import make_model, write_manifest


class FakeSource:
    """A place where models are put and taken away; remembers the models that it gave."""

    def __init__(self, version: str = "one") -> None:
        self.version = version  # "" where there is none to load
        self.shipped = ""
        self.changes = 0
        self.loads = 0
        self.given: dict[str, SwappedModel] = {}

    def put(self, version: str) -> None:
        """Replace what is there."""
        self.version = version
        self.changes += 1

    def fingerprint(self) -> tuple[tuple[str, int, int, int], ...]:
        return (("model", self.changes, 0, 0),)

    def load(self) -> SwappedModel:
        self.loads += 1
        if not self.version:
            raise ModelError("there is no model")
        return self.given.setdefault(self.version, SwappedModel(self.version))

    def load_shipped(self) -> SwappedModel | None:
        return SwappedModel(self.shipped) if self.shipped else None


class SwappedModel(FakeModel):
    """A model that knows whether it was let go of."""

    backend = "fake"

    def __init__(self, version: str) -> None:
        super().__init__()
        self.version = version
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Process:
    """What a worker process has around its model."""

    def __init__(self, source: FakeSource, ledger: Ledger) -> None:
        self.registry = CollectorRegistry()
        self.source = source
        metrics = WorkerMetrics(self.registry)
        self.classifier = Classifier(None, "starting", 100, None, metrics)
        self.swap = ModelSwap(
            source, self.classifier, lambda version: SharedCache(ledger.redis, version, 1000), metrics
        )
        self.swap.begin()

    def notice(self) -> None:
        """Let the heartbeat's seconds pass."""
        self.swap.look()
        self.swap.look()

    def judge(self, message: str) -> contract.Verdict:
        return self.classifier.classify([LogLine(message)]).verdicts[0]

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def test_another_model_takes_over(ledger: Ledger) -> None:
    """Verdicts, both caches and the gauges follow; the old model is let go of only when the new one serves."""
    process = Process(FakeSource("one"), ledger)
    assert [process.judge("disk # fine").source for _ in range(2)] == ["model", "cache"]
    process.source.put("two")
    process.notice()
    assert not process.source.given["one"].is_closed
    process.swap.renew()
    verdict = process.judge("disk # fine")
    assert (verdict.model, verdict.source, verdict.degraded) == ("two", "model", False)
    assert process.source.given["one"].is_closed
    assert not process.source.given["two"].is_closed
    assert (process.swap.version, process.swap.why) == ("two", "")
    assert process.value("harkline_model_loaded", version="one", backend="fake") == 0
    assert process.value("harkline_model_loaded", version="two", backend="fake") == 1


def test_what_still_changes_is_left_alone(ledger: Ledger) -> None:
    """A folder that is being copied looks different every second; it is loaded when it has been still for one."""
    process = Process(FakeSource("one"), ledger)
    for _ in range(5):
        process.source.put("two")
        assert process.swap.look() is False
        process.swap.renew()
    assert process.source.loads == 1
    assert process.swap.look() is True
    process.swap.renew()
    assert process.swap.version == "two"


def test_a_model_that_cannot_be_loaded_changes_nothing_and_is_told_once(ledger: Ledger) -> None:
    """The old one serves on; counter, gauge and readiness say so; it is tried again when files change, not before."""
    process = Process(FakeSource("one"), ledger)
    process.source.put("")
    for _ in range(3):
        process.notice()
        process.swap.renew()
    assert process.source.loads == 2
    assert process.value("harkline_model_swap_failures_total") == 1
    assert process.value("harkline_model_outdated") == 1
    assert process.value("harkline_model_degraded") == 0
    assert process.swap.why == "another model cannot be loaded, one serves: there is no model"
    assert (process.judge("bad disk").model, process.source.given["one"].is_closed) == ("one", False)
    process.source.put("three")
    process.notice()
    process.swap.renew()
    assert (process.swap.version, process.swap.why) == ("three", "")
    assert process.value("harkline_model_outdated") == 0


def test_a_process_without_a_model_takes_one_up(ledger: Ledger) -> None:
    """Rules judge and say why until a model appears; then it judges."""
    process = Process(FakeSource(""), ledger)
    assert process.value("harkline_model_degraded") == 1
    before = process.judge("bad disk")
    assert (before.degraded, before.model, "there is no model" in before.why) == (True, "", True)
    process.source.put("one")
    process.notice()
    process.swap.renew()
    after = process.judge("bad disk")
    assert (after.degraded, after.model) == (False, "one")
    assert process.value("harkline_model_degraded") == 0


def test_the_shipped_model_stands_in_for_one_that_is_damaged_at_start(ledger: Ledger) -> None:
    """Better a former model than none, as after an upgrade that an installed one does not fit; it is told all the same."""
    source = FakeSource("")
    source.shipped = "shipped"
    process = Process(source, ledger)
    assert process.judge("bad disk").model == "shipped"
    assert process.value("harkline_model_degraded") == 0
    assert process.value("harkline_model_outdated") == 1
    assert process.swap.why == "another model cannot be loaded, shipped serves: there is no model"


def test_a_model_changes_only_between_claims(ledger: Ledger, settings: Settings) -> None:
    """While a claim is worked on nothing is replaced; each entry has verdicts of one model, and every line is counted once."""
    process = Process(FakeSource("one"), ledger)
    renewed_with_claims: list[int] = []

    def between_claims() -> None:
        renewed_with_claims.append(len(ledger.redis.xpending_range("{harkline}:ledger", "workers", "-", "+", 10)))
        process.swap.renew()

    hurried = settings.model_copy(update={"claim_lines": 1})
    drain = Drain(
        ledger,
        process.classifier,
        Isolation(ledger.redis),
        WorkerMetrics(CollectorRegistry()),
        hurried,
        "p1",
        lambda: None,
        between_claims,
    )
    batches = []
    for _ in range(3):
        batch = LogBatch([LogLine(f"line {'abcdefghij'[at % 10]}{'klmnopqrst'[at // 10]}") for at in range(100)], True)
        batches.append(ledger.append([Appending(contract.encode_batch(batch), 100)], 10**6)[0][0].batch)
    seen: list[bool] = []

    def while_scoring(_: object) -> None:
        seen.append(drain.is_working)
        if len(seen) == 1:
            process.source.put("two")
            process.notice()

    process.source.given["one"]._before_scoring = while_scoring
    assert drain.run() == 300
    assert seen
    assert all(seen)
    assert not drain.is_working
    assert set(renewed_with_claims) == {0}
    models = [{verdict.model for verdict in ledger.verdicts(batch) or []} for batch in batches]
    assert models == [{"one"}, {"two"}, {"two"}]
    assert ledger.stats().lines == 300


def test_the_heartbeat_looks_wakes_and_reports_news_at_once(ledger: Ledger, settings: Settings) -> None:
    """A change is found within seconds while nothing else happens, and readiness has the new version right after it serves."""
    woken = threading.Event()
    state = ["one"]

    def reported() -> list[str]:
        return [report.model for report in ledger.workers().values()]

    heartbeat = Heartbeat(connect(settings), "p1", lambda: (state[0], False, ""), lambda: state[0] == "one", woken.set)
    heartbeat.start()
    try:
        wait_for(lambda: reported() == ["one"], 10, "the first report")
        assert woken.wait(10)
        state[0] = "two"
        wait_for(lambda: reported() == ["two"], 10, "the news")
    finally:
        heartbeat.stop()
        heartbeat.join(10)
    assert not heartbeat.is_alive()


def test_a_source_sees_every_way_to_replace_a_model(tmp_path: Path) -> None:
    """Another link, another manifest in place, a folder that appears or goes: each changes the fingerprint; looking twice does not."""
    settings = Settings(data_dir=tmp_path / "data")
    source = ModelSource(settings)
    seen = [source.fingerprint()]
    assert source.fingerprint() == seen[0]
    make_model(tmp_path / "new", threshold=0.61)
    store.install(settings, tmp_path / "new")
    seen.append(source.fingerprint())
    store.reset(settings)
    assert source.fingerprint() == seen[0]
    mine = ModelSource(settings.model_copy(update={"model_dir": tmp_path / "mine"}))
    seen.append(mine.fingerprint())
    make_model(tmp_path / "mine")
    seen.append(mine.fingerprint())
    write_manifest(tmp_path / "mine", threshold=0.62)
    seen.append(mine.fingerprint())
    assert len(set(seen)) == len(seen)
    assert mine.load().threshold == 0.62


def test_an_installed_model_of_another_release_does_not_blind_a_worker(tmp_path: Path) -> None:
    """After an upgrade the installed model may not fit: it is not loaded, and the shipped one can stand in; a folder named by hand has no stand-in."""
    settings = Settings(data_dir=tmp_path / "data")
    make_model(tmp_path / "new", threshold=0.61)
    home = store.install(settings, tmp_path / "new")
    write_manifest(home, normaliser_version="another")
    source = ModelSource(settings)
    with pytest.raises(ModelError, match="normaliser 'another'"):
        source.load()
    make_model(tmp_path / "shipped")
    named = ModelSource(settings.model_copy(update={"model_dir": home}))
    assert named.load_shipped() is None
    store.reset(settings)
    assert source.load_shipped() is None


def test_the_parent_stays_clean() -> None:
    """What a worker's parent does with the model before it forks loads neither numpy nor a runtime, and Flower's image has neither."""
    code = (
        "import sys, harkline_workers.app as worker; worker.app\n"
        "from harkline_workers.source import ModelSource; from harkline.settings import Settings\n"
        "source = ModelSource(Settings()); source.prepare(); source.fingerprint()\n"
        "print([name for name in ('numpy', 'tokenizers', 'onnxruntime', 'torch', 'transformers', 'huggingface_hub') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(answer.stdout.replace("'", '"')) == []
