"""The backend of Hugging Face checkpoints: any architecture that `AutoModelForSequenceClassification` knows, from safetensors, without remote code.

It is here to serve models that are not ours, not to be fast: padded batches of lines of like length, on a GPU where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer

from harkline.errors import ModelError
from harkline_workers.checkpoint import LONGEST_TOKENS
from harkline_workers.packing import shorten

# Tokens of one call, padding included: as in the torch backend.
_GPU_TOKENS = 65_536
_CPU_TOKENS = 1_024
# RoBERTa and its kin count positions from the padding token's id + 1.
_RESERVED_POSITIONS = 2
# Logits of a line alone and in company may differ by rounding, and by nothing else.
_ROUNDING = 1e-3


class TransformersBackend:
    """Scores lines with a checkpoint; logits are over the checkpoint's own labels, in its order."""

    def __init__(self, model_dir: Path, threads: int = 1) -> None:
        self._model_dir = model_dir
        self._threads = threads
        self._device = torch.device("cpu")
        self._model: Any = None
        self._longest = LONGEST_TOKENS
        self._pad_id = 0
        self._pads: str | None = None  # "right", "left", "never", or not tried yet

    def load(self) -> None:
        """Read the weights and put them on the device. CUDA cannot follow a fork, so it is not touched before this."""
        if torch.cuda.is_available():
            self._device = torch.device("cuda")
        else:
            torch.set_num_threads(self._threads)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        try:
            model, loaded = transformers.AutoModelForSequenceClassification.from_pretrained(
                self._model_dir,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                # Told apart below, with the names of what does not fit.
                ignore_mismatched_sizes=True,
            )
        except Exception as error:  # every architecture has its own ways to fail
            raise ModelError(
                f"transformers cannot load {self._model_dir} ({type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''})"
            ) from error
        # Left to itself transformers fills what is missing with random numbers, and a random classifier looks like any other.
        lacking = sorted({*loaded["missing_keys"], *(str(key[0]) for key in loaded["mismatched_keys"])})
        if lacking:
            raise ModelError(
                f"{self._model_dir} lacks trained weights ({', '.join(lacking[:3])}{' ...' if len(lacking) > 3 else ''}): it is no finished"
                " sequence-classification checkpoint; fine-tune it first"
            )
        positions = getattr(model.config, "max_position_embeddings", None)
        if isinstance(positions, int) and positions > _RESERVED_POSITIONS:
            self._longest = min(LONGEST_TOKENS, positions - _RESERVED_POSITIONS)
        pad_id = getattr(model.config, "pad_token_id", None)
        self._pad_id = pad_id if isinstance(pad_id, int) and pad_id >= 0 else 0
        self._model = model.to(self._device).eval()

    def score(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return logits (n, labels), in order: half precision on a GPU, fp32 on a CPU."""
        half = torch.bfloat16 if self._device.type == "cpu" or torch.cuda.is_bf16_supported() else torch.float16
        with torch.autocast(self._device.type, dtype=half, enabled=self._device.type == "cuda"):
            return self._run(encodings)

    def score_exactly(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return fp32 logits (n, labels), in order."""
        return self._run(encodings)

    def embed(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return (n, 0): every architecture has a vector of another kind, and no examples to compare it with."""
        return np.empty((len(encodings), 0), dtype=np.float32)

    def close(self) -> None:
        """Drop the weights; on a GPU their memory goes back to the device."""
        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _run(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        if self._model is None:
            raise ModelError("the transformers backend is not loaded; call load() first")
        if not encodings:
            return np.empty((0, self._model.config.num_labels), dtype=np.float32)
        # A line without a token (a tokenizer that adds none of its own) is one of padding.
        lines = [list(shorten(encoding, self._longest)) or [self._pad_id] for encoding in encodings]
        order = sorted(range(len(lines)), key=lambda at: -len(lines[at]))
        longest, shortest = lines[order[0]], lines[order[-1]]
        if self._pads is None and len(longest) > len(shortest):
            self._pads = self._harmless_padding(longest, shortest)
        logits = np.empty((len(lines), self._model.config.num_labels), dtype=np.float32)
        for batch in self._batches(order, lines):
            logits[batch] = self._forward([lines[at] for at in batch], self._pads or "right")
        return logits

    def _batches(self, order: Sequence[int], lines: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Cut lines, longest first, into batches of a bounded number of tokens."""
        tokens = _GPU_TOKENS if self._device.type == "cuda" else _CPU_TOKENS
        at = 0
        while at < len(order):
            size = 1 if self._pads in (None, "never") else max(1, tokens // len(lines[order[at]]))
            yield list(order[at : at + size])
            at += size

    def _harmless_padding(self, longest: list[int], shortest: list[int]) -> str:
        """Return the side on which padding moves no score of this model: the attention mask is not all that some architectures go by."""
        with torch.autocast(self._device.type, enabled=False):
            alone = np.concatenate([self._forward([line], "right") for line in (longest, shortest)])
            for side in ("right", "left"):
                try:
                    together = self._forward([longest, shortest], side)
                except (ValueError, RuntimeError, IndexError):  # without a padding token decoders refuse batches
                    continue
                if np.abs(together - alone).max() <= _ROUNDING * max(1.0, float(np.abs(alone).max())):
                    return side
        return "never"

    def _forward(self, lines: Sequence[list[int]], side: str) -> NDArray[np.float32]:
        width = max(len(line) for line in lines)
        token_ids = np.full((len(lines), width), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(lines), width), dtype=np.int64)
        for row, line in enumerate(lines):
            place = slice(width - len(line), width) if side == "left" else slice(0, len(line))
            token_ids[row, place] = line
            mask[row, place] = 1
        answer = self._model(
            input_ids=torch.from_numpy(token_ids).to(self._device),
            attention_mask=torch.from_numpy(mask).to(self._device),
        )
        logits: NDArray[np.float32] = answer.logits.float().cpu().numpy()
        return logits


def convert_tokenizer(model_dir: Path) -> Tokenizer:
    """Return the raw tokenizer of a checkpoint that has no `tokenizer.json`, made from its vocabulary. Raises ModelError where there is no way."""
    try:
        wrapped = transformers.AutoTokenizer.from_pretrained(
            model_dir, use_fast=True, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # every tokenizer has its own ways to fail
        raise ModelError(f"transformers cannot read the tokenizer of {model_dir} ({error})") from error
    raw = getattr(wrapped, "backend_tokenizer", None)
    if not isinstance(raw, Tokenizer):
        raise ModelError(
            f"the tokenizer of {model_dir} cannot be had as a tokenizer.json, which is the one form that harkline reads"
        )
    return raw
