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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harkline.errors import HarklineError
from harkline_training import export as exporting
from harkline_training.assessment import Places, evaluate_model, publish, read_errors, show
from harkline_training.calibrate import (
    ROUTINE_ALARMS_PER_THOUSAND,
    Calibration,
    fit_temperature,
    scores,
    threshold_on_plateau,
)
from harkline_training.checkpoint import base_directory, load_encoder, load_tokenizer, save_encoder
from harkline_training.dataset import CORPUS_DIR, fingerprint, load_corpus, split_systems
from harkline_training.evaluate import cross_validated, judge
from harkline_training.examples import corpus_examples, write_examples
from harkline_training.scoring import Run
from harkline_training.train import Recipe, fine_tune, logits_of
from harkline_workers.normalise import NORMALISER_VERSION

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

WorkDir = Annotated[Path, typer.Option(help="Where checkpoints and measurements are kept between steps.")]
Corpus = Annotated[Path, typer.Option(help="The folder of *.jsonl templates.")]
ModelDir = Annotated[Path, typer.Option(help="The folder of the files that ship.")]

Outside = Annotated[
    Path, typer.Option(help="A folder of labelled *.jsonl and of *.log; skipped where it does not exist.")
]
Keep = Annotated[Path, typer.Option(help="Where scores are kept between runs, and where the list of errors goes.")]
Afresh = Annotated[bool, typer.Option(help="Score everything again, whatever an earlier run kept.")]
Threads = Annotated[int, typer.Option(help="CPU threads.", min=1)]

_WORK = Path("build/training")
_OUTSIDE = Path("../shared/data")
_KEEP = Path("build/evaluation")
_TABLE_WIDTH = 128  # columns; narrower, tables fold into what nobody can read
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
    temperature = fit_temperature(logits, np.array([truth.critical for truth in labelled.templates]))
    judged = judge(labelled, scores(logits, temperature))
    critical, routine, score = (
        np.array([getattr(one, name) for one in judged]) for name in ("critical", "routine", "score")
    )
    threshold = threshold_on_plateau(critical, routine, score, ROUTINE_ALARMS_PER_THOUSAND)
    calibration = Calibration(round(temperature, 4), round(threshold, 4))
    facts = {
        "calibration": calibration._asdict(),
        "folds": folds,
        "measured_folds": measured,
        "recipe": asdict(recipe),
        "fingerprint": fingerprint(systems),
        "normaliser_version": NORMALISER_VERSION,
    }
    facts |= {"systems": len(systems), "templates": sum(len(system.templates) for system in systems)}
    (work / "training.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    Console().print(f"temperature {calibration.temperature:.3f}, threshold {calibration.threshold:.3f}")


@app.command()
def export(work: WorkDir = _WORK, model: ModelDir = _MODEL, corpus: Corpus = CORPUS_DIR) -> None:
    """Write the files that ship from the model trained on everything. The card follows with `evaluate --card`."""
    trained = json.loads((work / "training.json").read_text("utf-8"))
    encoder = load_encoder(work / "final")
    save_encoder(encoder, load_tokenizer(work / "final"), model)
    difference = exporting.export_graphs(model)
    with _progress() as progress:
        size = write_examples(model, corpus_examples(load_corpus(corpus)), progress)
    about = {
        name: trained[name] for name in ("fingerprint", "systems", "templates", "folds", "measured_folds", "recipe")
    }
    exporting.write_manifest(model, Calibration(**trained["calibration"]), {"trained_on": about})
    Console().print(
        f"wrote {model}, its index of examples in {size / 1000:.0f} kB; fp32 graph and torch differ by at most {difference:.1e} in a logit"
    )


@app.command()
def evaluate(
    work: WorkDir = _WORK,
    model: ModelDir = _MODEL,
    corpus: Corpus = CORPUS_DIR,
    outside: Outside = _OUTSIDE,
    keep: Keep = _KEEP,
    card: Annotated[bool, typer.Option(help="Write the model card, its plots and evaluation.json.")] = False,
    afresh: Afresh = False,
    threads: Threads = 2,
) -> None:
    """Judge the shipped model: folds on unseen systems where the work folder has them, else as recorded; lines from outside, int8, baselines, speed."""
    torch.set_num_threads(threads)
    with _progress() as progress:
        report = evaluate_model(Places(work, model, corpus, outside), Run(progress, threads, keep, afresh))
    terminal = Console()
    show(Console(width=max(terminal.width, _TABLE_WIDTH)), report)
    if card:
        for path in publish(report, model, corpus):
            terminal.print(f"wrote {path}")


@app.command()
def errors(
    work: WorkDir = _WORK,
    model: ModelDir = _MODEL,
    corpus: Corpus = CORPUS_DIR,
    outside: Outside = _OUTSIDE,
    keep: Keep = _KEEP,
    worst: Annotated[int, typer.Option(help="Misses, and false alarms, to list of each set.", min=1)] = 200,
    afresh: Afresh = False,
    threads: Threads = 2,
) -> None:
    """Write a readable list of the worst misses and false alarms on unseen systems and on lines from outside, with counts of what they are."""
    with _progress() as progress:
        page = read_errors(Places(work, model, corpus, outside), Run(progress, threads, keep, afresh), worst)
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / "errors.md"
    path.write_text(page, "utf-8")
    console = Console()
    for line in page.splitlines():
        if line.startswith("## "):
            console.print(line.removeprefix("## "), markup=False, highlight=False)
    console.print(f"wrote {path}")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )


def main() -> None:
    """Run the command line; a HarklineError is one sentence and exit status 1, never a traceback."""
    try:
        app()
    except HarklineError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
