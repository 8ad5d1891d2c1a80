"""`harkline calibrate`: set the threshold so that a budget of alarms is kept on the user's own logs.

Every distinct line is scored once by the model in force. The threshold of a model is part of it: lines near it are looked at again in fp32, so the
one that is chosen is tried in a copy of the model, again where that moved a score, until the copy itself keeps the budget. What is installed was counted.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harkline.errors import HarklineError
from harkline.lines.decoded import Defaults, limits_of
from harkline.lines.faults import Rejected
from harkline.lines.files import STDIN, Unreadable, open_lines
from harkline.lines.stream import decode_stream
from harkline.logs import configure_logs
from harkline.settings import load_settings
from harkline_workers import rules, store
from harkline_workers.budget import HIGHEST, Choice, choose_threshold, lines_needed, parse_budget
from harkline_workers.checkpoint import is_checkpoint
from harkline_workers.commands.tradeoff import REMEDY, Scored, show
from harkline_workers.labels import has_labels, read_labels
from harkline_workers.model import Model, load_model
from harkline_workers.normalise import LEVELS, normalise
from harkline_workers.source import load_chosen
from harkline_workers.variant import Calibrated, with_threshold

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from numpy.typing import NDArray

    from harkline.contract import LogLine
    from harkline.settings import Settings

REFUSED = 1

_CALL_LINES = 256
# Lines this near to a new threshold, in log-odds, are scored again by the model that has it: twice as far as its second look in fp32 reaches.
_LOOKED_AT_AGAIN = 1.0
_MOST_LOOKS = 8

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Heard:
    """The distinct inputs of a model in what was read, each with the lines that it stands for."""

    def __init__(self) -> None:
        self.quiet: dict[
            str, int
        ] = {}  # model input -> lines that should not ring; all of them where nothing is labelled
        self.loud: dict[str, int] = {}  # model input -> lines labelled critical
        self.templates: dict[str, str] = {}  # model input -> template
        self.floored: set[str] = set()
        self.rejected = 0
        self.is_labelled = False

    def add(self, line: LogLine, critical: bool = False) -> None:
        """Count one line."""
        normalised = normalise(line.message, line.level)
        key = normalised.model_input
        if key not in self.quiet:
            self.quiet[key] = self.loud[key] = 0
            self.templates[key] = normalised.template
            if rules.floor(normalised) is not None:
                self.floored.add(key)
        (self.loud if critical else self.quiet)[key] += 1


def main() -> None:
    """Run the command line; a HarklineError is one sentence and exit status 1, never a traceback."""
    try:
        app(prog_name="harkline calibrate")
    except HarklineError as error:
        err.print(f"[bold red]harkline calibrate:[/] {escape(str(error))}")
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def calibrate(
    file: Annotated[
        Path,
        typer.Argument(
            help="Your logs: plain lines, NDJSON or a JSON array, as is, gzip or zstd; - for standard input. A .csv or .jsonl with a column"
            " `label` (critical or not_critical, or one of the five levels) shows what is found and missed, too."
        ),
    ],
    budget: Annotated[
        str,
        typer.Option(
            help="The share of lines that may ring: 5/1000, 0.5% or 0.005. Of labelled lines, those that are not critical."
        ),
    ] = "5/1000",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on with too few lines, or where no threshold keeps the budget.")
    ] = False,
) -> None:
    """Set the lowest threshold at which at most a budget of your lines rings; running workers take it up within seconds."""
    share = parse_budget(budget)
    settings = load_settings()
    configure_logs(settings, "calibrate")
    heard = _read(file, settings)
    lines = sum(heard.quiet.values())
    if heard.rejected:
        err.print(f"[yellow]{heard.rejected} lines cannot be read and do not count (`harkline classify` says why)[/]")
    _refuse_too_few(lines, share, heard.is_labelled, force)
    folder = store.resolve(settings)
    before, scored = _score(load_chosen(settings), heard)
    allowed = int(share * lines)
    with tempfile.TemporaryDirectory(prefix="harkline-") as scratch:
        staged = Path(scratch) / "model"
        if is_checkpoint(folder):
            choice, after = choose_threshold(*scored.governed(), allowed), scored
        else:
            choice, after = _settle(settings, folder, staged, scored, allowed)
        show(out, (scored, before), (after, choice), heard.is_labelled)
        if not choice.is_possible and not force:
            raise HarklineError(
                f"no threshold keeps this budget: {REMEDY}; nothing was changed (--force sets {HIGHEST})"
            )
        if dry_run:
            out.print("\nnothing was changed (--dry-run)")
        elif choice.threshold == before:
            out.print("\nthe model in force has this threshold already; nothing was changed")
        elif is_checkpoint(folder):
            out.print(f"\n{escape(str(folder))} is a Hugging Face checkpoint: its threshold is a setting. Set")
            out.print(f"  HARKLINE_MODEL_THRESHOLD={choice.threshold}")
        else:
            facts = Calibrated.now(choice.threshold, share, lines, len(scored.inputs), heard.is_labelled)
            home = store.install(settings, with_threshold(folder, staged, choice.threshold, facts))
            out.print(
                f"\ninstalled as {home.name}; running workers take it up within seconds (`harkline model` shows and goes back)"
            )
            _warn_where_named(settings)


def _read(file: Path, settings: Settings) -> Heard:
    """Read a file of lines or of labels; memory grows with what is distinct alone. Raises Unreadable, Undecodable or LabelsError."""
    heard = Heard()
    limits = limits_of(settings)
    try:
        heard.is_labelled = str(file) != STDIN and has_labels(file)
        if heard.is_labelled:
            for label in read_labels(file, limits):
                heard.add(label.line, label.critical)
            return heard
    except OSError as error:
        raise Unreadable(f"{file} cannot be opened: {error.strerror}") from None
    with open_lines(file) as source, _progress() as progress:
        bar = progress.add_task("reading", total=source.total_bytes)
        entries = decode_stream(
            source.chunks(), None, Defaults(), limits, settings.max_body_bytes, join=settings.join_traces
        )
        for batch in entries:
            for entry in batch:
                if isinstance(entry, Rejected):
                    heard.rejected += 1
                else:
                    heard.add(entry)
            progress.update(bar, completed=source.position())
    return heard


def _refuse_too_few(lines: int, share: Fraction, is_labelled: bool, force: bool) -> None:
    kind = "lines labelled not_critical" if is_labelled else "lines"
    needed = lines_needed(share)
    if not lines:
        raise HarklineError(f"no {kind}: a budget is a share of them")
    if lines >= needed:
        return
    said = f"{lines} {kind} are too few for {float(1000 * share):g} of 1,000: give at least {needed:,}, which may ring {int(share * needed)} times"
    if not force:
        raise HarklineError(f"{said}; --force goes on all the same")
    err.print(f"[yellow]{said}[/]")


def _score(model: Model, heard: Heard) -> tuple[float, Scored]:
    """Return the threshold in force, and every distinct input with its score."""
    inputs = list(heard.quiet)
    places: dict[str, int] = {}
    templates = [places.setdefault(template, len(places)) for template in heard.templates.values()]
    scored = Scored(
        inputs=inputs,
        templates=np.array(templates, dtype=np.int64),
        quiet=np.array(list(heard.quiet.values()), dtype=np.int64),
        loud=np.array(list(heard.loud.values()), dtype=np.int64),
        floored=np.array([text in heard.floored for text in inputs], dtype=np.bool_),
        scores=_scores(model, inputs, "scoring"),
    )
    model.close()
    return model.threshold, scored


def _scores(model: Model, inputs: Sequence[str], what: str) -> NDArray[np.float64]:
    """Return the model's scores (n,), as `classify` reads them."""
    critical_from = LEVELS.index("error")
    scores = np.empty(len(inputs), dtype=np.float64)
    with _progress() as progress:
        bar = progress.add_task(what, total=len(inputs))
        for start in range(0, len(inputs), _CALL_LINES):
            chances = model.predict(inputs[start : start + _CALL_LINES])
            scores[start : start + len(chances)] = np.minimum(1.0, chances[:, critical_from:].sum(axis=1))
            progress.advance(bar, len(chances))
    return scores


def _settle(settings: Settings, folder: Path, staged: Path, scored: Scored, allowed: int) -> tuple[Choice, Scored]:
    """Return a threshold that keeps the budget in the model that has it, and the scores of that model."""
    choice = choose_threshold(*scored.governed(), allowed)
    scores = scored.scores.copy()
    for look in range(_MOST_LOOKS):
        close = np.flatnonzero(np.abs(_log_odds(scores) - _log_odds(choice.threshold)) < _LOOKED_AT_AGAIN)
        model = load_model(with_threshold(folder, staged, choice.threshold), settings.backend, settings.model_threads)
        scores[close] = _scores(model, [scored.inputs[place] for place in close], "looking again")
        model.close()
        moved = Scored(scored.inputs, scored.templates, scored.quiet, scored.loud, scored.floored, scores)
        again = choose_threshold(*moved.governed(), allowed)
        # After the first look only upwards: then it ends, and with a model that keeps the budget.
        if again.threshold == choice.threshold or (look and again.threshold < choice.threshold):
            break
        choice = again
    return choice._replace(ringing=moved.ringing(choice.threshold)), moved


def _log_odds(chance: NDArray[np.float64] | float) -> NDArray[np.float64]:
    clipped = np.clip(chance, 1e-9, 1 - 1e-9)
    odds: NDArray[np.float64] = np.log(clipped / (1 - clipped))
    return odds


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    )


def _warn_where_named(settings: Settings) -> None:
    named = store.named_folder(settings)
    if named is not None:
        err.print(
            f"[yellow]HARKLINE_MODEL or HARKLINE_MODEL_DIR is set, so workers serve {escape(str(named))} all the same[/]"
        )


if __name__ == "__main__":
    main()
