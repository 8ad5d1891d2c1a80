"""The CPU's backend: ONNX Runtime on the int8 packed graph, and on the fp32 one for lines near the threshold.

One thread a process by default and no spinning: workers are one process a core, and a spinning thread takes its time from the neighbour's work. The
fp32 graph carries no weights of its own: it points into `model.safetensors` by byte offsets, so that they ship once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from harkline.errors import ModelError
from harkline_workers.packing import pack

# The outputs of our graphs.
LOGITS, VECTORS = "logits", "vectors"

_LOG_ERRORS_ONLY = 3
# Its fused kernel takes an element at a time: a sum and a layer norm of their own are seven times faster.
_SLOW_FUSIONS = ["SkipLayerNormFusion"]


class OnnxBackend:
    """Scores row by row: rows of 128 tokens keep every intermediate in the core's cache, and larger batches measured slower."""

    def __init__(self, model_dir: Path, threads: int = 1) -> None:
        self._model_dir = model_dir
        self._threads = threads
        self._int8: onnxruntime.InferenceSession | None = None
        self._fp32: onnxruntime.InferenceSession | None = None

    def load(self) -> None:
        """Open the int8 graph. The fp32 one waits for the first line that needs it: many streams have none for hours."""
        self._int8 = self._open("model.int8.onnx")

    def score(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return int8 logits (n, levels), in order."""
        return _run(self._loaded(), encodings)

    def score_exactly(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return fp32 logits (n, levels), in order."""
        self._loaded()
        if self._fp32 is None:
            self._fp32 = self._open("model.fp32.onnx")
        return _run(self._fp32, encodings)

    def embed(self, encodings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return the vectors that the head reads, (n, hidden), of the int8 graph, in order; (n, 0) where the graph was exported without them."""
        session = self._loaded()
        if VECTORS not in {output.name for output in session.get_outputs()}:
            return np.empty((len(encodings), 0), dtype=np.float32)
        return _run(session, encodings, VECTORS)

    def close(self) -> None:
        """Drop both sessions."""
        self._int8 = self._fp32 = None

    def _loaded(self) -> onnxruntime.InferenceSession:
        if self._int8 is None:
            raise ModelError("the onnx backend is not loaded; call load() first")
        return self._int8

    def _open(self, name: str) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _LOG_ERRORS_ONLY
        # Rows differ by a few tokens, so a memory plan for each length would be kept and never used again.
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(
                str(self._model_dir / name),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=_SLOW_FUSIONS,
            )
        except Exception as error:  # onnxruntime raises its own kinds, which share no base but Exception
            raise ModelError(
                f"onnxruntime cannot load {self._model_dir / name} ({error}); export the model again"
            ) from error


def _run(
    session: onnxruntime.InferenceSession, encodings: Sequence[Sequence[int]], output: str = LOGITS
) -> NDArray[np.float32]:
    # Only the output that is named is computed and fetched: scoring does not pay for vectors.
    width = {found.name: found.shape[-1] for found in session.get_outputs()}[output]
    answers = np.empty((len(encodings), width), dtype=np.float32)
    for row in pack(encodings):
        feed = {
            "token_ids": row.token_ids,
            "positions": row.positions,
            "line_of_token": row.line_of_token,
            "first_tokens": row.first_tokens,
        }
        answers[row.lines] = session.run([output], feed)[0]
    return answers
