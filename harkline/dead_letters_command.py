"""`harkline dead-letters`: what was set aside, for a person on a terminal and for programs. What a line says never reaches a terminal as more than text."""

from __future__ import annotations

import re
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from harkline import dead_letters_shown as shown
from harkline.errors import HarklineError
from harkline.screen import inert
from harkline.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harkline.dead_letters import DeadLetters, Letter
    from harkline.settings import Settings

app = typer.Typer(
    name="dead-letters",
    help="Lines that kept killing workers or raising, were counted by the rules and set aside.",
    no_args_is_help=True,
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

# Exit status where a replayed line has no verdict of a model: it was set aside again, or waits.
WITHOUT_MODEL = 3
# An operator can wait longer than a sender.
REDIS_SECONDS = 10.0
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `harkline dead-letters list` shows them.")]
All = Annotated[bool, typer.Option("--all", help="All letters, or with --service all of one.")]
Service = Annotated[str, typer.Option(help="Only lines of this service; `unknown` for those that name none.")]
Output = Annotated[
    shown.Form | None, typer.Option(help="table for people, ndjson for programs. Default: table on a terminal.")
]


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    service: Service = "",
    since: Annotated[
        str, typer.Option(help="Set aside since then: 90s, 15m, 24h, 7d ago, or a time as 2026-11-22T08:00:00Z.")
    ] = "",
    output: Output = None,
) -> None:
    """Show dead letters, the newest first."""
    letters = islice(_open()[0].newest(service=service, since=_moment(since) if since else None), limit)
    if shown.form_for(output) == "ndjson":
        for letter in letters:
            out.print(shown.json_line(shown.form(letter)))
        return
    table = shown.table(letters, expand=out.is_terminal)
    out.print(table if table.row_count else "no dead letters")


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `harkline dead-letters list` shows it.")],
    output: Output = None,
) -> None:
    """Show one dead letter: why and when it was set aside, where its line came from, and the whole line."""
    _check_ids([letter_id])
    [letter] = _open()[0].find([letter_id])
    if letter is None:
        raise HarklineError(f"there is no dead letter {letter_id}: it was replayed, dropped, or kept long enough")
    if shown.form_for(output) == "ndjson":
        out.print(shown.json_line(shown.form(letter)))
        return
    out.print(shown.whole(letter))


@app.command()
def replay(
    ids: Ids = None,
    every: All = False,
    service: Service = "",
    wait: Annotated[float, typer.Option(min=0, help="Wait so many seconds for the verdicts.")] = 30.0,
    output: Output = None,
) -> None:
    """Put letters back on the ledger for the model to judge; no line is counted a second time.

    Exit status: 0; 1 where a letter was gone or unreadable, or the backlog full; 3 where a line has no verdict of a model (yet).
    """
    letters, settings = _open()
    replayed, verdicts = [], {}
    chosen = list(_chosen(letters, ids, every, service))
    killers = sum(letter.content is not None and letter.content.reason.startswith("killed") for letter in chosen)
    if killers:
        err.print(
            f"[yellow]{killers} of them may have killed workers, and may again: up to {settings.max_deliveries + 2} times each[/]"
        )
    with _bar() as bar:
        task = bar.add_task("putting back", total=len(chosen))
        for start in range(0, len(chosen), _portion()):
            answers, must_ring = letters.replay(chosen[start : start + _portion()], settings.backlog_max_lines)
            replayed += answers
            if must_ring:
                _ring(settings)
            bar.advance(task, len(answers))
        batches = [one.batch for one in replayed if one.batch]
        task = bar.add_task("judging", total=len(batches))
        for batch, verdict in letters.await_verdicts(batches, wait) if wait else ():
            verdicts[batch] = verdict
            bar.advance(task)
    for one in replayed:
        found = verdicts.get(one.batch)
        if shown.form_for(output) == "ndjson":
            out.print(shown.json_line(shown.outcome_form(one, found)))
        else:
            out.print(shown.outcome_line(one, found))
    missing = len(set(ids or ())) - len(chosen) if not every else 0
    if missing:
        err.print(f"[yellow]{missing} of these letters are not there: replayed or dropped before[/]")
    if missing or any(not one.batch for one in replayed):
        raise typer.Exit(1)
    if any(batch not in verdicts or verdicts[batch].degraded for batch in batches):
        raise typer.Exit(WITHOUT_MODEL)


@app.command()
def drop(
    ids: Ids = None,
    every: All = False,
    service: Service = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase letters for good. Totals stay as they are: these lines were counted."""
    letters, _ = _open()
    chosen = [letter.id for letter in _chosen(letters, ids, every, service)]
    if chosen:
        confirm(f"erase {len(chosen)} dead letter(s) for good?", yes)
    dropped = letters.drop(chosen)
    wanted = len(chosen) if every else len(set(ids or ()))
    out.print(f"{dropped} dropped" + (f", {wanted - dropped} not there" if wanted > dropped else ""))


def confirm(question: str, yes: bool) -> None:
    """Return where the answer is yes, given or said beforehand; ends the command with status 1 where it is no, or there is nobody to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise HarklineError("nothing was erased: this is no terminal to ask on, so say --yes")
    if not typer.confirm(question):
        err.print("nothing was erased")
        raise typer.Exit(1)


def _open() -> tuple[DeadLetters, Settings]:
    from harkline.dead_letters import DeadLetters  # noqa: PLC0415 - here and below: keeps `harkline --help` quick
    from harkline.ledger import Ledger, connect  # noqa: PLC0415
    from harkline.up import running_settings  # noqa: PLC0415

    settings = running_settings(load_settings())
    return DeadLetters(Ledger(connect(settings, timeout_seconds=REDIS_SECONDS), settings)), settings


def _chosen(letters: DeadLetters, ids: list[str] | None, every: bool, service: str) -> Iterator[Letter]:
    """Return the letters that are meant; those of `ids` that are not there are left out."""
    if bool(ids) == every:
        raise typer.BadParameter("name letters by their ids, or say --all")
    if every:
        return letters.newest(service=service)
    if service:
        raise typer.BadParameter("--service goes with --all")
    _check_ids(ids or [])
    return (letter for letter in letters.find(list(dict.fromkeys(ids or []))) if letter is not None)


def _check_ids(ids: Sequence[str]) -> None:
    from harkline.dead_letters import is_letter_id  # noqa: PLC0415

    for name in ids:
        if not is_letter_id(name):
            raise typer.BadParameter(f"{inert(name, 60)!r} is no id of a letter; they look like 1795335139443-0")


def _portion() -> int:
    from harkline.dead_letters import PORTION  # noqa: PLC0415

    return PORTION


def _ring(settings: Settings) -> None:
    from celery import Celery  # noqa: PLC0415

    from harkline.broker import celery_options, ring  # noqa: PLC0415

    with Celery("harkline", set_as_current=False) as celery:
        celery.conf.update(celery_options(settings))
        ring(celery)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    )


def _moment(text: str) -> float:
    """Return seconds since the epoch of a time, or of a duration ago."""
    from harkline.lines.timestamps import epoch_seconds  # noqa: PLC0415

    ago = _DURATION.fullmatch(text)
    moment = time.time() - int(ago[1]) * _SECONDS[ago[2]] if ago else epoch_seconds(text)
    if moment is None:
        raise typer.BadParameter(
            f"{inert(text, 60)!r} is no time: say 24h or 2026-11-22T08:00:00Z", param_hint="--since"
        )
    return moment
