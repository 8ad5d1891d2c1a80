"""A line is scored once, whatever was asked before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from harkline_training.kept import KeptRows


class Counter:
    """Computes a row a line, and remembers the lines it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, lines: Sequence[str]) -> NDArray[np.float32]:
        self.asked += lines
        return np.array([[len(line), line.count("a")] for line in lines], dtype=np.float32)


def test_lines_are_computed_once(tmp_path: Path) -> None:
    """In order, twins and all, over two runs: the second asks only for what is new."""
    path = tmp_path / "rows.npz"
    first, second = Counter(), Counter()
    rows = KeptRows(path).rows(["aa", "b", "aa"], first, "first", Progress())
    assert rows.tolist() == [[2, 2], [1, 0], [2, 2]]
    assert first.asked == ["aa", "b"]
    assert KeptRows(path).rows(["ccc", "aa"], second, "second", Progress()).tolist() == [[3, 0], [2, 2]]
    assert second.asked == ["ccc"]


def test_afresh_forgets(tmp_path: Path) -> None:
    """Asked to start afresh, it computes everything again."""
    path = tmp_path / "rows.npz"
    KeptRows(path).rows(["aa"], Counter(), "first", Progress())
    again = Counter()
    KeptRows(path, afresh=True).rows(["aa"], again, "again", Progress())
    assert again.asked == ["aa"]
