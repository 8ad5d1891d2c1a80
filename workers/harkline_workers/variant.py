"""Make a model that differs from another in its threshold alone: the same weights, another manifest, and so another version."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harkline_workers.manifest import MANIFEST_NAME, read_manifest

if TYPE_CHECKING:
    from fractions import Fraction
    from pathlib import Path

_CARD_NAME = "README.md"
_NOTE = "> Calibrated:"


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a manifest tells people of how its threshold came to be."""

    at: str  # RFC 3339
    threshold: float
    false_alarms_per_thousand: float  # the budget
    lines: int  # that should not ring
    distinct_inputs: int
    labelled: bool

    @classmethod
    def now(cls, threshold: float, budget: Fraction, lines: int, distinct_inputs: int, labelled: bool) -> Calibrated:
        """Describe a calibration of this moment."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(at, threshold, float(1000 * budget), lines, distinct_inputs, labelled)


def with_threshold(folder: Path, target: Path, threshold: float, calibrated: Calibrated | None = None) -> Path:
    """Make `target` a model folder like `folder` but for its threshold, and return it. Raises ModelError, OSError.

    Files are linked where the file system and their owner allow it, else copied; a `target` that is there already only gets a new manifest.
    """
    manifest = read_manifest(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name in manifest.files:
        if not (target / name).exists():
            _link(folder / name, target / name)
    document = json.loads((folder / MANIFEST_NAME).read_text("utf-8"))
    document["threshold"] = threshold
    if calibrated is not None:
        document["trained_on"] = {**document.get("trained_on", {}), "calibrated": asdict(calibrated)}
        _note(folder / _CARD_NAME, target / _CARD_NAME, calibrated)
    (target / MANIFEST_NAME).write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    return target


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or a file of another user's
        shutil.copyfile(source, target)


def _note(source: Path, target: Path, calibrated: Calibrated) -> None:
    """Copy a model's card with a note at its end, in the place of an older one: what it says of the threshold is no longer so."""
    if not source.is_file():
        return
    card = source.read_text("utf-8").split(f"\n{_NOTE}", 1)[0].rstrip()
    said = (
        f"the threshold is {calibrated.threshold:g} since {calibrated.at}, a budget of {calibrated.false_alarms_per_thousand:g} alarms in 1,000"
        f" on {calibrated.lines} lines ({calibrated.distinct_inputs} distinct) of this system's own. What stands above of the threshold and of F1 is"
        " of the model as it was before."
    )
    target.write_text(f"{card}\n\n{_NOTE} {said}\n", "utf-8")
