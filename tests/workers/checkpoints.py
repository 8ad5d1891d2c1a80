"""Hugging Face checkpoints for tests, tiny and random, made from a configuration on the spot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

if TYPE_CHECKING:
    from pathlib import Path

WORDS = "info error none disk failed node started the volume was remounted read only backup finished in".split()  # noqa: SIM905 - a sentence
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCABULARY = 32
LINES = [
    "info | backup finished",
    "error | disk # failed, " + "the volume was remounted read only " * 4,
    "none | node started",
    "",
    "none | \U0001f525 " + "disk failed " * 300,
    "error | the disk of node # failed",
]


def make_checkpoint(folder: Path, kind: str, **sizes: Any) -> Path:
    """Save a random classifier of an architecture (`DistilBert`, `GPT2`, ...) with its tokenizer; the same one every time."""
    import torch
    import transformers

    config = getattr(transformers, f"{kind}Config")(vocab_size=VOCABULARY, **sizes)
    torch.manual_seed(7)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    # Wide apart, as a trained one is: with its first weights a tiny model says the same of everything.
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn_like(weights) * 0.3)
    model.save_pretrained(folder)
    make_tokenizer(folder)
    return folder


def make_tokenizer(folder: Path) -> None:
    """Save a tokenizer of a few words."""
    tokenizer = Tokenizer(WordLevel({word: at for at, word in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(folder / "tokenizer.json"))


def distilbert(folder: Path, **sizes: Any) -> Path:
    """Save a tiny DistilBERT of two labels, unless `sizes` says otherwise."""
    return make_checkpoint(folder, "DistilBert", dim=16, n_layers=2, n_heads=2, hidden_dim=32, **sizes)


def roberta(folder: Path, **sizes: Any) -> Path:
    """Save a tiny RoBERTa with 40 positions, two of which it keeps for itself."""
    return make_checkpoint(
        folder,
        "Roberta",
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=42,
        pad_token_id=1,
        **sizes,
    )
