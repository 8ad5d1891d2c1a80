"""Read a Hugging Face sequence-classification checkpoint as far as it can be read without running it: its labels, its files, its version.

Whatever would make every verdict wrong without a sign of it (labels of unknown meaning, weights that run code, one score instead of classes) is
refused here, before a worker's pool exists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from harkline.errors import ModelError
from harkline.settings import LABEL_WORDS
from harkline_workers.manifest import MANIFEST_NAME
from harkline_workers.normalise import LEVELS, NORMALISER_VERSION

CONFIG_NAME = "config.json"
DEFAULT_THRESHOLD = 0.5
# A normalised line has about a thousand characters at most. Longer ones lose their middle, as in packing.
LONGEST_TOKENS = 256

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
# What decides a verdict: sizes, weights, tokens. Read-mes and the like do not.
_DECIDING = frozenset((".json", ".safetensors", ".txt", ".model"))
_CRITICAL_FROM = LEVELS.index("error")
_LEVEL_OF_WORD = {word: "info" if word == "not_critical" else word for word in LABEL_WORDS}


class CheckpointRefused(ModelError):
    """The settings name a checkpoint that cannot be served as they say; waiting will not mend it, so a worker does not start with it."""


class Checkpoint(NamedTuple):
    """One checkpoint and how its answers are read. Has what `Model` asks of a manifest."""

    version: str  # digest of the files, the labels' meaning and the threshold
    threshold: float  # lines whose P(error) + P(critical) is at least this are critical
    columns: tuple[int, ...]  # label -> index into LEVELS
    levels: tuple[str, ...] = LEVELS
    temperature: float = 1.0
    second_look_log_odds: float = 0.0


class _Config(msgspec.Struct):
    """The little that we read of `config.json`. Without labels transformers assumes two, and names them itself."""

    id2label: dict[int, str] | None = None
    num_labels: int | None = None
    problem_type: str | None = None


def is_checkpoint(folder: Path) -> bool:
    """Tell whether a folder holds a Hugging Face checkpoint and no model of ours, which has a `model.json`."""
    return (folder / CONFIG_NAME).is_file() and not (folder / MANIFEST_NAME).exists()


def read_checkpoint(folder: Path, words: Mapping[str, str], threshold: float | None = None) -> Checkpoint:
    """Describe a checkpoint; reads and digests all its files. `words` says what its labels mean.

    Raises CheckpointRefused for what `examine` refuses, ModelError for files that are missing.
    """
    columns = examine(folder, words)
    threshold = threshold or DEFAULT_THRESHOLD
    digest = hashlib.sha256(f"{NORMALISER_VERSION} {LONGEST_TOKENS} {columns} {threshold!r}".encode())
    for path in sorted(path for path in folder.iterdir() if path.suffix in _DECIDING and path.is_file()):
        with path.open("rb") as file:
            digest.update(f"\n{path.name}={hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return Checkpoint(digest.hexdigest()[:12], threshold, columns)


def examine(folder: Path, words: Mapping[str, str]) -> tuple[int, ...]:
    """Return the level of each label, as an index into LEVELS; quick, since no weights are read.

    Raises CheckpointRefused where a label means nothing to us, all labels fall on one side, the classes do not exclude one another, or the weights
    are pickled; ModelError where files are missing.
    """
    try:
        config = msgspec.json.decode((folder / CONFIG_NAME).read_bytes(), type=_Config, strict=False)
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelError(f"cannot read {folder / CONFIG_NAME} ({error}); save the checkpoint again") from error
    labels = _labels(config)
    if len(labels) < 2 or config.problem_type not in (None, "single_label_classification"):
        raise CheckpointRefused(
            f"{folder} has {len(labels)} label(s) and problem_type {config.problem_type!r}: harkline needs a checkpoint that chooses one of several labels"
        )
    columns = _columns(folder, labels, words)
    if not any((folder / name).is_file() for name in _WEIGHTS):
        pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
        if pickled:
            raise CheckpointRefused(
                f"{folder} has its weights pickled only ({', '.join(pickled)}), and reading a pickle can run any code: save them as safetensors"
                " (`model.save_pretrained` does)"
            )
        raise ModelError(f"{folder} holds no {_WEIGHTS[0]}; put the checkpoint's weights there")
    if not any(path.is_file() for pattern in _TOKENIZERS for path in folder.glob(pattern)):
        raise ModelError(
            f"{folder} holds no tokenizer.json; save the checkpoint's tokenizer there (`tokenizer.save_pretrained`)"
        )
    return columns


def _labels(config: _Config) -> list[str]:
    if config.id2label:
        return [label for _, label in sorted(config.id2label.items())]
    return [f"LABEL_{at}" for at in range(2 if config.num_labels is None else config.num_labels)]


def _columns(folder: Path, labels: list[str], words: Mapping[str, str]) -> tuple[int, ...]:
    strangers = sorted(set(words) - set(labels))
    meant = [words.get(label) or _own_word(label) for label in labels]
    unmapped = [label for label, word in zip(labels, meant, strict=True) if not word]
    if unmapped or strangers:
        example = ",".join(f"{label}={words.get(label) or _own_word(label) or '...'}" for label in labels)
        raise CheckpointRefused(
            f"the labels of {folder} are {', '.join(labels)}"
            + (f"; {', '.join(unmapped)} {_has(unmapped)} no meaning here" if unmapped else "")
            + (
                f"; {', '.join(strangers)} of HARKLINE_MODEL_LABELS {_is(strangers)} not among them"
                if strangers
                else ""
            )
            + f": set HARKLINE_MODEL_LABELS={example}, each one of {', '.join(LABEL_WORDS)}"
        )
    columns = tuple(LEVELS.index(_LEVEL_OF_WORD[word]) for word in meant)
    if len({column >= _CRITICAL_FROM for column in columns}) == 1:
        side = "error or critical" if columns[0] >= _CRITICAL_FROM else "below error"
        raise CheckpointRefused(
            f"every label of {folder} ({', '.join(labels)}) means {side}, so all lines would get one verdict: set HARKLINE_MODEL_LABELS"
        )
    return columns


def _own_word(label: str) -> str:
    word = label.strip().lower().replace(" ", "_").replace("-", "_")
    return word if word in LABEL_WORDS else ""


def _has(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
