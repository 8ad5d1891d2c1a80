"""A corpus, a model and a training run small enough to make within a test: real formats, real graphs, weights that know nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LEVELS = ("debug", "info", "warning", "error", "critical")
_MESSAGES = (
    "cache of {service} missed key {id}",
    "{service} started in {ms}ms",
    "retry {n} of 9 for {host}",
    "worker {pid} died, its queue is lost",
    "disk {dev} is gone, all writes fail",
)
_WORDS = "none info error cache of missed key started in retry for worker died its queue is lost disk gone all writes fail # | ,"


def write_corpus(directory: Path, systems: int = 12) -> Path:
    """Write a corpus of so many systems, five templates each, one a level."""
    directory.mkdir()
    for number in range(systems):
        name = f"pump-{number}"
        rows: list[dict[str, object]] = [
            {"system": name, "domain": "iot", "envelopes": ["{ts} {host} pump[{pid}]: {level} {message}", "{message}"]}
        ]
        rows += [
            {
                "template": f"unit {number} of hall {number}: {message}",
                "logged": "INFO",
                "level": level,
                "category": "iot",
                "reason": level,
                **({"contrast": "lie"} if level == "error" else {}),
            }
            for level, message in zip(_LEVELS, _MESSAGES, strict=True)
        ]
        (directory / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n", "utf-8")
    return directory


def write_outside(directory: Path) -> Path:
    """Write labelled lines and a stream, as a folder of outside data holds them."""
    directory.mkdir()
    rows = [
        {
            "text": f"valve {number} {'burst' if number % 3 == 0 else 'closed'}",
            "label": "critical" if number % 3 == 0 else "not_critical",
            "severity": "error" if number % 3 == 0 else None,
            "template": f"valve:{number}",
            "system": "valve",
            "weight": 2,
        }
        for number in range(9)
    ]
    (directory / "valves.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n", "utf-8")
    (directory / "stream.log").write_text("".join(f"valve {word} closed\n" for word in "abcdefgh"), "utf-8")
    return directory


def write_checkpoint(directory: Path, seed: int) -> None:
    """Write a BERT of one layer and eight numbers a token, its head random but not shy."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    from harkline_training.checkpoint import save_encoder
    from harkline_workers.backends.encoder import EncoderConfig, PackedEncoder

    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_WORDS.split()])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(seed)
    encoder = PackedEncoder(
        EncoderConfig(
            vocab_size=len(vocabulary),
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=128,
            type_vocab_size=2,
            layer_norm_eps=1e-12,
        )
    )
    save_encoder(encoder.eval(), tokenizer, directory)


def write_training_run(work: Path, model: Path, corpus: Path) -> None:
    """Write what a training run leaves behind: two folds of two, `training.json`, and the exported model."""
    from harkline_training.calibrate import Calibration
    from harkline_training.dataset import fingerprint, load_corpus
    from harkline_training.export import export_graphs, write_manifest

    systems = load_corpus(corpus)
    for fold in range(2):
        write_checkpoint(work / f"fold-{fold}", seed=fold)
    calibration = Calibration(1.0, 0.4)
    facts = {
        "calibration": calibration._asdict(),
        "folds": 2,
        "measured_folds": 2,
        "recipe": {"epochs": 0},
        "fingerprint": fingerprint(systems),
        "systems": len(systems),
        "templates": sum(len(system.templates) for system in systems),
    }
    (work / "training.json").write_text(json.dumps(facts), "utf-8")
    write_checkpoint(model, seed=2)
    export_graphs(model)
    write_manifest(model, calibration, {"trained_on": facts})
