"""One evaluation from start to end: find what there is to measure, measure it, show it, and put it beside the model.

What is there differs: a fresh clone has the shipped model and what was recorded of it; who has trained has the folds too. Whoever reads the result
must be able to tell which numbers were measured now and which were recorded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from harkline.errors import ModelError
from harkline_training.baselines import Baselines
from harkline_training.calibrate import Calibration
from harkline_training.card import card_text, quantised_sentence, speed_sentence, weak_sentences, write_card
from harkline_training.dataset import fingerprint, load_corpus
from harkline_training.errors import errors_page
from harkline_training.evaluate import LabelledSet, judge, outside_sets
from harkline_training.measurement import (
    Folds,
    compare_quantised,
    measure_outside,
    measure_speed,
    measure_unseen,
    score_unseen,
    stream_lines,
)
from harkline_training.metrics import Judged
from harkline_training.plots import write_plots
from harkline_training.record import EVALUATION_NAME, Evaluation, SetReport, read_evaluation, write_evaluation
from harkline_training.scoring import Exported, Run, answer, weights_digest
from harkline_training.tables import SCORERS, SLICES, operating_terminal, terminal
from harkline_workers.manifest import MANIFEST_NAME, read_manifest
from harkline_workers.normalise import NORMALISER_VERSION


class Places(NamedTuple):
    """Where things lie."""

    work: Path
    model: Path
    corpus: Path
    outside: Path


class Report(NamedTuple):
    """An evaluation, and for each part of it where its numbers come from, in words."""

    evaluation: Evaluation
    unseen_from: str
    outside_from: str
    trained_on: str  # fingerprint of the corpus that the shipped model learned from


def evaluate_model(places: Places, run: Run) -> Report:
    """Measure what can be measured here, and take the rest from what was recorded of just these weights."""
    manifest = read_manifest(places.model)
    calibration = Calibration(manifest.temperature, manifest.threshold, manifest.second_look_log_odds)
    systems = load_corpus(places.corpus)
    weights = weights_digest(places.model)
    recorded = read_evaluation(places.model, weights, manifest.threshold)
    simpler = cache(lambda: Baselines(systems, run))
    trained_on = str(manifest.trained_on.get("fingerprint", ""))
    folds = find_folds(places.work, trained_on, calibration)
    unseen = measure_unseen(systems, folds, simpler(), run) if folds else recorded.unseen if recorded else None
    outside = measure_outside(places.outside, places.model, calibration, simpler, run)
    source, lines = stream_lines(places.outside, systems)
    evaluation = Evaluation(
        weights=weights,
        threshold=calibration.threshold,
        unseen=unseen,
        outside=outside or (recorded.outside if recorded else []),
        quantised=compare_quantised(places.model, source, lines, calibration, run),
        speed=measure_speed(places.model, lines),
    )
    return Report(
        evaluation,
        unseen_from=_unseen_from(places, folds, fingerprint(systems), trained_on, recorded is not None),
        outside_from=_outside_from(places, bool(outside), bool(evaluation.outside)),
        trained_on=trained_on,
    )


def find_folds(work: Path, shipped: str, calibration: Calibration) -> Folds | None:
    """Return the folds of a training run, or None where the work folder holds none.

    Folds of the very corpus that the shipped model learned from (`shipped`, its fingerprint) are judged by the shipped model's calibration, others by
    their own. Raises ModelError where they read other text than this program's.
    """
    facts = work / "training.json"
    if not facts.exists():
        return None
    trained = json.loads(facts.read_text("utf-8"))
    normaliser = trained.get("normaliser_version", NORMALISER_VERSION)
    if normaliser != NORMALISER_VERSION:
        raise ModelError(
            f"{facts} is of normaliser {normaliser!r}, this program has {NORMALISER_VERSION!r}; train again, or name another --work"
        )
    folds = Folds.of(work, trained)
    if folds.fingerprint == shipped:
        folds = folds._replace(calibration=calibration)
    return folds if all((directory / "config.json").exists() for directory in folds.directories) else None


def show(console: Console, report: Report) -> None:
    """Print a report, details first and the tables that sum it up last, saying of each part whether it was measured now."""
    evaluation = report.evaluation
    if evaluation.unseen is not None:
        slices = evaluation.unseen.slices
        by_system = [row for row in slices if row.lines.startswith("system ")]
        others = [row for row in slices if not row.lines.startswith("system ")]
        for title, rows in (("unseen systems, one by one", by_system), ("slices of the unseen systems", others)):
            console.print(terminal(title, rows, SLICES))
        for sentence in weak_sentences(others):
            console.print(sentence, highlight=False, soft_wrap=True)
    reports = [*([evaluation.unseen.report] if evaluation.unseen else []), *evaluation.outside]
    for one in reports:
        if one.operating:
            console.print(operating_terminal(f"{one.name}: what another threshold would mean", one.operating))
    console.print(f"\n[bold]Unseen systems[/bold]: {report.unseen_from}", highlight=False, soft_wrap=True)
    if evaluation.unseen is not None:
        console.print(_scorers(evaluation.unseen.report))
    console.print(f"\n[bold]Lines from outside[/bold]: {report.outside_from}", highlight=False, soft_wrap=True)
    for outside in evaluation.outside:
        console.print(_scorers(outside))
    console.print("\n[bold]int8 and speed[/bold]: measured now, with the shipped model.")
    console.print(quantised_sentence(evaluation.quantised), highlight=False, soft_wrap=True)
    console.print(speed_sentence(evaluation.speed), highlight=False, soft_wrap=True)


def publish(report: Report, model: Path, corpus: Path) -> list[Path]:
    """Write evaluation.json, plots and card beside the weights; return the files. Raises ModelError where there are no numbers of this very model."""
    unseen = report.evaluation.unseen
    if unseen is None:
        raise ModelError(
            "a card needs the folds' numbers: train first, or name the folder of the training run with --work"
        )
    if not unseen.trained_on == unseen.fingerprint == report.trained_on:
        raise ModelError(
            f"the model learned from corpus {report.trained_on}, its folds from {unseen.trained_on}, and they were judged on"
            f" {unseen.fingerprint}; a card wants all three alike"
        )
    manifest: dict[str, Any] = json.loads((model / MANIFEST_NAME).read_text("utf-8"))
    write_evaluation(model, report.evaluation)
    plots = write_plots(model / "plots", unseen.report, report.evaluation.outside, manifest["threshold"])
    write_card(model, card_text(manifest, report.evaluation, unseen, corpus))
    return [model / EVALUATION_NAME, *plots, model / "README.md"]


def read_errors(places: Places, run: Run, worst: int) -> str:
    """Return the page of the worst errors: of the folds where there are any, and of the shipped model on lines from outside."""
    manifest = read_manifest(places.model)
    calibration = Calibration(manifest.temperature, manifest.threshold, manifest.second_look_log_odds)
    sets: list[tuple[LabelledSet, Sequence[Judged]]] = []
    folds = find_folds(places.work, str(manifest.trained_on.get("fingerprint", "")), calibration)
    if folds:
        labelled, logits = score_unseen(load_corpus(places.corpus), folds, run, Exported.fp32)
        sets.append((labelled, judge(labelled, *answer(logits, folds.calibration.temperature))))
    outside = outside_sets(places.outside)
    if not folds and not outside:
        raise ModelError(f"neither folds in {places.work} nor labelled lines in {places.outside}: nothing to judge by")
    for labelled in outside:
        logits = Exported(places.model, run, labelled.name).fp32(labelled.inputs)
        sets.append((labelled, judge(labelled, *answer(logits, calibration.temperature))))
    return errors_page(sets, calibration.threshold, worst)


def _scorers(report: SetReport) -> Table:
    summary = report.rows[0].summary
    title = f"{report.name}: {summary.templates:,} templates, {summary.critical:,} critical"
    return terminal(title, report.rows, SCORERS)


def _unseen_from(places: Places, folds: Folds | None, corpus: str, trained_on: str, recorded: bool) -> str:
    if folds is None:
        if not recorded:
            return f"nothing to show: no folds in {places.work}, and no {EVALUATION_NAME} of these weights at this threshold."
        return (
            f"recorded when the model was trained ({EVALUATION_NAME}); `make train` makes the folds to measure it anew."
        )
    notes = [f"measured now, with the folds in {places.work}."]
    if folds.fingerprint != trained_on:
        notes.append(
            f"They are not the shipped model's: it learned from corpus {trained_on}, they from {folds.fingerprint}."
        )
    if folds.fingerprint != corpus:
        notes.append(f"The corpus has changed since ({corpus}); what is held out was still not seen.")
    return " ".join(notes)


def _outside_from(places: Places, measured: bool, any_rows: bool) -> str:
    if measured:
        return (
            f"measured now, with the shipped model, on {places.outside}; the baselines learned from the whole corpus."
        )
    missing = f"no labelled lines in {places.outside}, so nothing was measured now"
    return f"{missing}; what follows was recorded." if any_rows else f"{missing}."
