"""Draw what the tables cannot: the trade between precision and recall, and whether a score is a probability.

SVG without a background, in middle tones, so that a page in light and one in dark can both show it; text stays text, which keeps files small.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harkline_training.record import SetReport

_INK = "#7d8590"
_COLOURS = {
    "harkline": "#2f81f7",
    "keyword rules": "#a371f7",
    "TF-IDF + regression": "#d29922",
    "frozen MiniLM + head": "#2da44e",
}
_ALARM = "#e5534b"
_TICKS = (0, 0.25, 0.5, 0.75, 1)
# The salt makes the ids inside a file, and so the file, the same for the same numbers.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "harkline",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _INK,
    "grid.alpha": 0.25,
    "axes.grid": True,
    "legend.frameon": False,
}
_BAR_ROOM = 0.22  # of the reliability diagram's height, for the counts


def write_plots(directory: Path, unseen: SetReport, outside: Sequence[SetReport], threshold: float) -> list[Path]:
    """Write the plots of a round into a folder; what cannot be drawn is left out. Returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    reports = [report for report in (unseen, *outside) if report.curves]
    with mpl.rc_context(_STYLE):
        figures = {
            "precision-recall": _row(reports, _precision_recall),
            "reliability": _row([unseen, *outside], _reliability),
            "threshold": _row(reports, lambda axes, report: _thresholds(axes, report, threshold)),
        }
        paths = []
        for name, figure in figures.items():
            paths.append(directory / f"{name}.svg")
            figure.savefig(paths[-1], transparent=True, metadata={"Date": None})
    return paths


def _row(reports: Sequence[SetReport], draw: Any) -> Figure:
    figure = Figure(figsize=(3.5 * len(reports), 3.6), layout="constrained")
    for place, report in enumerate(reports):
        axes = figure.add_subplot(1, len(reports), place + 1)
        axes.set_title(f"{report.name} ({report.rows[0].summary.templates:,} templates)", fontsize=9)
        draw(axes, report)
        axes.set_xticks(_TICKS)
        if place == 0 and axes.get_legend_handles_labels()[1]:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _precision_recall(axes: Axes, report: SetReport) -> None:
    for curve in report.curves:
        if curve.scorer in _COLOURS:
            axes.plot(
                curve.recall,
                curve.precision,
                label=curve.scorer,
                color=_COLOURS[curve.scorer],
                linewidth=2 if curve.scorer == "harkline" else 1.2,
            )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", yticks=_TICKS)


def _reliability(axes: Axes, report: SetReport) -> None:
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle="--", label="a score that is a probability")
    axes.plot(
        [one.mean_score for one in report.reliability],
        [one.critical_share for one in report.reliability],
        color=_COLOURS["harkline"],
        marker="o",
        markersize=4,
        label="harkline",
    )
    floor = -_BAR_ROOM - 0.06
    most = max(one.templates for one in report.reliability)
    heights = {one.low: _BAR_ROOM * one.templates / most for one in report.reliability}
    edges = [round(0.1 * step, 2) for step in range(11)]
    axes.stairs(
        [floor + heights.get(edge, 0.0) for edge in edges[:-1]],
        edges,
        baseline=floor,
        fill=True,
        color=_INK,
        alpha=0.35,
    )
    for one in report.reliability:
        axes.text(one.low + 0.05, floor + 0.01 + heights[one.low], str(one.templates), ha="center", fontsize=6.5)
    axes.set(xlim=(0, 1), ylim=(floor, 1.02), xlabel="score", ylabel="share that is critical", yticks=_TICKS)


def _thresholds(axes: Axes, report: SetReport, threshold: float) -> None:
    points = report.operating
    at = [point.threshold for point in points]
    axes.plot(at, [point.f1 for point in points], color=_COLOURS["harkline"], linewidth=2, label="F1")
    axes.plot(at, [point.recall for point in points], color=_COLOURS["frozen MiniLM + head"], label="recall")
    told = [
        (point.threshold, point.false_alarms_per_thousand / 1000)
        for point in points
        if not isnan(point.false_alarms_per_thousand)
    ]
    axes.plot(*zip(*told, strict=True), color=_ALARM, label="share of quiet lines that ring")
    axes.axvline(threshold, color=_INK, linewidth=1, linestyle="--", label="shipped threshold")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="threshold", yticks=_TICKS)
