"""The GPU's backend, and on a CPU the fp32 reference that the int8 one is measured against.

On a GPU many rows go at once, in bf16 (fp16 where the device has no bf16), up to a budget of tokens; on a CPU few, in fp32.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from harkline.errors import ModelError
from harkline_workers.backends.encoder import EncoderConfig, PackedEncoder, batch_rows
from harkline_workers.normalise import LEVELS
from harkline_workers.packing import ROW_TOKENS, pack

# Tokens of one call: enough to fill a GPU; on a CPU, what stays in its caches.
_GPU_TOKENS = 65_536
_CPU_TOKENS = 1_024


class TorchBackend:
    """Scores batches of packed rows on the first GPU, or on the CPU where there is none."""

    def __init__(self, model_dir: Path, threads: int = 1) -> None:
        self._model_dir = model_dir
        self._threads = threads
        self._device = torch.device("cpu")
        self._encoder: PackedEncoder | None = None

    def load(self) -> None:
        """Read the weights and put them on the device. CUDA cannot follow a fork, so it is not touched before this."""
        if torch.cuda.is_available():
            self._device = torch.device("cuda")
        else:
            torch.set_num_threads(self._threads)
        try:
            config = EncoderConfig.from_json(
                json.loads((self._model_dir / "config.json").read_text("utf-8")), len(LEVELS)
            )
            encoder = PackedEncoder(config)
            encoder.load_state_dict(
                {name: tensor.float() for name, tensor in load_file(self._model_dir / "model.safetensors").items()}
            )
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"torch cannot load {self._model_dir / 'model.safetensors'} ({error}); export the model again"
            ) from error
        self._encoder = encoder.to(self._device).eval()

    def score(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return logits (n, levels), in order: half precision on a GPU, fp32 on a CPU."""
        half = torch.bfloat16 if self._device.type == "cpu" or torch.cuda.is_bf16_supported() else torch.float16
        with torch.autocast(self._device.type, dtype=half, enabled=self._device.type == "cuda"):
            return self._run(encodings)

    def score_exactly(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return fp32 logits (n, levels), in order."""
        return self._run(encodings)

    def embed(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return the vectors that the head reads, (n, hidden) fp32, in order."""
        return self._run(encodings, vectors=True)

    def close(self) -> None:
        """Drop the weights; on a GPU their memory goes back to the device."""
        self._encoder = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _run(self, encodings: Sequence[Sequence[int]], *, vectors: bool = False) -> NDArray[np.float32]:
        if self._encoder is None:
            raise ModelError("the torch backend is not loaded; call load() first")
        apply = self._encoder.pool if vectors else self._encoder
        width = self._encoder.config.hidden_size if vectors else len(LEVELS)
        answers = np.empty((len(encodings), width), dtype=np.float32)
        rows = pack(encodings)
        step = (_GPU_TOKENS if self._device.type == "cuda" else _CPU_TOKENS) // ROW_TOKENS
        for start in range(0, len(rows), step):
            batch, lines = batch_rows(rows[start : start + step])
            answers[lines] = (
                apply(*(tensor.to(self._device, non_blocking=True) for tensor in batch)).float().cpu().numpy()
            )
        return answers
