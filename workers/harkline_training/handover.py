"""Read the model in force as a pupil, and write what was made of it as a folder that can serve in its place."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.progress import Progress

from harkline_training.calibrate import Calibration
from harkline_training.checkpoint import load_encoder, load_tokenizer, save_encoder
from harkline_training.comparison import Numbers
from harkline_training.dataset import System
from harkline_training.examples import corpus_examples, write_examples
from harkline_training.export import export_graphs, write_manifest
from harkline_training.lessons import Case, mark, marks_of
from harkline_training.teaching import Pupil, Taught
from harkline_training.train import Recipe
from harkline_workers.manifest import MANIFEST_NAME, Manifest, check_files
from harkline_workers.neighbours import Example
from harkline_workers.normalise import LEVELS

CARD_NAME = "README.md"
# In the place of a system's name, where an explanation names one.
LABELS_NAME = "labels"
_PUPIL_FILES = ("model.safetensors", "config.json", "tokenizer.json")


def read_pupil(folder: Path, manifest: Manifest, dropout: float) -> Pupil:
    """Load a model of ours for teaching. Raises ModelError where a file is not the one that its manifest names."""
    check_files(folder, manifest, _PUPIL_FILES)
    known = marks_of(manifest.trained_on.get("taught"))
    return Pupil(load_encoder(folder, dropout), load_tokenizer(folder), manifest.temperature, manifest.threshold, known)


def describe(
    cases: Sequence[Case], taught: Taught, manifest: Manifest, recipe: Recipe, keep_share: float, forced: bool
) -> dict[str, Any]:
    """Return what the manifest tells people of one lesson."""
    sets = {"labels_held_out": taught.labels, "corpus_held_back": taught.corpus}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "labels": len(cases),
        "critical": sum(case.critical for case in cases),
        "taught_version": manifest.version,
        "threshold": {"before": manifest.threshold, "after": taught.threshold},
        **{
            name: {"before": _plain(numbers[0]), "after": _plain(numbers[1])}
            for name, numbers in sets.items()
            if numbers is not None
        },
        "forced": forced,
        "marks": "".join(sorted({mark(case) for case in cases})),
        "keep_share": keep_share,
        "recipe": asdict(recipe),
    }


def write_taught(
    folder: Path,
    target: Path,
    taught: Taught,
    examples: Sequence[Example],
    lesson: dict[str, Any],
    progress: Progress,
) -> Path:
    """Write the taught model into `target`: weights, graphs, index, manifest, and the card of `folder` with a note of the lesson. Returns `target`."""
    manifest = json.loads((folder / MANIFEST_NAME).read_text("utf-8"))
    save_encoder(taught.encoder, load_tokenizer(folder), target)
    export_graphs(target)
    write_examples(target, examples, progress)
    about = manifest.get("trained_on", {})
    about["taught"] = [*about.get("taught", []), lesson]
    calibration = Calibration(manifest["temperature"], taught.threshold, manifest["second_look_log_odds"])
    write_manifest(target, calibration, {"trained_on": about})
    if (folder / CARD_NAME).is_file():
        card = (folder / CARD_NAME).read_text("utf-8").rstrip()
        (target / CARD_NAME).write_text(f"{card}\n\n{_note(lesson)}", "utf-8")
    return target


def examples_of(cases: Sequence[Case], systems: Sequence[System]) -> list[Example]:
    """Return what explanations may say a line is like: the labelled lines, and of the corpus what they do not speak of."""
    labelled = {case.template: Example(case.template, _level_of(case), LABELS_NAME) for case in cases}
    return [*labelled.values(), *(found for found in corpus_examples(systems) if found.template not in labelled)]


def _level_of(case: Case) -> str:
    if case.level is None:
        return "critical" if case.critical else "info"
    return LEVELS[case.level]


def _note(lesson: dict[str, Any]) -> str:
    before, after = lesson["threshold"].values()
    said = [
        f"> Taught: on {lesson['at']} version {lesson['taught_version']} learned {lesson['labels']} labelled lines ({lesson['critical']} critical),"
        f" and its threshold went from {before:g} to {after:g}. All numbers above are of the model as it was before."
    ]
    for name, title in (
        ("labels_held_out", "labels it had not seen"),
        ("corpus_held_back", "the corpus, a part held back"),
    ):
        if name in lesson:
            was, now = lesson[name]["before"], lesson[name]["after"]
            said.append(
                f"> On {title} ({was['lines']} lines): AP {_shown(was['average_precision'])} before, {_shown(now['average_precision'])} after;"
                f" F1 {_shown(was['f1'])} before, {_shown(now['f1'])} after; wrong verdicts {was['wrong']} before, {now['wrong']} after."
            )
    return "\n".join(said) + "\n"


def _shown(number: float | None) -> str:
    return "-" if number is None else f"{number:.3f}"


def _plain(numbers: Numbers) -> dict[str, float | None]:
    """Return numbers as JSON knows them: it has no nan."""
    return {name: None if math.isnan(value) else round(value, 4) for name, value in numbers._asdict().items()}
