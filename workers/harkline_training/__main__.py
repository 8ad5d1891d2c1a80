"""Make, judge and export the shipped model: `python -m harkline_training train`, then `export`, then `evaluate --card`.

Everything in between lies in a work folder, so that each step can be repeated alone: one checkpoint a fold, one trained on everything, the calibration.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harkline_training import export as exporting
from harkline_training.calibrate import Calibration, calibrate
from harkline_training.card import card_facts, write_card
from harkline_training.checkpoint import base_directory, load_encoder, load_tokenizer, save_encoder
from harkline_training.dataset import CORPUS_DIR, fingerprint, load_corpus, split_systems
from harkline_training.evaluate import cross_validated, markdown
from harkline_training.measurement import measure
from harkline_training.train import Recipe, fine_tune, logits_of

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

WorkDir = Annotated[Path, typer.Option(help="Where checkpoints and measurements are kept between steps.")]
Corpus = Annotated[Path, typer.Option(help="The folder of *.jsonl templates.")]
ModelDir = Annotated[Path, typer.Option(help="The folder of the files that ship.")]

_WORK = Path("build/training")
_MODEL = Path("workers/model")


@app.command()
def train(
    work: WorkDir = _WORK,
    corpus: Corpus = CORPUS_DIR,
    folds: Annotated[int, typer.Option(help="Cross-validation folds; each costs one training run.", min=2)] = 3,
    measured: Annotated[
        int, typer.Option(help="Train only the first so many folds; the other systems go unmeasured.", min=1)
    ] = 3,
    epochs: Annotated[int, typer.Option(help="Passes over the corpus, each rendered afresh.", min=1)] = Recipe().epochs,
    seed: Annotated[int, typer.Option(help="Decides renderings, order and the head's start.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 2,
) -> None:
    """Train one model a fold, calibrate on what each had not seen, then train one on everything. Folds that lie in the work folder are kept."""
    torch.set_num_threads(threads)
    systems = load_corpus(corpus)
    recipe = replace(Recipe(), epochs=epochs, seed=seed)
    base = base_directory()
    tokenizer = load_tokenizer(base)
    with _progress() as progress:
        parts = {f"fold-{fold}": split_systems(systems, folds, fold).train for fold in range(measured)} | {
            "final": systems
        }
        for name, part in parts.items():
            if (work / name / "config.json").exists():
                continue
            torch.manual_seed(seed)  # the head of a fresh encoder starts at random
            save_encoder(
                fine_tune(load_encoder(base, recipe.dropout), tokenizer, part, recipe, progress), tokenizer, work / name
            )
    encoders = [load_encoder(work / f"fold-{fold}", dropout=0.0).eval() for fold in range(measured)]
    labelled, logits = cross_validated(
        systems, lambda fold, inputs: logits_of(encoders[fold], tokenizer, inputs), folds, measured
    )
    critical, routine = (
        np.array([getattr(truth, name) for truth in labelled.templates]) for name in ("critical", "routine")
    )
    calibration = calibrate(logits, critical, routine)
    facts = {
        "calibration": calibration._asdict(),
        "folds": folds,
        "measured_folds": measured,
        "recipe": asdict(recipe),
        "fingerprint": fingerprint(systems),
    }
    facts |= {"systems": len(systems), "templates": sum(len(system.templates) for system in systems)}
    (work / "training.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    Console().print(f"temperature {calibration.temperature:.3f}, threshold {calibration.threshold:.3f}")


@app.command()
def export(work: WorkDir = _WORK, model: ModelDir = _MODEL) -> None:
    """Write the files that ship from the model trained on everything. The card follows with `evaluate --card`."""
    trained = json.loads((work / "training.json").read_text("utf-8"))
    encoder = load_encoder(work / "final")
    save_encoder(encoder, load_tokenizer(work / "final"), model)
    difference = exporting.export_graphs(model)
    about = {
        name: trained[name] for name in ("fingerprint", "systems", "templates", "folds", "measured_folds", "recipe")
    }
    exporting.write_manifest(model, Calibration(**trained["calibration"]), {"trained_on": about})
    Console().print(f"wrote {model}; fp32 graph and torch differ by at most {difference:.1e} in a logit")


@app.command()
def evaluate(
    work: WorkDir = _WORK,
    model: ModelDir = _MODEL,
    corpus: Corpus = CORPUS_DIR,
    outside: Annotated[
        Path,
        typer.Option(help="A folder of labelled *.jsonl and of *.log; skipped where it does not exist."),
    ] = Path("../shared/data"),
    card: Annotated[bool, typer.Option(help="Write the numbers into the model card.")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 2,
) -> None:
    """Judge the cross-validated models on unseen systems, the exported one on lines from outside, int8 against fp32, and the baselines on the same."""
    torch.set_num_threads(threads)
    trained = json.loads((work / "training.json").read_text("utf-8"))
    systems = load_corpus(corpus)
    if fingerprint(systems) != trained["fingerprint"]:
        raise typer.BadParameter(
            f"{work} was trained on another corpus ({trained['fingerprint']}); train again", param_hint="--work"
        )
    with _progress() as progress:
        measured = measure(
            work,
            model,
            systems,
            outside,
            Calibration(**trained["calibration"]),
            trained["folds"],
            trained["measured_folds"],
            progress,
        )
    console = Console()
    for title, rows in (
        ("Unseen systems", measured.unseen),
        ("Outside", measured.outside),
        ("Slices", measured.slices),
    ):
        console.print(Markdown(f"## {title}\n\n{markdown(rows)}"))
    console.print(measured.quantised)
    if card:
        write_card(model, card_facts(trained, measured))
        console.print(f"wrote {model / 'README.md'}")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )


if __name__ == "__main__":
    app()
