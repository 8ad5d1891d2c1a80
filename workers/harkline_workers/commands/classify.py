"""`harkline classify`: judge a file or standard input as a worker would, without Redis and without a server.

Lines are read as `POST /logs` reads a body and judged by the worker's own Classifier, in memory that does not grow with the input: verdicts are
printed as they come, and a pipe that is written to slowly is answered at once.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harkline.contract import LogLine
from harkline.errors import HarklineError
from harkline.lines.decoded import Defaults, limits_of
from harkline.lines.faults import Rejected, Undecodable
from harkline.lines.files import Unreadable, open_lines
from harkline.lines.incoming import MAX_FIELD_CHARS
from harkline.lines.stream import decode_stream
from harkline.logs import configure_logs
from harkline.settings import load_settings
from harkline_workers.commands.explained import Explainer, Explaining
from harkline_workers.commands.judged import Form, Judged, Printer, Shown, Tally, judged
from harkline_workers.commands.standalone import load_classifier
from harkline_workers.store import hub_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harkline.lines.files import LineFile
    from harkline.settings import Settings
    from harkline_workers.classify import Classifier

# Judged and printed at once: a second or three of one core where every line is new.
BATCH_LINES = 1024
# The same where each new line is also explained.
EXPLAINED_LINES = 16

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command line; a HarklineError is one sentence and exit status 1, never a traceback."""
    try:
        app(prog_name="harkline classify")
    except HarklineError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold red]harkline classify:[/] {escape(str(error))}"
        )
        sys.exit(1)


@app.command()
def classify(  # noqa: PLR0913, PLR0917 - the options of a command line, which go by their names
    file: Annotated[
        Path, typer.Argument(help="Plain lines, NDJSON or a JSON array, as is, gzip or zstd; - for standard input.")
    ] = Path("-"),
    output: Annotated[
        Form | None, typer.Option(help="ndjson for programs, table for people. Default: table on a terminal.")
    ] = None,
    form: Annotated[
        Literal["auto", "plain", "ndjson", "json"],
        typer.Option("--input", help="What the input is; auto goes by how it begins."),
    ] = "auto",
    service: Annotated[str, typer.Option(help="The service of lines that name none.")] = "",
    join: Annotated[
        bool | None,
        typer.Option(help="Join the continuation lines of stack traces. Default: HARKLINE_JOIN_TRACES."),
    ] = None,
    critical: Annotated[bool, typer.Option("--critical", help="Print critical lines only.")] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Say which words moved a score and what the line is like (in a table: of critical lines). A tenth of a second for each new line.",
        ),
    ] = False,
    model: Annotated[str, typer.Option(help="The model: a folder or a hub id. Default: the one workers serve.")] = "",
    backend: Annotated[Literal["onnx", "torch"] | None, typer.Option(help="Runtime of the model.")] = None,
) -> None:
    """Judge the lines of a file or of standard input, one verdict a line, in order; no server is needed.

    Exit status: 0; 1 where no line is good or the input breaks off; 3 where no model could judge and the rules did (degraded).
    """
    if len(service) > MAX_FIELD_CHARS:
        raise typer.BadParameter(f"at most {MAX_FIELD_CHARS} characters", param_hint="--service")
    settings = load_settings(
        **({"model": model, "model_dir": None} if model else {}), **({"backend": backend} if backend else {})
    )
    if model and hub_id(settings) is None and not Path(model).expanduser().is_dir():
        raise typer.BadParameter(f"{model} is no folder", param_hint="--model")
    configure_logs(settings, "classify")
    on_terminal = sys.stdout.isatty()
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    out = Console(highlight=False, soft_wrap=True) if on_terminal else None
    shown_as: Form = output or ("table" if on_terminal else "ndjson")
    printer = Printer(shown_as, out)
    explaining: Explaining | None = None
    if explain:
        explaining = "critical" if critical or shown_as == "table" else "all"
    # Where both are the terminal, one console must do both, so that the bar stays below what is printed.
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[lines]} lines"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=out if out is not None and err.is_terminal else err,
        disable=not err.is_terminal,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    began = time.monotonic()
    tally = Tally()
    try:
        with open_lines(file) as source, bar:
            entries = decode_stream(
                source.chunks(),
                None if form == "auto" else form,
                Defaults(service=service),
                limits_of(settings),
                settings.max_body_bytes,
                join=settings.join_traces if join is None else join,
            )
            for shown in _judge(settings, entries, tally, _Steps(bar, source), explaining):
                printer.put([line for line in shown if _is_critical(line)] if critical else shown)
    except BrokenPipeError:
        # Whoever read has enough. What is still buffered has nowhere to go, and Python would try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        tally.interrupted = True
    if tally.seen:
        err.print(tally.summary(time.monotonic() - began))
    if tally.broken:
        err.print(f"[bold red]harkline classify:[/] {escape(tally.broken)}")
    raise typer.Exit(tally.status)


class _Steps:
    """Moves the bar: by bytes of the file, in proportion to the lines of what was read last."""

    def __init__(self, bar: Progress, source: LineFile) -> None:
        self._bar = bar
        self._source = source
        self._task = bar.add_task("reading", total=source.total_bytes, lines=0)
        self._from = self._to = 0

    def say(self, text: str) -> None:
        """Print a remark, above the bar where there is one."""
        self._bar.console.print(text)

    def doing(self, what: str) -> None:
        self._bar.update(self._task, description=what)

    def read(self) -> None:
        """More was read."""
        self._from, self._to = self._to, self._source.position()

    def judged(self, share: float, lines: int) -> None:
        """This share of what was read last is judged, `lines` in all."""
        self._bar.update(self._task, completed=self._from + share * (self._to - self._from), lines=lines)


def _judge(
    settings: Settings,
    stream: Iterator[list[LogLine | Rejected]],
    tally: Tally,
    steps: _Steps,
    explaining: Explaining | None,
) -> Iterator[list[Shown]]:
    """Yield what was judged, in order, and count it."""
    classifier: Classifier | None = None
    explainer: Explainer | None = None
    at_once = BATCH_LINES if explaining is None else EXPLAINED_LINES
    try:
        for entries in stream:
            steps.read()
            for start in range(0, len(entries), at_once):
                batch = entries[start : start + at_once]
                if classifier is None:  # not before there is a line: a file that is missing or empty needs no model
                    steps.doing("loading the model")
                    classifier = load_classifier(settings, steps.say)
                    explainer = Explainer(classifier, explaining) if explaining is not None else None
                    steps.doing("judging")
                shown = _judge_batch(classifier, explainer, batch, tally.seen)
                tally.add(shown)
                yield shown
                steps.judged((start + len(batch)) / len(entries), tally.seen)
    except Undecodable as error:
        tally.broken = str(error)
        broken: list[Shown] = [Rejected(tally.seen, error.code)]
        tally.add(broken)
        yield broken
    except Unreadable as error:
        tally.broken = str(error)


def _judge_batch(
    classifier: Classifier, explainer: Explainer | None, batch: Sequence[LogLine | Rejected], first_index: int
) -> list[Shown]:
    lines = [entry for entry in batch if isinstance(entry, LogLine)]
    found = classifier.classify(lines).verdicts
    if explainer is not None:
        found = [explainer.explained(line, verdict) for line, verdict in zip(lines, found, strict=True)]
    verdicts = iter(found)
    return [
        judged(index, entry, next(verdicts)) if isinstance(entry, LogLine) else entry
        for index, entry in enumerate(batch, first_index)
    ]


def _is_critical(line: Shown) -> bool:
    return isinstance(line, Judged) and line.severity == "critical"


if __name__ == "__main__":
    main()
