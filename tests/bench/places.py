"""Where the bench finds what it measures and leaves what it measured, and what its programs say to each other."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL_DIR = ROOT / "workers" / "model"
LOGS_DIR = ROOT.parent / "shared" / "data" / "loghub"
# On a disk like any other, since Redis waits for it.
WORK_DIR = ROOT / "build" / "bench"
DOCUMENTS = (ROOT / "docs" / "performance.md", ROOT / "README.md")
PLOTS_DIR = ROOT / "docs" / "performance"

# What each process of the demo prints once it can answer.
DEMO_READY = "the model is loaded"
