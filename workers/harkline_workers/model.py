"""From a model input to the five levels' probabilities: tokenise, score, calibrate, and look again where it is close.

This is all that `classify` knows of a model. Whichever backend runs it, the same folder gives the same version and the same meaning of a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from harkline.errors import ModelError
from harkline_workers.backends import BACKENDS, Backend
from harkline_workers.manifest import Manifest, check_files, read_manifest
from harkline_workers.normalise import LEVELS

TOKENIZER_NAME = "tokenizer.json"

_CRITICAL_FROM = LEVELS.index("error")

# `normalise` keeps far less of a line; this only bounds what a caller can make the tokeniser chew on. In characters.
_HEAD_CHARS = 4096
_TAIL_CHARS = 2048


class Model:
    """A loaded model. One process, one thread."""

    def __init__(self, manifest: Manifest, tokenizer: Tokenizer, backend: Backend) -> None:
        self.version = manifest.version
        self.threshold = manifest.threshold
        self.levels = manifest.levels
        self._temperature = np.float32(manifest.temperature)
        self._threshold_log_odds = float(np.log(manifest.threshold / (1.0 - manifest.threshold)))
        self._second_look = manifest.second_look_log_odds
        self._tokenizer = tokenizer
        self._backend = backend

    def predict(self, inputs: Sequence[str]) -> NDArray[np.float32]:
        """Return calibrated probabilities (n, 5) over `levels`, in order, for any text at all; an empty sequence gives (0, 5)."""
        if not inputs:
            return np.empty((0, len(self.levels)), dtype=np.float32)
        encodings = self._encode(inputs)
        logits = self._backend.score(encodings) / self._temperature
        close = np.flatnonzero(np.abs(_log_odds(logits) - self._threshold_log_odds) < self._second_look)
        if close.size:
            logits[close] = (
                self._backend.score_exactly([encodings[line] for line in close.tolist()]) / self._temperature
            )
        return _softmax(logits)

    def close(self) -> None:
        """Let go of the weights."""
        self._backend.close()

    def _encode(self, inputs: Sequence[str]) -> list[list[int]]:
        texts = [
            text if len(text) <= _HEAD_CHARS + _TAIL_CHARS else f"{text[:_HEAD_CHARS]} {text[-_TAIL_CHARS:]}"
            for text in inputs
        ]
        try:
            encoded = self._tokenizer.encode_batch_fast(texts)
        except (TypeError, UnicodeEncodeError):
            # A lone surrogate, which JSON can carry and UTF-8 cannot, is refused by the tokeniser for the whole batch.
            encoded = self._tokenizer.encode_batch_fast(
                [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
            )
        return [encoding.ids for encoding in encoded]


def load_model(model_dir: Path, backend: str = "onnx", threads: int = 1) -> Model:
    """Load the model of a folder in this process. Takes a second or so on a CPU.

    Raises ModelError for an unknown backend, one whose runtime is not installed, a file that is missing or not the one `model.json` names, and a
    model made for another normaliser.
    """
    entry = BACKENDS.get(backend)
    if entry is None:
        raise ModelError(f"unknown backend {backend!r}; known are {', '.join(BACKENDS)}")
    manifest = read_manifest(model_dir)
    check_files(model_dir, manifest, (TOKENIZER_NAME, *entry.files))
    try:
        runtime = entry.make(model_dir, threads)
    except ImportError as error:
        raise ModelError(
            f"the backend {backend!r} needs {error.name}, which is not installed; install the matching extra or choose another backend"
        ) from error
    runtime.load()
    return Model(manifest, read_tokenizer(model_dir), runtime)


def read_tokenizer(model_dir: Path) -> Tokenizer:
    """Return the folder's raw tokenizer. Padding and truncation are packing's work, whatever the file asks for. Raises ModelError."""
    try:
        tokenizer = Tokenizer.from_file(str(model_dir / TOKENIZER_NAME))
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelError(
            f"cannot read {model_dir / TOKENIZER_NAME} ({error}); restore the file from the release"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _log_odds(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the log-odds of P(error) + P(critical), (n,)."""
    odds: NDArray[np.float32] = np.logaddexp.reduce(logits[:, _CRITICAL_FROM:], axis=1) - np.logaddexp.reduce(
        logits[:, :_CRITICAL_FROM], axis=1
    )
    return odds


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
