"""`harkline classify --explain`: why, beside every verdict for programs, and below every critical line for people."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harkline.settings import process_environment
from tests.workers.models import make_model

HARKLINE = str(Path(sys.executable).parent / "harkline")
BODY = (
    '{"message": "kernel panic - not syncing: Attempted to kill init"}\n'
    '{"message": "user 17 logged in", "level": "info"}\n'
    '{"message": "connection to broker 7 refused, giving up after 5 of 5 attempts, orders are lost"}\n'
    '{"message": "connection to broker 8 refused, giving up after 6 of 6 attempts, orders are lost"}\n'
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights, whatever the normaliser is today."""
    folder = tmp_path_factory.mktemp("model") / "model"
    make_model(folder)
    return folder


def run(model: Path, folder: Path, *arguments: str) -> str:
    """Run the command on the body and return what it printed."""
    done = subprocess.run(
        [HARKLINE, "classify", "-", "--model", str(model), *arguments],
        input=BODY,
        env=process_environment(HARKLINE_DATA_DIR=str(folder), COLUMNS="200"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_programs_get_every_line_explained(model: Path, tmp_path: Path) -> None:
    """NDJSON: each object has its explanation at its end, equal lines the same one; without the option there is none."""
    found = [json.loads(line) for line in run(model, tmp_path, "--explain").splitlines()]
    floor, calm, first, second = (line["explanation"] for line in found)
    assert floor["said_by"] == "floor: panic" or floor["said_by"] == "model"
    assert calm["said_by"] == "model"
    assert first == second
    assert len(first["words"]) > 2
    assert all(set(word) == {"word", "effect"} for word in first["words"])
    assert all(list(line)[-1] == "explanation" for line in found)
    assert "explanation" not in run(model, tmp_path)


def test_people_see_it_below_critical_lines(model: Path, tmp_path: Path) -> None:
    """A table: a second, indented line under each critical one, its words with their effects, and none under the others."""
    lines = run(model, tmp_path, "--explain", "--output", "table").splitlines()
    below = {lines[at - 1].split()[0]: line for at, line in enumerate(lines) if line.startswith("       ")}
    assert {"0", "2", "3"} <= set(below)
    assert "1" not in below
    assert any(word.startswith(("+", "-")) and float(word) for word in below["2"].split())
    assert len(lines) == 4 + len(below)


def test_with_critical_only_those_are_explained(model: Path, tmp_path: Path) -> None:
    """Lines that are not printed cost nothing."""
    found = [json.loads(line) for line in run(model, tmp_path, "--explain", "--critical").splitlines()]
    assert len(found) == 3
    assert all(line["severity"] == "critical" and line["explanation"]["said_by"] for line in found)
