"""`harkline model`: which model serves, which could, and how to go back to one."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harkline.errors import HarklineError, ModelError
from harkline.settings import load_settings
from harkline_workers import store
from harkline_workers.checkpoint import is_checkpoint
from harkline_workers.manifest import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from harkline.settings import Settings

app = typer.Typer(
    name="harkline model",
    help="Show and choose the model that workers serve; running workers take it up within seconds.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@app.command("list")
def list_models() -> None:
    """Show the models of this data folder, and the one that ships; * marks the one that workers serve."""
    settings = load_settings()
    table = Table(box=None, pad_edge=False)
    for column in ("", "version", "threshold", "trained on", "chosen", "folder"):
        table.add_column(column)
    named = store.named_folder(settings)
    found = store.installed(settings)
    if named is not None:
        table.add_row("*", *_described(settings, named), "by the settings", escape(str(named)))
    for model in found:
        mark = "*" if model.is_current and named is None else ""
        when = f"{datetime.fromtimestamp(model.chosen_at, UTC):%Y-%m-%d %H:%M} UTC"
        if model.manifest is None:
            table.add_row(mark, model.version, "", f"[yellow]unusable:[/] {escape(model.why_not)}", when, "")
        else:
            table.add_row(mark, *_described(settings, model.folder), when, escape(str(model.folder)))
    shipped = "*" if named is None and not any(model.is_current for model in found) else ""
    table.add_row(shipped, *_described(settings, store.SHIPPED_MODEL_DIR), "ships with harkline", "")
    out.print(table)


@app.command()
def use(
    version: Annotated[str, typer.Argument(help="A version that `harkline model list` shows, or how it begins.")],
) -> None:
    """Serve an installed model again."""
    settings = load_settings()
    home = store.use(settings, version)
    out.print(f"{home.name} is the current model; running workers take it up within seconds")
    _warn_where_named(settings)


@app.command()
def reset() -> None:
    """Serve the model that ships with harkline; installed ones stay."""
    settings = load_settings()
    store.reset(settings)
    out.print("the shipped model is the current one; running workers take it up within seconds")
    _warn_where_named(settings)


def _described(settings: Settings, folder: Path) -> tuple[str, str, str]:
    """Return version, threshold and what is known of the training, for a screen."""
    if is_checkpoint(folder) or store.hub_id(settings) is not None:
        return "", f"{settings.model_threshold or 0.5:g}", "Hugging Face checkpoint"
    try:
        manifest = read_manifest(folder)
    except ModelError as error:
        return "", "", f"[yellow]unusable:[/] {escape(str(error))}"
    known = {name: manifest.trained_on.get(name) for name in ("templates", "systems")}
    words = [f"{number} {name}" for name, number in known.items() if number is not None]
    return manifest.version, f"{manifest.threshold:.4g}", ", ".join(words + _changed(manifest.trained_on))


def _changed(trained_on: dict[str, object]) -> list[str]:
    """Return what was done to a model since it was trained, as its manifest tells it."""
    words = []
    taught = trained_on.get("taught")
    if isinstance(taught, list) and taught:
        labels = [lesson["labels"] for lesson in taught if isinstance(lesson, dict) and "labels" in lesson]
        words.append(f"taught {' + '.join(escape(str(number)) for number in labels)} labels")
    calibrated = trained_on.get("calibrated")
    if isinstance(calibrated, dict) and "at" in calibrated:
        words.append(f"calibrated {escape(str(calibrated['at'])[:10])}")
    return words


def _warn_where_named(settings: Settings) -> None:
    named = store.named_folder(settings)
    if named is not None:
        err.print(
            f"[yellow]HARKLINE_MODEL or HARKLINE_MODEL_DIR is set, so workers serve {escape(str(named))} all the same[/]"
        )


def main() -> None:
    """Run the command; a HarklineError is one sentence and exit status 1."""
    try:
        app(prog_name="harkline model")
    except HarklineError as error:
        err.print(f"[bold red]harkline:[/] {escape(str(error))}")
        sys.exit(1)


if __name__ == "__main__":
    main()
