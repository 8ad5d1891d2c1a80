"""`python -m tests.bench`: measure all parts side by side, then write the tables and plots that the documents show.

Timings are for reading: no number makes it fail.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench import ceiling, growth, latency, machine, memory, ours, overload, plots, report, results, rivals
from tests.bench.places import DOCUMENTS, LOGS_DIR, PLOTS_DIR, WORK_DIR
from tests.bench.results import PartResult, Row
from tests.bench.setting import Setting
from tests.bench.stream import load_stream


class Part(NamedTuple):
    """One thing that is measured."""

    title: str
    measure: Callable[[Setting], list[Row]]
    share: float  # of the run's time, for the progress bar


PARTS = {
    "f": Part("the ceiling of this machine, and the model alone", ceiling.roofline, 1.0),
    "a": Part("the demo's way", rivals.demo, 1.6),
    "b": Part("the demo's way with our model", rivals.demo_with_our_model, 0.8),
    "c": Part("ours without cache", ours.without_cache, 1.0),
    "d": Part("ours cold", ours.cold, 1.2),
    "e": Part("ours warm", ours.warm, 2.0),
    "l": Part("latency at half load", latency.latency, 2.0),
    "o": Part("overload", overload.overload, 1.2),
    "m": Part("memory and idleness", memory.memory, 0.4),
    "s": Part("more processes", growth.scaling, 1.2),
    "k": Part("a growing backlog", growth.backlog, 0.8),
    "t": Part("a growing number of templates", growth.templates, 1.2),
    "g": Part("the GPU", ceiling.gpu, 0.2),
}


def main() -> int:
    """Run the bench; returns 1 only where a part could not be measured at all."""
    options = _options()
    kept = WORK_DIR / ("quick.json" if options.quick else "results.json")
    letters = [letter for letter in PARTS if letter in options.only]
    found = results.load(kept)
    err = Console(stderr=True)
    failed: dict[str, Exception] = {}
    if not options.render:
        if len(letters) == len(PARTS):
            found = results.Results()
        scratch = WORK_DIR / "run"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
        failed = _measure(options, letters, found, kept, scratch, err)
        if not failed:
            shutil.rmtree(scratch)
    if options.render or options.write or (not options.quick and not failed and len(letters) == len(PARTS)):
        texts = report.sections(found)
        written = [path.name for path in DOCUMENTS if path.exists() and report.fill(path, texts)]
        written += plots.draw(found, PLOTS_DIR)
        err.print(f"wrote {', '.join(written)}")
    out = Console(soft_wrap=True)
    for name, text in report.sections(found, letters).items():
        out.print(Markdown(f"**{name}**\n\n{text}") if out.is_terminal else f"\n{name}\n\n{text}", markup=False)
    for letter, error in failed.items():
        err.print(f"[bold red]{PARTS[letter].title} could not be measured:[/] {error}", markup=True, highlight=False)
    err.print(f"all numbers: {kept.relative_to(Path.cwd()) if kept.is_relative_to(Path.cwd()) else kept}")
    return 1 if failed else 0


def _measure(
    options: argparse.Namespace,
    letters: list[str],
    found: results.Results,
    kept: Path,
    scratch: Path,
    err: Console,
) -> dict[str, Exception]:
    """Measure parts one after the other, keeping each as soon as it is there; returns those that could not be measured, and why."""
    failed: dict[str, Exception] = {}
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    # Once a second: drawing takes time from what is measured.
    with Progress(*columns, console=err, refresh_per_second=1, transient=False) as bar:
        task = bar.add_task("reading the lines", total=sum(PARTS[letter].share for letter in letters))
        setting = Setting(
            scratch,
            load_stream(options.logs),
            options.seconds or (3.0 if options.quick else 12.0),
            options.repeats or (1 if options.quick else 3),
            options.quick,
            lambda text: bar.update(task, description=text),
        )
        found.machine, found.stream = machine.describe(), setting.stream.origin
        for letter in letters:
            part = PARTS[letter]
            bar.update(task, description=part.title)
            watch, began, at = machine.Watch(), time.monotonic(), datetime.now(UTC)
            try:
                rows = part.measure(setting)
            except Exception as error:  # noqa: BLE001 - the other parts can be measured all the same
                failed[letter] = error
            else:
                others = watch.others()
                found.parts[letter] = PartResult(
                    part.title,
                    rows,
                    at.isoformat(timespec="seconds"),
                    time.monotonic() - began,
                    options.quick,
                    others.cores,
                    others.stolen,
                )
                results.save(found, kept)
            bar.advance(task, part.share)
    return failed


def _options() -> argparse.Namespace:
    parts = "; ".join(f"{letter} {part.title}" for letter, part in sorted(PARTS.items()))
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, epilog=f"Parts: {parts}.")
    parser.add_argument("--quick", action="store_true", help="a few minutes, to try it; numbers are not to be trusted")
    parser.add_argument("--only", default="".join(PARTS), metavar="LETTERS", help="parts to measure, as in --only a,c")
    parser.add_argument("--seconds", type=float, help="about how long one measurement takes (12, quick 3)")
    parser.add_argument("--repeats", type=int, help="repeats of each measurement (3, quick 1)")
    parser.add_argument("--logs", type=Path, default=LOGS_DIR, help="folder of *_2k.log files to measure with")
    parser.add_argument("--write", action="store_true", help="write the documents after a partial or quick run too")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the documents from the last run")
    options = parser.parse_args()
    options.only = set(options.only) - set(", ")
    if unknown := options.only - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; {parts}")
    return options


if __name__ == "__main__":
    sys.exit(main())
