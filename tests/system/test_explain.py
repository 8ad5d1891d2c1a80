"""Why a line is critical, asked of a whole system: a real API, a real worker, the shipped model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.whole import Whole, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

MANIFEST = Path(__file__).resolve().parents[2] / "workers" / "model" / "model.json"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """One running system."""
    with whole(tmp_path_factory.mktemp("whole")) as running:
        yield running


def test_a_line_is_explained_by_the_worker_that_judged_it(system: Whole) -> None:
    """Words with their effects and, where the model ships with examples, what the line is like; again from GET /batches."""
    line = {"message": "replication of shard 7 stopped: disk failed, data cannot be written", "service": "db"}
    status, answer = system.post(
        "/logs?wait=20&explain=true", json.dumps(line).encode(), {"Content-Type": "application/json"}
    )
    assert status == 202
    [verdict] = answer["verdicts"]
    assert verdict["source"] in ("model", "cache")
    explanation = verdict["explanation"]
    assert explanation["said_by"] == "model"
    effects = {word["word"]: word["effect"] for word in explanation["words"]}
    assert effects
    assert set(effects) <= set(verdict["template"].replace(":", " ").replace(",", " ").split())
    assert all(0.05 <= abs(effect) < 28 for effect in effects.values())
    if "examples.npz" in json.loads(MANIFEST.read_text("utf-8"))["files"]:
        assert len(explanation["nearest"]) == 3
        assert all(0 < like["similarity"] <= 1 for like in explanation["nearest"])
    else:
        assert explanation["nearest"] == []
    assert system.get(f"/batches/{answer['batch']}")[1]["verdicts"] == answer["verdicts"]


def test_a_floor_explains_itself(system: Whole) -> None:
    """The words that a rule matched, without an effect."""
    status, answer = system.post(
        "/logs?wait=20&explain=true",
        b"FATAL: this is routine, nothing to worry about\n",
        {"Content-Type": "text/plain"},
    )
    assert status == 202
    [verdict] = answer["verdicts"]
    assert verdict["severity"] == "critical"
    if verdict["source"] == "rule":
        assert verdict["explanation"]["said_by"] == verdict["why"]
        assert verdict["explanation"]["words"] == [{"word": "level=critical", "effect": None}]


def test_everything_is_counted_once_while_lines_are_explained(system: Whole) -> None:
    """Twenty lines to explain and two thousand others: all counted, each asked line explained, the others' verdicts without."""
    system.wait_until_drained()
    before = system.ledger_lines()
    asked = "\n".join(f"worker {name} lost its lease and stops" for name in "abcdefghijklmnopqrst")
    others = "\n".join(f"request {at} served in {at} ms" for at in range(2000))
    status, explained = system.post("/logs?wait=0&explain=true", asked.encode(), {"Content-Type": "text/plain"})
    assert status == 202
    status, plain = system.post("/logs?wait=20", others.encode(), {"Content-Type": "text/plain"})
    assert status == 202
    assert len(plain["verdicts"]) == 2000
    assert not any("explanation" in verdict for verdict in plain["verdicts"])
    system.wait_until_drained()
    assert system.ledger_lines() - before == 2020
    verdicts = system.get(f"/batches/{explained['batch']}")[1]["verdicts"]
    assert sum("explanation" in verdict for verdict in verdicts) == 20
    assert system.post("/logs?explain=true", b"a")[0] == 400
