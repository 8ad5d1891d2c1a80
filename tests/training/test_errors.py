"""The page of errors can be read: counted by kind, worst first, every line one item."""

from __future__ import annotations

from harkline_training.errors import count_errors, errors_page
from harkline_training.evaluate import LabelledSet
from harkline_training.metrics import Judged

_LINES = (
    ("none | pump lost", True, 0.1, "quiet"),
    ("none | pump `burst`", True, 0.4, "none"),
    ("none | pump found", True, 0.9, "none"),
    ("none | drill: pump burst", False, 0.8, "drill"),
    ("none | pump idle", False, 0.2, "none"),
)
_JUDGED = [
    Judged(text, critical, score, "pump", "iot", contrast=contrast, level="error" if critical else "info")
    for text, critical, score, contrast in _LINES
]


def test_errors_are_counted_by_kind() -> None:
    """Each kind's misses and false alarms, the kind with most errors first."""
    counts = count_errors(_JUDGED, lambda one: one.contrast, 0.5)
    assert [tuple(count) for count in counts] == [
        ("drill", 0, 0, 1, 1),
        ("none", 2, 1, 1, 0),
        ("quiet", 1, 1, 0, 0),
    ]


def test_the_page_lists_the_worst_first() -> None:
    """Misses from the lowest score, false alarms from the highest; what is right is not listed, and no line breaks its item."""
    labelled = LabelledSet("pumps", [line[0] for line in _LINES], _JUDGED)
    page = errors_page([(labelled, _JUDGED)], 0.5, worst=10)
    assert "## pumps: 2 of 3 missed, 1 of 2 rang falsely" in page
    items = [line for line in page.splitlines() if line.startswith("- ")]
    assert items == [
        "- 0.100 error taken for ? [pump: quiet, iot] `pump lost`",
        "- 0.400 error taken for ? [pump: iot] `pump 'burst'`",
        "- 0.800 info taken for ? [pump: drill, iot] `drill: pump burst`",
    ]


def test_the_page_can_be_cut_short() -> None:
    """Only so many of each side are listed, and the heading says of how many."""
    labelled = LabelledSet("pumps", [line[0] for line in _LINES], _JUDGED)
    page = errors_page([(labelled, _JUDGED)], 0.5, worst=1)
    assert "### Worst misses, 1 of 2" in page
    assert "burst`" not in page.split("### Worst false alarms")[0].split("### Worst misses")[1]
