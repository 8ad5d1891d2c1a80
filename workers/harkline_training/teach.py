"""`harkline train`: teach the model in force the labels of a person, and let it take its own place where it is no worse.

What needs torch is loaded only once the labels are known to be good: a typing mistake should not cost ten seconds.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from harkline.errors import HarklineError
from harkline.lines.decoded import limits_of
from harkline.logs import configure_logs
from harkline.settings import load_settings
from harkline_workers import store
from harkline_workers.checkpoint import is_checkpoint
from harkline_workers.labels import read_labels
from harkline_workers.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harkline_training.comparison import Numbers
    from harkline_training.lessons import Case, Gathered
    from harkline_training.teaching import Taught

REFUSED = 1

# Distinct templates that can be held out in turn and still leave something to learn from.
LEAST_TEMPLATES = 6
_SHOWN_CONTRADICTIONS = 5

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command line; a HarklineError is one sentence and exit status 1, never a traceback."""
    try:
        app(prog_name="harkline train")
    except HarklineError as error:
        err.print(f"[bold red]harkline train:[/] {escape(str(error))}")
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def train(
    labels: Annotated[
        Path,
        typer.Option(
            "--from",
            help="A .csv with a header, or .jsonl: columns message and label (critical or not_critical, or one of debug, info, warning, error,"
            " critical), perhaps level and service.",
        ),
    ],
    epochs: Annotated[int, typer.Option(help="Passes over the labels.", min=1, max=100)] = 4,
    keep_share: Annotated[
        float,
        typer.Option(
            help="Share of each pass that comes from harkline's own corpus, so that nothing is forgotten.",
            min=0,
            max=0.95,
        ),
    ] = 0.75,
    learning_rate: Annotated[float, typer.Option(help="How far each step goes.", min=1e-6, max=0.1)] = 5e-5,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: as many as cores.", min=0)] = 0,
    corpus: Annotated[
        Path | None, typer.Option(help="The folder of *.jsonl templates. Default: the one that ships with harkline.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Teach and measure, and change nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Take few labels, and install a model that is worse.")] = False,
) -> None:
    """Teach the model in force your labels; running workers take the taught one up within seconds, unless it is worse.

    Exit status: 0; 1 where the model that came of it is worse and --force is not given, or nothing could be taught.
    """
    settings = load_settings()
    configure_logs(settings, "train")
    # onnxruntime's quantiser remarks on every node, by the root logger.
    logging.getLogger().setLevel(logging.ERROR)
    try:
        said = read_labels(labels, limits_of(settings))
    except OSError as error:
        raise HarklineError(f"{labels} cannot be opened: {error.strerror}") from None
    folder = store.resolve(settings)
    if is_checkpoint(folder):
        raise HarklineError(
            f"{folder} is a Hugging Face checkpoint, and harkline teaches its own models only: unset HARKLINE_MODEL, or train the checkpoint with transformers"
        )
    manifest = read_manifest(folder)
    _require_torch()
    from harkline_training import comparison, handover, lessons  # noqa: PLC0415 - load torch
    from harkline_training.dataset import CORPUS_DIR, load_corpus  # noqa: PLC0415
    from harkline_training.teaching import teach  # noqa: PLC0415
    from harkline_training.train import Recipe  # noqa: PLC0415

    gathered = lessons.gather(said)
    if not gathered.cases:
        raise HarklineError("no label is left to learn from")
    _say_labels(len(said), gathered)
    recipe = replace(Recipe(), epochs=epochs, learning_rate=learning_rate, head_learning_rate=4 * learning_rate)
    _use_threads(threads)
    pupil = handover.read_pupil(folder, manifest, recipe.dropout)
    _refuse_too_few([case for case in gathered.cases if lessons.mark(case) not in pupil.known], force)
    systems = load_corpus(corpus or CORPUS_DIR)
    split = lessons.split_corpus(systems)
    if not split.held_back or not split.rehearsed:
        raise HarklineError(f"the corpus in {corpus} has too few systems to hold some back; give more files")
    with _progress() as progress:
        taught = teach(pupil, gathered.cases, split, recipe, keep_share, progress)
    _show(gathered.cases, taught, manifest.threshold)
    against = comparison.objections(taught.labels, taught.corpus, taught.right)
    for objection in against:
        out.print(f"[bold yellow]worse:[/] {objection}")
    if against and not force:
        raise HarklineError("the taught model is worse and is not installed; --force installs it all the same")
    if dry_run:
        out.print("nothing was changed (--dry-run)")
        return
    lesson = handover.describe(gathered.cases, taught, manifest, recipe, keep_share, bool(against))
    with tempfile.TemporaryDirectory(prefix="harkline-") as scratch, _progress() as progress:
        examples = handover.examples_of(gathered.cases, systems)
        made = handover.write_taught(folder, Path(scratch) / "model", taught, examples, lesson, progress)
        home = store.install(settings, made)
    out.print(f"installed as {home.name}; running workers take it up within seconds (`harkline model` goes back)")
    named = store.named_folder(settings)
    if named is not None:
        err.print(
            f"[yellow]HARKLINE_MODEL or HARKLINE_MODEL_DIR is set, so workers serve {escape(str(named))} all the same[/]"
        )
    out.print("`harkline calibrate FILE` sets anew how often it rings on your logs")


def _require_torch() -> None:
    try:
        import_module("harkline_training.handover")
    except ImportError as error:
        raise HarklineError(
            f"teaching needs {error.name}, which is not installed here: pip install 'harkline[train]' (in a checkout, `make .venv/trained`)"
        ) from error


def _say_labels(rows: int, gathered: Gathered) -> None:
    cases = gathered.cases
    out.print(
        f"{rows:,} labels: {len(cases):,} distinct lines to the model, {sum(case.critical for case in cases):,} of them critical;"
        f" {gathered.repeats:,} repeat what another says"
    )
    if gathered.contradictions:
        shown = "; ".join(
            f"rows {', '.join(map(str, rows[:4]))}{' ...' if len(rows) > 4 else ''}"
            for rows in gathered.contradictions[:_SHOWN_CONTRADICTIONS]
        )
        more = len(gathered.contradictions) - _SHOWN_CONTRADICTIONS
        out.print(
            f"[yellow]{len(gathered.contradictions):,} contradict themselves and are left out:[/] {shown}{f'; and {more} more' if more > 0 else ''}"
        )


def _refuse_too_few(cases: Sequence[Case], force: bool) -> None:
    templates = len({case.template for case in cases})
    if templates >= LEAST_TEMPLATES:
        return
    said = (
        f"{templates} distinct templates that the model was not taught before are too few to hold any out, and to see whether teaching helps:"
        f" give at least {LEAST_TEMPLATES}"
    )
    if not force:
        raise HarklineError(f"{said}; --force teaches them all the same")
    err.print(f"[yellow]{said}[/]")


def _use_threads(threads: int) -> None:
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


def _show(cases: Sequence[Case], taught: Taught, threshold: float) -> None:
    from harkline_training.comparison import table  # noqa: PLC0415

    columns: list[tuple[str, Numbers]] = []
    if taught.labels is not None:
        columns += zip(("labels held out: before", "after"), taught.labels, strict=True)
    columns += zip(("corpus held back: before", "after"), taught.corpus, strict=True)
    shown = Table()
    for title in ("", *(title for title, _ in columns)):
        shown.add_column(title, justify="right" if title else "left")
    for row in table(columns):
        shown.add_row(*row)
    out.print(shown)
    out.print(
        f"threshold {threshold:.4g} before, {taught.threshold:.4g} after; of {len(cases):,} labelled lines it judged {taught.right[0]:,} as labelled before,"
        f" {taught.right[1]:,} after"
    )


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    )


if __name__ == "__main__":
    main()
