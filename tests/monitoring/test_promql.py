"""The reader of PromQL misses no name: what it overlooks, no other test would notice."""

from __future__ import annotations

import pytest

from tests.monitoring.promql import label_names, series_names


@pytest.mark.parametrize(
    ("expression", "series", "labels"),
    [
        ("up", {"up"}, set()),
        ('rate(a_total{job="x{y}", z!~"b|c"}[5m:10s] offset 1m) > bool 1e3', {"a_total"}, {"job", "z"}),
        ("sum by (s) (a:b:c) / on () group_left (t) max without (u) (d) or NaN", {"a:b:c", "d"}, {"s", "t", "u"}),
        ('label_replace(absent(up{job="m"} == 1) unless ignoring (v) e, "w", "f", "", "")', {"up", "e"}, {"job", "v"}),
        ("vector(1) and time() - g < 60", {"g"}, set()),
    ],
)
def test_names_and_labels_are_found(expression: str, series: set[str], labels: set[str]) -> None:
    """Series and labels are told from functions, keywords, strings and numbers."""
    assert series_names(expression) == series
    assert label_names(expression) == labels
