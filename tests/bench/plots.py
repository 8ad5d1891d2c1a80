"""The measured rows as pictures: what a line costs each way, and how its cost grows with what a busy year brings."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from tests.bench.report import number

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.results import Results

_OURS, _THEIRS, _CEILING = "#2166ac", "#b2182b", "#999999"
_BARS = (
    ("demo", "the demo's way", _THEIRS),
    ("demo_ours", "the demo's way with our model", _THEIRS),
    ("no_cache", "ours, no cache, no two lines alike", _OURS),
    ("alone_predict", "our model alone", _CEILING),
    ("peak", "int8 ceiling of the silicon", _CEILING),
    ("cold", "ours, caches empty, a real stream", _OURS),
    ("warm_256", "ours, warm, requests of 256", _OURS),
    ("warm_1000", "ours, warm, requests of 1,000", _OURS),
)


def draw(results: Results, folder: Path) -> list[str]:
    """Write SVG files for what was measured; returns their names."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {
        # The same numbers give the same file, and its text stays text.
        "svg.hashsalt": "harkline",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    folder.mkdir(parents=True, exist_ok=True)
    drawings: dict[str, Callable[[Results], Any]] = {"throughput": _throughput, "growth": _growth, "scaling": _scaling}
    drawn = []
    for name, drawing in drawings.items():
        figure = drawing(results)
        if figure is not None:
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
            drawn.append(f"{name}.svg")
    return drawn


def _throughput(results: Results) -> Any:
    from matplotlib.figure import Figure

    found = [(label, row, colour) for key, label, colour in _BARS if (row := results.row(key)) is not None]
    if not found:
        return None
    figure = Figure(figsize=(7.5, 0.38 * len(found) + 0.9))
    axes = figure.subplots()
    middles = [row.middle for _, row, _ in found]
    errors = [
        [middle - min(row.values) for middle, (_, row, _) in zip(middles, found, strict=True)],
        [max(row.values) - middle for middle, (_, row, _) in zip(middles, found, strict=True)],
    ]
    places = range(len(found))
    axes.barh(places, middles, xerr=errors, color=[colour for *_, colour in found], height=0.65, ecolor="black")
    for place, middle in zip(places, middles, strict=True):
        axes.annotate(number(middle), (middle, place), (8, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, [label for label, *_ in found])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_xlabel("lines per CPU-second, every process counted (logarithmic)")
    return figure


def _growth(results: Results) -> Any:
    from matplotlib.figure import Figure

    groups = (
        ("backlog_in:", "taking in", _THEIRS),
        ("backlog_out:", "counting", _OURS),
        ("templates:", "taking in and counting", _OURS),
    )
    if not results.rows("backlog_in:") or not results.rows("templates:"):
        return None
    figure = Figure(figsize=(7.5, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for prefix, label, colour in groups:
        axes = right if prefix == "templates:" else left
        rows = results.rows(prefix)
        sizes = [int(row.key.partition(":")[2]) for row in rows]
        axes.plot(sizes, [row.middle for row in rows], "o-", color=colour, label=label)
    for axes, label in ((left, "lines waiting"), (right, "templates known")):
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(label)
        axes.legend(frameon=False)
    left.set_ylabel("CPU microseconds a line")
    return figure


def _scaling(results: Results) -> Any:
    from matplotlib.figure import Figure

    groups = (("workers:", "worker processes, no cache"), ("apis:", "API processes, taking in only"))
    if not all(results.rows(prefix) for prefix, _ in groups):
        return None
    figure = Figure(figsize=(7.5, 2.6), layout="constrained")
    for axes, (prefix, label) in zip(figure.subplots(1, 2), groups, strict=True):
        rows = results.rows(prefix)
        counts = [int(row.key.partition(":")[2]) for row in rows]
        walls = [statistics.median(row.wall) for row in rows]
        axes.plot(counts, walls, "o-", color=_OURS, label="measured")
        axes.plot(
            counts, [walls[0] * count / counts[0] for count in counts], "--", color=_CEILING, label="in proportion"
        )
        axes.set_xticks(counts)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(label)
        axes.set_ylabel("lines per second")
        axes.legend(frameon=False)
    return figure
