"""`harkline train` teaches the model in force, tells the truth of what came of it, and lets no worse model take its place unasked."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harkline.lines.decoded import limits_of
from harkline.settings import Settings, process_environment
from harkline_workers import store
from harkline_workers.labels import LabelsError, has_labels, read_labels
from harkline_workers.manifest import read_manifest
from harkline_workers.model import load_model
from harkline_workers.normalise import LEVELS, normalise
from harkline_workers.store import SHIPPED_MODEL_DIR

if TYPE_CHECKING:
    from collections.abc import Iterable

needs_torch = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "onnx", "sklearn")),
    reason="torch is not installed; the `train` extra brings it, and CI installs it",
)

THINGS = (
    "pump",
    "valve",
    "turbine",
    "boiler",
    "motor",
    "fan",
    "crane",
    "press",
    "lathe",
    "drill",
    "oven",
    "mixer",
    "belt",
    "hoist",
    "saw",
    "kiln",
)
HARM = ("exploded", "melted", "burst", "shattered")
CALM = ("polished", "painted", "oiled", "cleaned")
# Words that the corpus lacks: only labels can teach what they mean.
NEW_HARM, NEW_CALM = "gurgled", "hummed"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of a dozen words: what explodes is critical, what is polished is not."""
    folder = tmp_path_factory.mktemp("corpus")
    for at in range(30):
        name = f"plant-{at}"
        rows: list[dict[str, Any]] = [{"system": name, "domain": "iot", "envelopes": ["{ts} {host}: {message}"]}]
        for level, words in (("critical", HARM), ("info", CALM)):
            for place, word in enumerate(words):
                thing = THINGS[(at + 5 * place) % len(THINGS)]
                text = f"{thing} of {name} {word}"
                row = {"template": text, "logged": None, "level": level, "category": "iot", "reason": "done"}
                rows.append(row)
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return folder


@pytest.fixture(scope="session")
def small_model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two narrow layers that knows the corpus by heart: seconds to make, milliseconds to run."""
    import torch
    from rich.progress import Progress

    from harkline_training.calibrate import Calibration
    from harkline_training.checkpoint import load_tokenizer, save_encoder
    from harkline_training.dataset import load_corpus
    from harkline_training.export import export_graphs, write_manifest
    from harkline_training.train import Recipe, fine_tune
    from harkline_workers.backends.encoder import EncoderConfig, PackedEncoder

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = load_tokenizer(SHIPPED_MODEL_DIR)
    sizes = EncoderConfig(tokenizer.get_vocab_size(), 32, 2, 2, 64, 512, 2, 1e-12, len(LEVELS), 0.1)
    recipe = Recipe(epochs=20, learning_rate=3e-3, head_learning_rate=1e-2)
    with Progress(disable=True) as progress:
        encoder = fine_tune(PackedEncoder(sizes), tokenizer, load_corpus(corpus), recipe, progress)
    folder = tmp_path_factory.mktemp("model")
    save_encoder(encoder, tokenizer, folder)
    export_graphs(folder)
    write_manifest(folder, Calibration(1.0, 0.5), {"trained_on": {"systems": 30, "templates": 240}})
    (folder / "README.md").write_text("# A small model\n", "utf-8")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data folder of the test's own."""
    return Settings(data_dir=tmp_path / "data")


def teach(settings: Settings, file: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "harkline_training.teach", "--from", str(file), *map(str, arguments)],
        env=process_environment(HARKLINE_DATA_DIR=str(settings.data_dir), COLUMNS="200", **environment),
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )


def write_labels(path: Path, rows: Iterable[tuple[str, str]]) -> Path:
    """Write messages and labels as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("message", "label"))
        writer.writerows(rows)
    return path


def score(folder: Path, message: str) -> float:
    """Return what a model says of one message."""
    chances = load_model(folder).predict([normalise(message).model_input])
    return float(chances[0, LEVELS.index("error") :].sum())


@pytest.mark.torch
@needs_torch
def test_what_is_taught_is_learned_installed_and_told(
    settings: Settings, small_model: Path, corpus: Path, tmp_path: Path
) -> None:
    """Words of which the model had no notion are judged as they were labelled, also in lines held out; repeats and contradictions are told."""
    before = store.install(settings, small_model)
    rows = [
        (f"{thing} {word}", label)
        for thing in THINGS
        for word, label in ((NEW_HARM, "critical"), (NEW_CALM, "not_critical"))
    ]
    odd = [("mixer squeaked", "critical"), ("mixer squeaked", "not_critical")]
    file = write_labels(tmp_path / "labels.csv", [*rows, rows[0], *odd])
    options = ("--corpus", corpus, "--epochs", 8, "--learning-rate", 3e-3, "--threads", 1)

    done = teach(settings, file, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "35 labels: 32 distinct lines to the model, 16 of them critical; 1 repeat what another says" in done.stdout
    assert "1 contradict themselves and are left out: rows 35, 36" in done.stdout
    home = store.resolve(settings)
    assert home != before
    assert f"installed as {home.name}" in done.stdout
    assert "32 after" in done.stdout

    manifest = read_manifest(home)
    harm, calm = (
        [score(home, f"{thing} {word}") >= manifest.threshold for thing in THINGS] for word in (NEW_HARM, NEW_CALM)
    )
    assert (sum(harm), sum(calm)) == (len(THINGS), 0)
    lessons = manifest.trained_on["taught"]
    assert isinstance(lessons, list)
    (lesson,) = lessons
    assert lesson["taught_version"] == before.name
    assert lesson["labels_held_out"]["before"]["lines"] == lesson["labels"] == 32
    assert lesson["labels_held_out"]["after"]["f1"] > 0.95 > lesson["labels_held_out"]["before"]["f1"]
    assert not lesson["forced"]
    assert f"version {before.name} learned 32 labelled lines" in (home / "README.md").read_text("utf-8")

    again = teach(settings, file, *options)
    assert again.returncode == 1
    assert "0 distinct templates that the model was not taught before" in again.stderr
    assert store.resolve(settings) == home


@pytest.mark.torch
@needs_torch
def test_a_worse_model_is_refused_and_only_force_installs_it(
    settings: Settings, small_model: Path, corpus: Path, tmp_path: Path
) -> None:
    """Labels that turn the corpus upside down, with nothing rehearsed: the numbers say so, the model in force stays, until it is forced out."""
    before = store.install(settings, small_model)
    rows = [(f"{thing} {word}", "not_critical") for thing in THINGS[:12] for word in HARM]
    rows += [(f"{thing} {word}", "critical") for thing in THINGS[:12] for word in CALM]
    file = write_labels(tmp_path / "labels.csv", rows)
    options = ("--corpus", corpus, "--epochs", 8, "--learning-rate", 3e-3, "--keep-share", 0, "--threads", 1)

    refused = teach(settings, file, *options)
    assert refused.returncode == 1
    assert "worse: AP on the corpus falls from" in refused.stdout
    assert "is not installed; --force installs it" in refused.stderr
    assert store.resolve(settings) == before

    forced = teach(settings, file, *options, "--force")
    assert forced.returncode == 0, forced.stderr
    home = store.resolve(settings)
    assert home != before
    lessons = read_manifest(home).trained_on["taught"]
    assert isinstance(lessons, list)
    assert lessons[0]["forced"]
    assert store.use(settings, before.name) == before


@pytest.mark.torch
@needs_torch
def test_too_few_labels_are_refused(settings: Settings, small_model: Path, corpus: Path, tmp_path: Path) -> None:
    """Templates that are too few to hold any out tell nobody whether teaching helped; --force teaches them, --dry-run changes nothing."""
    before = store.install(settings, small_model)
    file = write_labels(tmp_path / "labels.csv", [(f"crane {word}", "critical") for word in ("fell", "bent", "fell")])
    done = teach(settings, file, "--corpus", corpus)
    assert done.returncode == 1
    assert "2 distinct templates that the model was not taught before are too few to hold any out" in done.stderr
    looked = teach(settings, file, "--corpus", corpus, "--epochs", 1, "--threads", 1, "--force", "--dry-run")
    assert looked.returncode == 0, looked.stderr
    assert "corpus held back" in looked.stdout
    assert "nothing was changed (--dry-run)" in looked.stdout
    assert store.resolve(settings) == before


def test_without_torch_one_sentence_says_how_to_get_it(settings: Settings, tmp_path: Path) -> None:
    """The labels are checked first; then the missing package is named, with the command that installs it."""
    absent = tmp_path / "absent" / "torch"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text('raise ModuleNotFoundError("No module named torch", name="torch")\n', "utf-8")
    file = write_labels(tmp_path / "labels.csv", [("all is lost", "critical")])
    done = teach(settings, file, HARKLINE_MODEL_DIR=str(small_stand_in(tmp_path)), PYTHONPATH=str(absent.parent))
    assert done.returncode == 1
    assert "teaching needs torch, which is not installed here: pip install 'harkline[train]'" in done.stderr
    assert "Traceback" not in done.stderr


def small_stand_in(folder: Path) -> Path:
    """Return a model folder that this program can read, whatever the shipped one was made for."""
    from tests.workers.models import make_model

    make_model(folder / "stand-in")
    return folder / "stand-in"


@pytest.mark.parametrize(
    ("name", "text", "problems"),
    [
        ("a.csv", "message,label\nok,info\nbad,fatal\n", ["row 3: its label is 'fatal', which is none of critical"]),
        ("a.csv", "message,label\nok,\n", ["row 2: it has no label"]),
        ("a.csv", "text,label\nok,info\n", ["row 2: no message, or an empty one"]),
        ("a.csv", "message,verdict\nok,info\n", ["it needs a column `label`"]),
        ("a.csv", "message,label\nA, B,info\n", ["row 2: not as many values as the header has columns"]),
        ("a.csv", "message,label\n", ["it has no rows"]),
        ("a.csv", 'message,label\n"open,info\n', ["no CSV"]),
        ("a.jsonl", '{"message":"ok","label":"info"}\n{"message":\n', ["row 2: no JSON"]),
        ("a.jsonl", '{"message":"ok","label":1}\n[1]\n', ["row 1: its label is 1,", "row 2: no JSON object"]),
        ("a.jsonl", '{"message":7,"label":"info"}\n', ["row 1: the message is not a string"]),
        ("a.jsonl", '{"message":"ok","severity":"ERROR"}\n', ["it needs a column `label`"]),
    ],
)
def test_every_problem_of_a_label_file_is_told_with_its_row(
    tmp_path: Path, settings: Settings, name: str, text: str, problems: list[str]
) -> None:
    """Nothing is guessed and nothing skipped: a file with a wrong row is not used at all."""
    path = tmp_path / name
    path.write_text(text, "utf-8")
    with pytest.raises(LabelsError) as refused:
        read_labels(path, limits_of(settings))
    for problem in problems:
        assert problem in str(refused.value)


def test_labels_are_read_as_they_are_meant(tmp_path: Path, settings: Settings) -> None:
    """Five levels or two sides, commas or a spreadsheet's semicolons, aliases of POST /logs: the same lines come out."""
    five, two = tmp_path / "five.csv", tmp_path / "two.jsonl"
    five.write_text("\ufeffmsg;Label;level;service\ndisk lost;critical;WARN;db\nslow;Warning;;\n\n", "utf-8")
    two.write_text('{"log":"disk lost","label":"critical"}\n\n{"line":"slow","label":"Not critical"}\n', "utf-8")
    limits = limits_of(settings)
    assert [(label.row, label.critical, label.level) for label in read_labels(five, limits)] == [
        (2, True, 4),
        (3, False, 2),
    ]
    assert (read_labels(five, limits)[0].line.level, read_labels(five, limits)[0].line.service) == ("WARN", "db")
    assert [(label.row, label.critical, label.level) for label in read_labels(two, limits)] == [
        (1, True, None),
        (3, False, None),
    ]


def test_a_log_with_severities_is_no_file_of_labels(tmp_path: Path) -> None:
    """`severity` is a level in most logs; only where it says nothing but critical and not_critical is it a label."""
    path = tmp_path / "app.jsonl"
    path.write_text('{"message":"ok","severity":"critical"}\n{"message":"ok","severity":"INFO"}\n', "utf-8")
    assert not has_labels(path)
    path.write_text('{"message":"ok","severity":"critical"}\n{"message":"ok","severity":"not_critical"}\n', "utf-8")
    assert has_labels(path)


@pytest.mark.torch
@needs_torch
def test_no_template_is_learned_from_and_judged_by(tmp_path: Path, settings: Settings) -> None:
    """Lines that differ in their level or their numbers share a fold; each fold has both sides; of many labels one fold in five is measured."""
    from harkline_training.lessons import CROSS_VALIDATED_CASES, folds_of, gather

    path = tmp_path / "labels.jsonl"
    rows = [
        {"message": f"{thing} number {at} {word}", "label": label, "level": level}
        for at, thing in enumerate(THINGS)
        for word, label in (("bent", "error"), ("turned", "debug"))
        for level in ("info", "error")
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    cases = gather(read_labels(path, limits_of(settings))).cases
    folds, measured = folds_of(cases)
    assert (len(cases), measured) == (4 * len(THINGS), 3)
    for fold in range(measured):
        inside = {case.template for case, place in zip(cases, folds, strict=True) if place == fold}
        outside = {case.template for case, place in zip(cases, folds, strict=True) if place != fold}
        assert not inside & outside
        assert {case.critical for case in cases if case.template in inside} == {True, False}
    many = [case._replace(template=f"{case.template} {at}") for at in range(9) for case in cases]
    assert len(many) > CROSS_VALIDATED_CASES
    folds, measured = folds_of(many)
    assert (measured, int(folds.max()) + 1) == (1, 5)


@pytest.mark.torch
@needs_torch
def test_a_level_stays_where_it_decides(tmp_path: Path, settings: Settings) -> None:
    """Where the same words are labelled by their level, no epoch takes that level away; elsewhere a level becomes a mere hint."""
    from harkline_training.lessons import gather, lessons_of
    from harkline_training.train import Recipe

    path = tmp_path / "labels.jsonl"
    rows = [{"message": "gate moved", "level": level, "label": level} for level in ("info", "error")]
    rows.append({"message": "gate stuck", "level": "info", "label": "error"})
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    cases = gather(read_labels(path, limits_of(settings))).cases
    shown = {lesson.model_input for epoch in range(40) for lesson in lessons_of(cases, [], 0.0, Recipe(), epoch)}
    assert {text for text in shown if "moved" in text} == {"info | gate moved", "error | gate moved"}
    assert {text for text in shown if "stuck" in text} == {f"{level} | gate stuck" for level in ("none", *LEVELS)}


@pytest.mark.torch
@needs_torch
def test_the_threshold_moves_along_with_the_scores() -> None:
    """A model that has become louder throughout gets a threshold as much higher; one that is merely less sure of what it knew keeps its own."""
    from harkline_training.comparison import chances_of
    from harkline_training.teaching import threshold_after

    rng = np.random.default_rng(0)
    critical = rng.random(400) < 0.3
    odds = np.where(critical, 3.0, -3.0) + rng.normal(0, 0.5, 400)
    louder = threshold_after(0.5, critical, chances_of(odds), chances_of(odds + 0.7))
    assert louder == pytest.approx(float(chances_of(np.array(0.7))), abs=0.001)
    unsure = threshold_after(0.5, critical, chances_of(odds), chances_of(odds * 0.8))
    assert unsure == pytest.approx(0.5, abs=0.03)
