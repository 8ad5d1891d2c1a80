"""Fine-tune the encoder: five levels, and above all on which side of the pager a line falls.

On the corpus every epoch renders every template afresh, so that values never repeat and the words around them are all that can be learned. Lines are
packed into rows as in serving, so training wastes nothing on padding either.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from harkline_training.dataset import System, training_examples
from harkline_workers.backends.encoder import PackedEncoder, batch_rows
from harkline_workers.normalise import LEVELS
from harkline_workers.packing import pack

_CRITICAL_FROM = LEVELS.index("error")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what training makes of a corpus."""

    epochs: int = 5
    renderings: int = 1  # of each template, an epoch
    batch_lines: int = 32
    learning_rate: float = 1e-4
    head_learning_rate: float = 2e-3
    layer_decay: float = 0.9
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    label_smoothing: float = 0.1
    severity_weight: float = 1.0  # of the two-way loss beside the five-way one
    contrast_weight: float = 1.0
    dropout: float = 0.1
    average_from: float = 0.6  # share of the steps after which weights are averaged
    seed: int = 0


class Lesson(NamedTuple):
    """One line to learn from: what the model reads, and what it should make of it."""

    model_input: str
    critical: bool
    level: int | None  # its place in LEVELS; None where only the side of the pager is known
    weight: float = 1.0


def fine_tune(
    encoder: PackedEncoder, tokenizer: Tokenizer, systems: Sequence[System], recipe: Recipe, progress: Progress
) -> PackedEncoder:
    """Return a copy of `encoder` that was trained on a corpus; see `learn`."""
    return learn(encoder, tokenizer, lambda epoch: corpus_lessons(systems, recipe, epoch), recipe, progress, "training")


def learn(
    encoder: PackedEncoder,
    tokenizer: Tokenizer,
    lessons: Callable[[int], list[Lesson]],
    recipe: Recipe,
    progress: Progress,
    title: str,
) -> PackedEncoder:
    """Return a trained copy of `encoder`: the mean of the weights over the last part of the run. Uses a GPU where torch sees one.

    `lessons` gives the lines of an epoch, as many in each, in the order in which they are learned. `title` names the progress bar.
    """
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = copy.deepcopy(encoder).to(device).train()
    first = lessons(0)
    steps = recipe.epochs * -(-len(first) // recipe.batch_lines)
    optimizer = torch.optim.AdamW(_parameter_groups(model, recipe), weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / steps, recipe.warmup_share))
    average = torch.optim.swa_utils.AveragedModel(model)
    bar = progress.add_task(f"{title}, seed {recipe.seed}", total=steps)
    for step, batch in enumerate(_batches(first, lessons, recipe)):
        with torch.autocast(device.type, dtype=torch.bfloat16), _attention(device):
            loss = _loss(model, tokenizer, batch, recipe, device)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        if step >= recipe.average_from * steps:
            average.update_parameters(model)
        progress.update(bar, advance=1, description=f"{title}, seed {recipe.seed}, loss {loss.item():.3f}")
    model.load_state_dict(average.module.state_dict())
    return model.cpu().eval()


def corpus_lessons(systems: Sequence[System], recipe: Recipe, epoch: int) -> list[Lesson]:
    """Render every template of a corpus for one epoch, shuffled."""
    seed = recipe.seed * 1000 + epoch
    examples = training_examples(systems, recipe.renderings, seed)
    Random(seed).shuffle(examples)
    return [
        Lesson(
            example.model_input,
            example.template.critical,
            example.template.label,
            recipe.contrast_weight if example.template.contrast else 1.0,
        )
        for example in examples
    ]


@torch.inference_mode()
def logits_of(
    encoder: PackedEncoder, tokenizer: Tokenizer, inputs: Sequence[str], rows_at_once: int = 8
) -> NDArray[np.float32]:
    """Return fp32 logits (n, levels) for model inputs, in order."""
    rows = pack([encoding.ids for encoding in tokenizer.encode_batch_fast(list(inputs))])
    logits = np.zeros((len(inputs), len(LEVELS)), dtype=np.float32)
    for start in range(0, len(rows), rows_at_once):
        batch, lines = batch_rows(rows[start : start + rows_at_once])
        logits[lines] = encoder(*batch).numpy()
    return logits


def _attention(device: torch.device) -> AbstractContextManager[None]:
    """Choose how attention is computed: on a CPU the plain product of matrices is a tenth faster than the fused kernel (46 against 42 lines a second)."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _batches(first: list[Lesson], lessons: Callable[[int], list[Lesson]], recipe: Recipe) -> Iterator[list[Lesson]]:
    for epoch in range(recipe.epochs):
        epoch_lessons = lessons(epoch) if epoch else first
        for start in range(0, len(epoch_lessons), recipe.batch_lines):
            yield epoch_lessons[start : start + recipe.batch_lines]


def _loss(
    model: PackedEncoder, tokenizer: Tokenizer, lessons: list[Lesson], recipe: Recipe, device: torch.device
) -> Tensor:
    rows = pack([encoding.ids for encoding in tokenizer.encode_batch_fast([lesson.model_input for lesson in lessons])])
    batch, order = batch_rows(rows)
    logits = model(*(tensor.to(device) for tensor in batch)).float()
    ordered = [lessons[line] for line in order]
    known = torch.tensor([lesson.level is not None for lesson in ordered], device=device).float()
    labels = torch.tensor([lesson.level or 0 for lesson in ordered], device=device)
    critical = torch.tensor([lesson.critical for lesson in ordered], device=device).float()
    weights = torch.tensor([lesson.weight for lesson in ordered], device=device)
    levels = known * functional.cross_entropy(logits, labels, reduction="none", label_smoothing=recipe.label_smoothing)
    # The log-odds of P(error) + P(critical).
    odds = logits[:, _CRITICAL_FROM:].logsumexp(dim=1) - logits[:, :_CRITICAL_FROM].logsumexp(dim=1)
    targets = critical * (1 - recipe.label_smoothing) + recipe.label_smoothing / 2
    severity = functional.binary_cross_entropy_with_logits(odds, targets, reduction="none")
    return (weights * (levels + recipe.severity_weight * severity)).sum() / weights.sum()


def _parameter_groups(model: PackedEncoder, recipe: Recipe) -> list[dict[str, Any]]:
    """Give each layer its own rate, lower towards the input. Word and position embeddings stay as they are, so that words the corpus lacks keep their place."""
    embeddings: Any = model.bert["embeddings"]
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        embeddings[name].weight.requires_grad_(False)
    encoder: Any = model.bert["encoder"]
    layers = list(encoder["layer"])
    groups = [
        {
            "params": list(layer.parameters()),
            "lr": recipe.learning_rate * recipe.layer_decay ** (len(layers) - 1 - depth),
        }
        for depth, layer in enumerate(layers)
    ]
    lowest = recipe.learning_rate * recipe.layer_decay ** len(layers)
    return [
        *groups,
        {"params": list(embeddings["LayerNorm"].parameters()), "lr": lowest},
        {"params": list(model.classifier.parameters()), "lr": recipe.head_learning_rate},
    ]


def _rate(share: float, warmup_share: float) -> float:
    """Return the factor on the learning rate at a share of the run: up in a line, then down to a twentieth, which leaves the average something to average."""
    if share < warmup_share:
        return max(share, 1e-3) / warmup_share
    return 1.0 - 0.95 * (share - warmup_share) / (1.0 - warmup_share)
