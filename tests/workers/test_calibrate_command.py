"""`harkline calibrate` sets the lowest threshold that keeps a budget of alarms, and what it installs is a model that keeps it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from harkline.settings import Settings, process_environment
from harkline_workers import rules, store
from harkline_workers.budget import HIGHEST, LOWEST, BadBudget, choose_threshold, lines_needed, parse_budget
from harkline_workers.manifest import read_manifest
from harkline_workers.model import load_model
from harkline_workers.normalise import LEVELS, normalise
from tests.workers.checkpoints import distilbert
from tests.workers.models import make_model

CALM = (
    "session {n} opened for user deploy",
    "GET /healthz 200 in {n} ms",
    "cache warmed with {n} entries",
    "checkpoint complete, {n} buffers written",
    "rotated log {n}, 0 errors",
    "worker {n} started",
    "connection {n} closed by peer after idle timeout",
    "certificate renewed, valid for {n} days",
    "slow query took {n} ms",
    "retrying request {n} of the batch, connection refused",
    "disk {n} is 81% full",
    "login failed for user guest from 10.0.0.{n}",
)
LOUD = (
    "replica {n} lost quorum, refusing all writes",
    "disk {n}: unrecoverable read error, array degraded, giving up",
    "payment gateway down, all {n} requests failed",
)
FLOORED = "kernel: Out of memory: Killed process {n} (postgres)"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights under a threshold of their own."""
    folder = tmp_path_factory.mktemp("model") / "model"
    make_model(folder, threshold=0.5)
    return folder


@pytest.fixture
def settings(tmp_path: Path, model: Path) -> Settings:
    """A data folder of the test's own in which that model serves."""
    settings = Settings(data_dir=tmp_path / "data")
    store.install(settings, model)
    return settings


def calibrate(settings: Settings, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "harkline_workers.commands.calibrate", *map(str, arguments)],
        env=process_environment(HARKLINE_DATA_DIR=str(settings.data_dir), COLUMNS="200", **environment),
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )


def stream(lines: int) -> list[str]:
    """Return lines of a quiet system: few kinds make most of it, loud ones are rare, and some are under a floor."""
    weights = [1.0 / (1 + place) for place in range(len(CALM))]
    rng = np.random.default_rng(7)
    kinds = rng.choice(len(CALM), size=lines, p=np.array(weights) / sum(weights))
    made = [CALM[kind].format(n=1000 + at) for at, kind in enumerate(kinds)]
    for place, template in enumerate((*LOUD * 2, FLOORED)):
        made[place * 37] = template.format(n=place)
    return made


def test_the_threshold_is_the_lowest_that_keeps_the_budget() -> None:
    """Whatever the scores, however many share one: no more ring than may, and at any lower threshold more would."""
    rng = np.random.default_rng(3)
    for round_ in range(300):
        size = int(rng.integers(1, 40))
        scores = np.round(rng.uniform(0.051, 0.949, size), int(rng.integers(1, 8)))
        lines = rng.integers(1, 30, size)
        allowed = int(rng.integers(0, lines.sum() + 2))
        choice = choose_threshold(scores, lines, allowed)
        assert choice.ringing == lines[scores >= choice.threshold].sum() <= allowed, round_
        assert choice.is_possible
        silent = scores[scores < choice.threshold]
        if silent.size:
            assert choice.first_silent == silent.max()
            assert lines[scores >= silent.max()].sum() > allowed, round_
        else:
            assert choice.threshold == choice.bound == LOWEST


def test_scores_that_hardly_differ_are_told_apart() -> None:
    """Where four digits do not separate two neighbours, more are used."""
    scores = np.array([0.51234567, 0.51234568])
    assert scores[0] < choose_threshold(scores, np.array([1, 1]), 1).threshold <= scores[1]


def test_a_budget_that_no_threshold_keeps_is_known_as_such() -> None:
    """Lines above the highest threshold ring whatever it is; those below it can still be silenced."""
    choice = choose_threshold(np.array([0.97, 0.97, 0.5]), np.array([4, 2, 9]), 5)
    assert (choice.threshold, choice.bound, choice.ringing) == (HIGHEST, HIGHEST, 6)
    assert not choice.is_possible


@pytest.mark.parametrize("text", ["5/1000", "0.5%", "0.005", ".005", " 5 / 1000 "])
def test_a_budget_can_be_written_in_three_ways(text: str) -> None:
    """A rate, a percentage and a share mean the same."""
    assert parse_budget(text) == Fraction(5, 1000)
    assert lines_needed(parse_budget(text)) == 2000


@pytest.mark.parametrize("text", ["5", "0/1000", "5/0", "100%", "1000/1000", "-5/1000", "five", "", "1e-3", "0.0"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    """A number that could mean two things, none and all are told in a sentence that shows how to write one."""
    with pytest.raises(BadBudget, match="5/1000"):
        parse_budget(text)


def test_the_installed_model_keeps_the_budget_exactly(settings: Settings, tmp_path: Path) -> None:
    """The model that serves afterwards rings for no more than the budget of the file's lines, and one kind more would exceed it."""
    file = tmp_path / "app.log"
    lines = stream(3000)
    file.write_text("\n".join(lines) + "\n", "utf-8")
    before = store.resolve(settings)

    looked = calibrate(settings, file, "--budget", "60/1000", "--dry-run")
    assert looked.returncode == 0, looked.stderr
    assert "nothing was changed (--dry-run)" in looked.stdout
    assert store.resolve(settings) == before

    done = calibrate(settings, file, "--budget", "60/1000")
    assert done.returncode == 0, done.stderr
    home = store.resolve(settings)
    assert home != before
    assert f"installed as {home.name}" in done.stdout
    assert "1 distinct lines are under a floor" in done.stdout

    manifest = read_manifest(home)
    told = manifest.trained_on["calibrated"]
    assert isinstance(told, dict)
    assert (told["lines"], told["false_alarms_per_thousand"], told["threshold"]) == (3000, 60.0, manifest.threshold)
    assert manifest.files == read_manifest(before).files
    assert f"{manifest.threshold:g} since {told['at']}" in (home / "README.md").read_text("utf-8")

    counts: Counter[str] = Counter()
    for line in lines:
        normalised = normalise(line)
        if rules.floor(normalised) is None:
            counts[normalised.model_input] += 1
    serving = load_model(home)
    scores = serving.predict(list(counts))[:, LEVELS.index("error") :].sum(axis=1)
    weights = np.array(list(counts.values()))
    ringing = scores >= manifest.threshold
    assert 0 < weights[ringing].sum() <= 180
    next_kind = scores == scores[~ringing].max()
    assert weights[ringing | next_kind].sum() > 180

    again = calibrate(settings, file, "--budget", "60/1000")
    assert "has this threshold already" in again.stdout
    assert store.resolve(settings) == home


def test_too_few_lines_are_refused_with_the_number_that_is_needed(settings: Settings, tmp_path: Path) -> None:
    """Fewer lines than resolve the budget: a sentence with the number, nothing changed; --force goes on."""
    file = tmp_path / "app.log"
    file.write_text("\n".join(stream(300)), "utf-8")
    before = store.resolve(settings)
    refused = calibrate(settings, file)
    assert refused.returncode == 1
    assert "300 lines are too few for 5 of 1,000: give at least 2,000" in refused.stderr
    assert store.resolve(settings) == before
    assert calibrate(settings, file, "--force").returncode == 0
    assert store.resolve(settings) != before


def test_one_kind_of_line_that_takes_the_whole_budget_is_named(settings: Settings, tmp_path: Path) -> None:
    """Where a single frequent line alone exceeds the budget, what it costs is told: the threshold that would do without it."""
    file = tmp_path / "app.log"
    file.write_text("\n".join(stream(2000) + [LOUD[1].format(n=at) for at in range(100)]), "utf-8")
    done = calibrate(settings, file, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "have one score" in done.stdout
    assert "alone exceed the budget; without them the threshold would be 0." in done.stdout


def test_of_labelled_lines_those_not_critical_make_the_budget(settings: Settings, tmp_path: Path) -> None:
    """In a file of labels critical lines ring for free, and what is found of them is shown before and after."""
    file = tmp_path / "labels.csv"
    calm = [template.format(n=at) for at, template in enumerate(CALM)]
    rows = [f'"{line}",not_critical' for line in calm * 10] + [
        f'"{template.format(n=at)}",critical' for at, template in enumerate(LOUD * 10)
    ]
    file.write_text("message,label\n" + "\n".join(rows) + "\n", "utf-8")
    done = calibrate(settings, file, "--budget", "10%")
    assert done.returncode == 0, done.stderr
    assert "recall of critical lines" in done.stdout
    assert "F1" in done.stdout
    told = read_manifest(store.resolve(settings)).trained_on["calibrated"]
    assert isinstance(told, dict)
    assert (told["lines"], told["labelled"]) == (120, True)


def test_an_impossible_budget_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    """Where what is most certain rings too often, no threshold helps: told so with what to do instead, and only --force goes on."""
    make_model(tmp_path / "certain", threshold=0.5, temperature=0.2)
    before = store.install(settings, tmp_path / "certain")
    file = tmp_path / "app.log"
    file.write_text("\n".join(LOUD[1].format(n=at) for at in range(50)), "utf-8")
    done = calibrate(settings, file, "--budget", "20%")
    assert done.returncode == 1
    assert "50 lines score 0.95 or more, and 10 may ring" in done.stdout
    assert "no threshold keeps this budget: label what rings in vain" in done.stderr
    assert store.resolve(settings) == before
    forced = calibrate(settings, file, "--budget", "20%", "--force")
    assert forced.returncode == 0, forced.stderr
    assert read_manifest(store.resolve(settings)).threshold == HIGHEST


@pytest.mark.torch
@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "transformers")),
    reason="torch and transformers are not installed",
)
def test_the_threshold_of_a_checkpoint_is_told_as_the_setting_that_it_is(settings: Settings, tmp_path: Path) -> None:
    """A Hugging Face checkpoint has no manifest to write into: the setting is printed, and nothing is installed."""
    folder = distilbert(tmp_path / "checkpoint")
    file = tmp_path / "app.log"
    file.write_text("\n".join(stream(300)), "utf-8")
    before = store.resolve(settings)
    environment = {"HARKLINE_MODEL": str(folder), "HARKLINE_MODEL_LABELS": "LABEL_0=info,LABEL_1=critical"}
    done = calibrate(settings, file, "--budget", "10%", "--force", **environment)
    assert done.returncode == 0, done.stderr
    assert "HARKLINE_MODEL_THRESHOLD=0." in done.stdout
    assert store.resolve(settings) == before


def test_labels_that_mean_nothing_are_listed_with_their_rows(settings: Settings, tmp_path: Path) -> None:
    """An unknown label stops everything, and names itself, its row and what it could have been."""
    file = tmp_path / "labels.csv"
    file.write_text("message,label\nall is well,fine\ndisk lost,critical\n,info\n", "utf-8")
    done = calibrate(settings, file)
    assert done.returncode == 1
    assert "row 2: its label is 'fine', which is none of critical, not_critical, debug" in done.stderr
    assert "row 4: no message" in done.stderr


def test_a_file_that_is_not_there_is_one_sentence(settings: Settings, tmp_path: Path) -> None:
    """No traceback for a wrong name."""
    for name in ("none.log", "none.csv"):
        done = calibrate(settings, tmp_path / name)
        assert done.returncode == 1
        assert "cannot be opened" in done.stderr
        assert "Traceback" not in done.stderr
