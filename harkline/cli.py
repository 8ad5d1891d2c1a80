"""The command line: the whole system, each of its programs, and the tools around them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from harkline import __version__, dead_letters_command
from harkline.errors import HarklineError
from harkline.forget_command import forget
from harkline.settings import load_settings, make_secret, process_environment, settings_table, unknown_settings

if TYPE_CHECKING:
    from harkline import programs
    from harkline.client import Client
    from harkline.settings import Settings

app = typer.Typer(
    help="Reads every log line a company writes and rings only for the critical ones.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Url = Annotated[
    str, typer.Option(help="The API. Default: the system that runs on this machine.", envvar="HARKLINE_PUBLIC_URL")
]
Key = Annotated[str, typer.Option(help="The API key to present. Default: the first of HARKLINE_API_KEYS.")]

# For commands that are another program's: every argument is for that one, --help included.
PASSED_ON: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def main() -> None:
    """Run the command line; a HarklineError is one sentence and exit status 1, never a traceback."""
    try:
        app()
    except HarklineError as error:
        err.print(f"[bold red]harkline:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def up() -> None:
    """Start the whole system on this machine, in the foreground; Ctrl-C stops it."""
    from harkline.screen import critical_line  # noqa: PLC0415 - keeps `harkline --help` quick
    from harkline.up import System  # noqa: PLC0415

    settings = load_settings()
    for problem in unknown_settings():
        err.print(f"[yellow]{escape(problem)}[/]")
    _refuse_open_door(settings)
    began = time.monotonic()
    system = System(settings, lambda said: err.print(f"[yellow]{escape(said)}[/]"))
    signal.signal(signal.SIGINT, system.ask_to_stop)
    signal.signal(signal.SIGTERM, system.ask_to_stop)
    signal.signal(signal.SIGHUP, system.ask_to_stop)
    try:
        with err.status("starting Redis, the workers, the API, Flower, Prometheus and Alertmanager ..."):
            system.start()
        if not system.is_stopping:
            _welcome(system.settings, system.names(), time.monotonic() - began)
        for found in system.critical_lines():
            out.print(
                critical_line(
                    {"message": found.line.message, "service": found.line.service},
                    {"level": found.verdict.level, "score": found.verdict.score, "why": found.verdict.why},
                    found.accepted_at,
                )
            )
    finally:
        began = time.monotonic()
        with err.status("stopping ..."):
            system.stop()
        err.print(
            f"stopped in {time.monotonic() - began:.1f} s; what was accepted and not yet counted is counted at the next start"
        )


@app.command()
def api() -> None:
    """Run the API alone (gunicorn)."""
    from harkline.programs import api_program  # noqa: PLC0415

    settings = load_settings()
    _refuse_open_door(settings)
    _become(settings, api_program(settings))


@app.command()
def worker() -> None:
    """Run a worker alone (Celery), with its metrics."""
    from harkline.programs import worker_program  # noqa: PLC0415

    settings = load_settings()
    _become(settings, worker_program(settings))


@app.command()
def redis() -> None:
    """Run Redis alone, as harkline needs it: append-only, fsynced, never evicting."""
    from harkline.programs import redis_program  # noqa: PLC0415

    settings = load_settings()
    _become(settings, redis_program(settings))


@app.command()
def flower() -> None:
    """Run Flower alone, read-only and behind its login."""
    from harkline.programs import flower_program  # noqa: PLC0415

    settings = load_settings()
    _become(settings, flower_program(settings))


@app.command()
def doctor() -> None:
    """Say in plain words what is missing or misconfigured."""
    from harkline.doctor import examine  # noqa: PLC0415
    from harkline.up import running_settings, state_file  # noqa: PLC0415

    settings = load_settings()
    marks = {"good": "[green]ok[/]    ", "note": "[yellow]note[/]  ", "broken": "[bold red]broken[/]"}
    broken = 0
    for finding in examine(running_settings(settings), running=state_file(settings).exists()):
        out.print(f"{marks[finding.state]}  {escape(finding.what)}")
        broken += finding.state == "broken"
    if broken:
        err.print(f"[bold red]{broken} thing(s) to mend[/]")
        raise typer.Exit(1)


@app.command()
def demo(
    url: Url = "", key: Key = "", pace: Annotated[float, typer.Option(help="Seconds between batches.")] = 0.25
) -> None:
    """Stream the shipped sample, with an incident in its middle, and show what was found."""
    from harkline import demo as show  # noqa: PLC0415
    from harkline.screen import critical_line, inert  # noqa: PLC0415

    lines = show.sample()
    result = show.Result()
    began = time.monotonic()
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=out) as bar:
        task = bar.add_task("lines read", total=len(lines))
        for judged in show.stream(_client(url, key), lines, result, pace):
            for line, verdict in judged:
                if verdict["severity"] == "critical":
                    bar.console.print(
                        critical_line({"message": line.message, "service": line.service}, verdict, time.time())
                    )
            bar.advance(task, len(judged))
    pages = sum(line.page for line in lines)
    table = Table(
        title=f"{result.lines} lines in {time.monotonic() - began:.1f} s, verdicts after at most {result.slowest_seconds * 1000:.0f} ms",
        title_justify="left",
    )
    table.add_column("of the lines that a person on call would want")
    table.add_column("lines", justify="right")
    table.add_row("found", f"{len(result.found)} of {pages}")
    table.add_row("missed", str(len(result.missed)))
    table.add_row("rung in vain", str(len(result.false)))
    if result.unanswered:
        table.add_row("no verdict in time", str(result.unanswered))
    out.print(table)
    for name, cases in (("missed", result.missed), ("in vain", result.false)):
        for line, verdict in cases:
            out.print(
                f"[yellow]{name}[/] {verdict['score']:.2f} {escape(inert(line.service))}: {escape(inert(line.message, 160))}"
            )


@app.command()
def send(
    file: Annotated[Path, typer.Argument(help="Plain lines or NDJSON; - for standard input.")] = Path("-"),
    url: Url = "",
    key: Key = "",
    service: Annotated[str, typer.Option(help="The service the lines belong to.")] = "",
    batch: Annotated[int, typer.Option(min=1, help="Lines per request.")] = 500,
) -> None:
    """Send a file or standard input; each batch is tried up to 8 times with one key, so that a retry counts nothing twice."""
    from urllib.parse import quote  # noqa: PLC0415

    client = _client(url, key)
    query = f"?service={quote(service)}" if service else ""
    accepted = rejected = 0
    source = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    total = None if str(file) == "-" else file.stat().st_size
    with (
        source,
        Progress(TextColumn("{task.description}"), BarColumn(), console=err, disable=not err.is_terminal) as bar,
    ):
        task = bar.add_task("sending", total=total)
        while chunk := [line for _, line in zip(range(batch), source, strict=False)]:
            body = b"".join(chunk)
            if not body.strip():
                continue
            kind = "application/x-ndjson" if body.lstrip()[:1] == b"{" else "text/plain"
            answer = client.post(f"/logs{query}", body, kind)
            accepted += answer["accepted"]
            rejected += len(answer["rejected"])
            bar.advance(task, len(body))
            for bad in answer["rejected"][:3]:
                err.print(f"[yellow]rejected[/] line {bad['index']} of its batch: {escape(str(bad['error']))}")
    out.print(f"{accepted} lines accepted, {rejected} rejected")


@app.command()
def tail(url: Url = "", key: Key = "") -> None:
    """Show critical lines as they are found, until Ctrl-C."""
    from harkline.client import Refused  # noqa: PLC0415
    from harkline.screen import critical_line  # noqa: PLC0415

    client = _client(url, key)
    position = ""
    err.print(f"critical lines of {client.url}, Ctrl-C ends")
    while True:
        try:
            for seen, found in client.events(position):
                position = seen
                out.print(critical_line(found["line"], found["verdict"], found["accepted_at"]))
        except Refused as error:
            if position == "":
                raise
            err.print(f"[yellow]{escape(str(error))}[/]")
            threading.Event().wait(1)


app.add_typer(dead_letters_command.app)
app.command()(forget)


@app.command(context_settings=PASSED_ON)
def classify(context: typer.Context) -> None:
    """Judge the lines of a file or of standard input; no server is needed."""
    _become_command(context, "harkline_workers.commands.classify")


@app.command(context_settings=PASSED_ON)
def calibrate(context: typer.Context) -> None:
    """Set the model's threshold for logs of your own, by a budget of false alarms."""
    _become_command(context, "harkline_workers.commands.calibrate")


@app.command(context_settings=PASSED_ON)
def train(context: typer.Context) -> None:
    """Teach the model with labelled lines of your own."""
    _become_command(context, "harkline_training.teach")


@app.command(context_settings=PASSED_ON)
def model(context: typer.Context) -> None:
    """Show and choose the model that workers serve."""
    _become_command(context, "harkline_workers.commands.model")


@app.command()
def settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the README's table.")] = False,
    new_key: Annotated[bool, typer.Option("--new-key", help="Print a new API key.")] = False,
) -> None:
    """Show every setting of this environment, secrets starred."""
    if new_key:
        out.print(make_secret())
    elif markdown:
        out.print(settings_table(), markup=False)
    else:
        for name, value in load_settings().shown().items():
            out.print(f"HARKLINE_{name.upper()}={value}", markup=False)


@app.command()
def config(what: Annotated[str, typer.Argument(help="alertmanager or prometheus")]) -> None:
    """Print the configuration that the settings make of Alertmanager or Prometheus."""
    from harkline.programs import alertmanager_config, prometheus_config  # noqa: PLC0415

    renderers = {"alertmanager": alertmanager_config, "prometheus": prometheus_config}
    if what not in renderers:
        raise HarklineError(f"{what!r} is not one of {', '.join(renderers)}")
    print(renderers[what](load_settings()))  # noqa: T201 - a file, not a screen


@app.command()
def secrets(path: Annotated[Path, typer.Argument(help="The file that docker compose reads.")] = Path(".env")) -> None:
    """Generate the secrets that docker compose needs, keeping those that are there."""
    from harkline.dotenv import write_secrets  # noqa: PLC0415

    added = write_secrets(path)
    out.print(f"{path}: {', '.join(added) or 'nothing'} added; only you can read it")


@app.command()
def version() -> None:
    """Print harkline's version."""
    out.print(__version__)


def _client(url: str, key: str) -> Client:
    from harkline.client import Client  # noqa: PLC0415
    from harkline.up import running_settings  # noqa: PLC0415

    running = running_settings(load_settings())
    return Client(
        url or f"http://{running.api_dial_host}:{running.api_port}", key or (running.keys[0] if running.keys else "")
    )


def _refuse_open_door(settings: Settings) -> None:
    if not settings.is_loopback and not settings.keys:
        raise HarklineError(
            f"the API would listen on {settings.api_host} for anyone: set HARKLINE_API_KEYS "
            "(make one with `harkline settings --new-key`), or HARKLINE_API_HOST=127.0.0.1"
        )


def _become_command(context: typer.Context, module: str) -> None:
    """Replace this process by a command that lives where we may not import, with all its arguments."""
    from harkline.programs import command_program  # noqa: PLC0415

    settings = load_settings()
    _become(settings, command_program(settings, str(context.info_name), module, context.args))


def _become(settings: Settings, program: programs.Program) -> None:
    """Replace this process by the program, so that signals and exit status are its own."""
    environment = process_environment(**(settings.environment() | program.environment))
    os.execvpe(program.command[0], program.command, environment)  # noqa: S606 - becoming the program is the point


def _welcome(settings: Settings, names: set[str], seconds: float) -> None:
    base = f"http://{settings.api_dial_host}:{settings.api_port}"
    out.print(f"[bold green]harkline is up[/] after {seconds:.1f} s")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("send lines to", f"[bold]{base}/logs[/]")
    table.add_row("API description", f"{base}/docs")
    table.add_row("metrics", f"http://{settings.metrics_host}:{settings.metrics_port}/metrics")
    login = settings.flower_auth.get_secret_value().split(":", 1)[0]
    table.add_row(
        "Flower",
        f"http://{settings.flower_host}:{settings.flower_port} (user {escape(login)}, password in {escape(str(settings.data_dir / 'flower-password'))})",
    )
    for name, port in (("prometheus", settings.prometheus_port), ("alertmanager", settings.alertmanager_port)):
        table.add_row(
            name.capitalize(),
            f"http://127.0.0.1:{port}"
            if name in names
            else "[yellow]not installed: no alerts from this machine (`harkline doctor`)[/]",
        )
    table.add_row("data and logs", escape(str(settings.data_dir)))
    out.print(table)
    key = ' -H "Authorization: Bearer $KEY"' if settings.keys else ""
    out.print("\nTry it:")
    out.print(
        f'  curl{key} \'{base}/logs?wait=5\' -d \'{{"message": "kernel: Out of memory: Killed process 4242 (postgres)", "service": "db"}}\'',
        markup=False,
    )
    out.print("  harkline demo        (in another terminal: .venv/bin/harkline demo)", markup=False)
    out.print("\nCritical lines show here as they are found. Ctrl-C stops everything.\n")
