"""`harkline forget`: erase what is stored of a service or a pattern, and say plainly what this cannot reach."""

from __future__ import annotations

import json
import re
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from harkline.dead_letters_command import REDIS_SECONDS, confirm
from harkline.dead_letters_shown import Form, form_for, json_line
from harkline.errors import HarklineError
from harkline.screen import inert
from harkline.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harkline.forget import Outcome, Target
    from harkline.ledger import Ledger
    from harkline.settings import Settings

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

# Exit status where lines that are meant wait to be counted, or lines could not be read.
INCOMPLETE = 3
_REWRITE_SECONDS = 3600.0


class Run(NamedTuple):
    """What one look at all places found and did."""

    outcomes: list[Outcome]
    waiting: int  # lines that are meant, and stay on the ledger
    unread: int  # lines that could not be read


def forget(
    service: Annotated[str, typer.Option(help="Forget this service; `unknown`: lines that name none.")] = "",
    pattern: Annotated[str, typer.Option(help="Forget lines of which any text matches this regular expression.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    uncounted: Annotated[
        bool, typer.Option("--uncounted", help="Also lines that were accepted and not yet counted: they never will be.")
    ] = False,
    all_verdicts: Annotated[
        bool, typer.Option("--all-verdicts", help="Also the kept verdicts that cannot be told from others.")
    ] = False,
    rewrite: Annotated[
        bool, typer.Option("--rewrite", help="Then have Redis write its append-only file anew (BGREWRITEAOF).")
    ] = False,
    output: Annotated[Form | None, typer.Option(help="table for people, ndjson for programs.")] = None,
) -> None:
    """Erase what is stored of a service or a pattern, and say what was erased where, and what cannot be.

    Exit status: 0; 1 where nothing was done or Redis failed on the way (say it again); 3 where lines that are meant wait, or some could not be read.
    """
    target = _target(service, pattern)
    if not (yes or dry_run or sys.stdin.isatty()):
        raise HarklineError("nothing was erased: this is no terminal to ask on, so say --yes, or --dry-run to count")
    from harkline.forget import OfService  # noqa: PLC0415 - keeps `harkline --help` quick
    from harkline.ledger import Ledger, connect  # noqa: PLC0415
    from harkline.remains import rewrite_file  # noqa: PLC0415
    from harkline.up import running_settings  # noqa: PLC0415

    settings = running_settings(load_settings())
    ledger = Ledger(connect(settings, timeout_seconds=REDIS_SECONDS), settings)
    shown_as = form_for(output)
    if dry_run or not yes:
        found = _run(ledger, target, erase=False, uncounted=uncounted, all_verdicts=all_verdicts)
        if dry_run:
            _print(found.outcomes, shown_as, "found", out)
            return
        _print(found.outcomes, "table", "found", err)
        confirm("erase these for good?", yes)
    done = _run(ledger, target, erase=True, uncounted=uncounted, all_verdicts=all_verdicts)
    _print(done.outcomes, shown_as, "erased", out)
    says = out if shown_as == "table" else err
    if rewrite:
        with err.status("Redis writes its append-only file anew ..."):
            said = rewrite_file(ledger.redis, _REWRITE_SECONDS)
        says.print(said)
    names = [target.name] if isinstance(target, OfService) else []
    says.print("\nWhat this does not reach:")
    for what in _beyond_reach(settings, names, rewritten=rewrite):
        says.print(f"- {what}", markup=False)
    if done.waiting:
        again = "say it again when they are counted" + ("" if uncounted else ", or with --uncounted")
        err.print(f"[yellow]{done.waiting} line(s) wait on the ledger: {again}[/]")
    if done.waiting or done.unread:
        raise typer.Exit(INCOMPLETE)


def _target(service: str, pattern: str) -> Target:
    from harkline.forget import Matching, OfService  # noqa: PLC0415

    if bool(service) == bool(pattern):
        raise typer.BadParameter("say one of --service and --pattern")
    if service:
        return OfService(service)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise typer.BadParameter(f"no regular expression: {error}", param_hint="--pattern") from None
    if compiled.search(""):
        raise typer.BadParameter("matches even an empty text, so everything", param_hint="--pattern")
    return Matching(compiled)


def _run(ledger: Ledger, target: Target, *, erase: bool, uncounted: bool, all_verdicts: bool) -> Run:
    from harkline.forget import Forgetter  # noqa: PLC0415

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def advance(place: str, done: int, total: int | None) -> None:
            if place not in tasks:
                tasks[place] = bar.add_task(place, total=total)
            bar.update(tasks[place], completed=done, total=total)

        forgetter = Forgetter(
            ledger, target, erase=erase, uncounted=uncounted, all_verdicts=all_verdicts, advance=advance
        )
        return Run(forgetter.run(), forgetter.left_waiting, forgetter.unread)


def _print(outcomes: Sequence[Outcome], form: Form, what: Literal["found", "erased"], screen: Console) -> None:
    if form == "ndjson":
        for outcome in outcomes:
            screen.print(json_line(outcome._asdict()))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("place")
    table.add_column(what, justify="right")
    table.add_column("")
    for outcome in outcomes:
        number = outcome.found if what == "found" else outcome.erased
        table.add_row(outcome.place, str(number), escape(inert(outcome.note)))
    screen.print(table)


def _beyond_reach(settings: Settings, services: Sequence[str], *, rewritten: bool) -> list[str]:
    """Return one sentence for each thing that may hold what was erased, or its traces, and stays."""
    append_only = (
        "" if rewritten else "Redis' append-only file holds it until it is next written anew: --rewrite does it now. "
    )
    series = f"http://127.0.0.1:{settings.prometheus_port}/api/v1/admin/tsdb"
    selector = "match[]={service=" + (json.dumps(services[0]) if services else '"NAME"') + "}"
    return [
        f"{append_only}Backups and replicas of Redis keep what they have.",
        f"Idempotency records and the shared cache hold hashes alone, no text: they stay, the first for {settings.idempotency_seconds} s.",
        "Workers remember normalised lines as keys of their caches, and names of services as labels, until they are started again.",
        "Prometheus' series hold the names of services, never a line. After the workers' restart, on a Prometheus with --web.enable-admin-api:\n"
        f"    curl -X POST {series}/delete_series --data-urlencode {shlex.quote(selector)}\n"
        f"    curl -X POST {series}/clean_tombstones",
        "Alertmanager's and Grafana's history, and messages that were sent, name the services that rang.",
        "A model that was taught with such lines (`harkline train`) holds them as examples: teach it again without.",
        "Logs of senders and shippers, and their buffers, are theirs.",
    ]
