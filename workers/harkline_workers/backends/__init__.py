"""Everything that can run the model, behind one small port. A new runtime is one file and one line in `BACKENDS`.

Runtimes are imported only when they are asked for: the CPU image has no torch, and the parent of a prefork worker must load neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Backend(Protocol):
    """One loaded copy of the model in one process. Not for use by two threads at a time."""

    def load(self) -> None:
        """Read the weights. Called once, in the process that will score; this is where a GPU is first touched. May take seconds."""

    def score(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return logits (n, classes) for lines given as token ids, special tokens included, in order. Too long lines lose their middle.

        The classes are LEVELS for a model of ours, the checkpoint's own labels for one of Hugging Face.
        """

    def score_exactly(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return the same in fp32, however much slower: the second look at lines near the threshold."""

    def embed(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return one vector a line, (n, hidden), in order: what the head makes its logits of. (n, 0) where this model gives none."""

    def close(self) -> None:
        """Let go of the weights. Scoring afterwards is an error; closing again is not."""


class BackendEntry(NamedTuple):
    """How to make a backend, and the files of our model folder that it reads (none: it does not read ours)."""

    make: Callable[[Path, int], Backend]  # model folder, threads
    files: tuple[str, ...]


def _onnx(model_dir: Path, threads: int) -> Backend:
    from harkline_workers.backends.onnx import OnnxBackend  # noqa: PLC0415 - loads onnxruntime

    return OnnxBackend(model_dir, threads)


def _torch(model_dir: Path, threads: int) -> Backend:
    from harkline_workers.backends.torch import TorchBackend  # noqa: PLC0415 - loads torch

    return TorchBackend(model_dir, threads)


def _transformers(model_dir: Path, threads: int) -> Backend:
    from harkline_workers.backends.transformers import TransformersBackend  # noqa: PLC0415 - loads torch and transformers

    return TransformersBackend(model_dir, threads)


# What runs Hugging Face checkpoints; the others run models of ours.
CHECKPOINT_BACKEND = "transformers"

BACKENDS = {
    "onnx": BackendEntry(_onnx, ("model.int8.onnx", "model.fp32.onnx", "model.safetensors")),
    "torch": BackendEntry(_torch, ("model.safetensors", "config.json")),
    CHECKPOINT_BACKEND: BackendEntry(_transformers, ()),
}
