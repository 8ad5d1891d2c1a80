"""What was recorded comes back as it was, and only for the model that it was recorded of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from harkline_training.curves import operating_points, precision_recall, reliability
from harkline_training.metrics import Judged, summarise
from harkline_training.record import (
    EVALUATION_NAME,
    Evaluation,
    Quantised,
    Row,
    SetReport,
    Speed,
    read_evaluation,
    write_evaluation,
)

if TYPE_CHECKING:
    from pathlib import Path

_JUDGED = [Judged(f"t{place}", place % 2 == 0, 0.1 * place, "s", "app") for place in range(8)]
_QUIET = [one for one in _JUDGED if not one.critical]


@pytest.fixture
def evaluation() -> Evaluation:
    """An evaluation whose second row holds numbers that cannot be told."""
    report = SetReport(
        name="lines",
        rows=[Row("lines", "harkline", summarise(_JUDGED, 0.5)), Row("quiet", "harkline", summarise(_QUIET, 0.5))],
        curves=[precision_recall("harkline", _JUDGED)],
        reliability=reliability(_JUDGED),
        operating=operating_points(_JUDGED, (0.5, 0.99)),
    )
    return Evaluation(
        weights="cafe",
        threshold=0.5,
        unseen=None,
        outside=[report],
        quantised=Quantised(
            source="a stream", lines=9, critical=1, flips_without=1, flips_with=0, rescored_share=0.1, mean_log_odds=0.2
        ),
        speed=Speed(lines=9, normalised=9.0, served=9.0, graph=9.0),
    )


def test_a_record_comes_back(tmp_path: Path, evaluation: Evaluation) -> None:
    """Every number, those that cannot be told included; the file is JSON that any program reads."""
    write_evaluation(tmp_path, evaluation)
    read = read_evaluation(tmp_path, "cafe", 0.5)
    assert read is not None
    assert msgspec.json.encode(read) == msgspec.json.encode(evaluation)
    assert np.isnan(read.outside[0].rows[1].summary.f1)
    assert json.loads((tmp_path / EVALUATION_NAME).read_text("utf-8"))["outside"][0]["rows"][1]["summary"]["f1"] is None


@pytest.mark.parametrize(("weights", "threshold"), [("beef", 0.5), ("cafe", 0.4)])
def test_another_models_record_is_none(tmp_path: Path, evaluation: Evaluation, weights: str, threshold: float) -> None:
    """Other weights or another threshold: what was recorded does not hold."""
    write_evaluation(tmp_path, evaluation)
    assert read_evaluation(tmp_path, weights, threshold) is None


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"format": 1, "weights": "cafe"}'])
def test_a_file_that_cannot_be_read_is_none(tmp_path: Path, content: str | None) -> None:
    """No file, half a file or another release's: nothing was recorded, and nothing is raised."""
    if content is not None:
        (tmp_path / EVALUATION_NAME).write_text(content, "utf-8")
    assert read_evaluation(tmp_path, "cafe", 0.5) is None
