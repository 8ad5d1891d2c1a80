"""Models for tests, made of the shipped weights: cheap to make, and each another version."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from harkline_workers.manifest import read_manifest
from harkline_workers.normalise import NORMALISER_VERSION
from harkline_workers.store import SHIPPED_MODEL_DIR

if TYPE_CHECKING:
    from pathlib import Path


def make_model(folder: Path, **changes: object) -> str:
    """Make a model folder of links to the shipped files, its manifest changed (another threshold is another version); returns its version."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in SHIPPED_MODEL_DIR.iterdir():
        if path.is_file() and path.name != "model.json":
            os.link(path, folder / path.name)
    write_manifest(folder, **changes)
    return read_manifest(folder).version


def write_manifest(folder: Path, **changes: object) -> None:
    """Write a folder's `model.json` anew: the shipped one with changes, for the normaliser of this program."""
    shipped = json.loads((SHIPPED_MODEL_DIR / "model.json").read_text("utf-8"))
    manifest = shipped | {"normaliser_version": NORMALISER_VERSION} | changes
    (folder / "model.json").unlink(missing_ok=True)
    (folder / "model.json").write_text(json.dumps(manifest), "utf-8")
