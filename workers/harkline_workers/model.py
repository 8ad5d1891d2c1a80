"""From a model input to the five levels' probabilities: tokenise, score, calibrate, and look again where it is close.

This is all that `classify` knows of a model. Whichever backend runs it, the same folder gives the same version and the same meaning of a score. A
Hugging Face checkpoint comes in by the same door: its labels' probabilities are added up by level.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from harkline.contract import Neighbour
from harkline.errors import ModelError
from harkline.logs import get_logger
from harkline_workers.backends import BACKENDS, CHECKPOINT_BACKEND, Backend
from harkline_workers.checkpoint import CONFIG_NAME, Checkpoint, is_checkpoint, read_checkpoint
from harkline_workers.manifest import Manifest, check_files, read_manifest
from harkline_workers.neighbours import INDEX_NAME, Neighbours, read_neighbours
from harkline_workers.normalise import LEVELS

log = get_logger(__name__)

TOKENIZER_NAME = "tokenizer.json"
WEIGHTS_NAME = "model.safetensors"

_CRITICAL_FROM = LEVELS.index("error")

# `normalise` keeps far less of a line; this only bounds what a caller can make the tokeniser chew on. In characters.
_HEAD_CHARS = 4096
_TAIL_CHARS = 2048

# A checkpoint's first lines: of different lengths, so that its backend learns here whether padding moves a score.
_FIRST_LINES = ("info | started", "error | " + "the disk of node # failed, the volume was remounted read-only; " * 6)
# A call should take about this long at most, so that between two calls a long batch can be kept from being taken over.
_CALL_SECONDS = 0.5
_MOST_CALL_LINES = 64
_FEWEST_CALL_LINES = 4


class Model:
    """A loaded model. One process, one thread."""

    def __init__(
        self,
        manifest: Manifest | Checkpoint,
        tokenizer: Tokenizer,
        backend: Backend,
        backend_name: str = "",
        neighbours: Neighbours | None = None,
    ) -> None:
        self.version = manifest.version
        self.threshold = manifest.threshold
        self.levels = manifest.levels
        self.backend = backend_name
        self.call_lines = _MOST_CALL_LINES
        self._columns = np.array(manifest.columns) if isinstance(manifest, Checkpoint) else None
        self._temperature = np.float32(manifest.temperature)
        self._threshold_log_odds = float(np.log(manifest.threshold / (1.0 - manifest.threshold)))
        self._second_look = manifest.second_look_log_odds
        self._tokenizer = tokenizer
        self._backend = backend
        self._neighbours = neighbours

    def predict(self, inputs: Sequence[str], *, exactly: bool = False) -> NDArray[np.float32]:
        """Return calibrated probabilities (n, 5) over `levels`, in order, for any text at all; an empty sequence gives (0, 5).

        `exactly`: all in fp32, as explanations want it. int8 moves a score by the company that its line keeps, a quarter of a nat on average.
        """
        if not inputs:
            return np.empty((0, len(self.levels)), dtype=np.float32)
        encodings = self._encode(inputs)
        logits = (self._backend.score_exactly if exactly else self._backend.score)(encodings) / self._temperature
        if self._columns is not None:
            logits = _by_level(logits, self._columns)
        close = np.flatnonzero(np.abs(_log_odds(logits) - self._threshold_log_odds) < self._second_look)
        if close.size and not exactly:
            logits[close] = (
                self._backend.score_exactly([encodings[line] for line in close.tolist()]) / self._temperature
            )
        return _softmax(logits)

    def check_classes(self, inputs: Sequence[str]) -> None:
        """Score `inputs` once, to see that a checkpoint has as many classes as labels. Raises ModelError, or whatever the backend raises."""
        classes = self._backend.score(self._encode(inputs)).shape[1]
        if self._columns is not None and classes != len(self._columns):
            raise ModelError(
                f"the checkpoint scores {classes} classes and its {CONFIG_NAME} names {len(self._columns)} labels; write all of them into `id2label`"
            )

    def nearest(self, inputs: Sequence[str], most: int) -> list[list[Neighbour]]:
        """Return for each input the examples of the corpus most like it, at most `most`, the most similar first; none where there is no index."""
        if self._neighbours is None or not inputs:
            return [[] for _ in inputs]
        return self._neighbours.nearest(self._backend.embed(self._encode(inputs)), most)

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


def load_model(
    model_dir: Path,
    backend: str = "onnx",
    threads: int = 1,
    words: Mapping[str, str] | None = None,
    threshold: float | None = None,
) -> Model:
    """Load the model of a folder in this process. Takes a second or so on a CPU.

    A folder with a `model.json` is ours and runs in `backend`; one without is a Hugging Face checkpoint, whose labels mean what `words` says, critical
    from `threshold` on (0.5 where it is None). Raises ModelError for an unknown backend, one whose runtime is not installed, a file that is missing or
    not the one `model.json` names, a model made for another normaliser, and its subclass CheckpointRefused for a checkpoint that cannot be read as told.
    """
    if is_checkpoint(model_dir):
        return _load_checkpoint(model_dir, threads, read_checkpoint(model_dir, words or {}, threshold))
    entry = BACKENDS.get(backend)
    if entry is None:
        raise ModelError(f"unknown backend {backend!r}; known are {', '.join(BACKENDS)}")
    manifest = read_manifest(model_dir)
    if not entry.files:
        raise ModelError(f"{model_dir} is a model of harkline's own, which the backend {backend!r} does not run")
    check_files(model_dir, manifest, (TOKENIZER_NAME, *entry.files))
    runtime = _started(backend, model_dir, threads)
    return Model(manifest, read_tokenizer(model_dir), runtime, backend, _neighbours(model_dir, manifest))


def _neighbours(model_dir: Path, manifest: Manifest) -> Neighbours | None:
    """Return the folder's index of examples, or None where it lists none, or one of other weights: vectors of two models cannot be compared."""
    if INDEX_NAME not in manifest.files:
        return None
    check_files(model_dir, manifest, (INDEX_NAME,))
    index = read_neighbours(model_dir / INDEX_NAME)
    weights = manifest.files.get(WEIGHTS_NAME)
    if weights is None or index.weights != weights.sha256:
        log.warning("examples_of_other_weights", folder=str(model_dir), consequence="explanations name no neighbours")
        return None
    return index


def _started(name: str, model_dir: Path, threads: int) -> Backend:
    """Return a backend with its weights loaded."""
    try:
        runtime = BACKENDS[name].make(model_dir, threads)
    except ImportError as error:
        raise ModelError(
            f"the backend {name!r} needs {error.name}, which is not installed; install the matching extra or choose another backend"
        ) from error
    runtime.load()
    return runtime


def _load_checkpoint(model_dir: Path, threads: int, checkpoint: Checkpoint) -> Model:
    runtime = _started(CHECKPOINT_BACKEND, model_dir, threads)
    if (model_dir / TOKENIZER_NAME).is_file():
        tokenizer = read_tokenizer(model_dir)
    else:
        from harkline_workers.backends.transformers import convert_tokenizer  # noqa: PLC0415 - loads transformers

        tokenizer = convert_tokenizer(model_dir)
        tokenizer.no_padding()
        tokenizer.no_truncation()
    model = Model(checkpoint, tokenizer, runtime, CHECKPOINT_BACKEND)
    try:
        model.check_classes(_FIRST_LINES)
        chances = model.predict(_FIRST_LINES)
        seconds = min(_seconds(model) for _ in range(3))
    except ModelError:
        raise
    except Exception as error:  # a vocabulary larger than the embedding, a class that wants other inputs
        raise ModelError(f"{model_dir} cannot score a line ({type(error).__name__}: {error})") from error
    if not np.isfinite(chances).all():
        raise ModelError(f"{model_dir} scores a plain line as not a number; its weights are damaged")
    # Where a call took longer than an entry may lie untouched, other workers would take it over again and again.
    model.call_lines = max(_FEWEST_CALL_LINES, min(_MOST_CALL_LINES, int(_CALL_SECONDS / seconds)))
    return model


def _seconds(model: Model) -> float:
    """Return how long a longish line takes, of two at a time."""
    began = time.perf_counter()
    model.predict([_FIRST_LINES[1]] * 2)
    return (time.perf_counter() - began) / 2


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


def _by_level(logits: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return logits (n, 5) over LEVELS, under which a level has the sum of the probabilities of the labels (n, labels) that mean it."""
    levels = np.full((len(logits), len(LEVELS)), -np.inf, dtype=np.float32)
    for level in np.unique(columns).tolist():
        levels[:, level] = np.logaddexp.reduce(logits[:, columns == level], axis=1)
    return levels


def _log_odds(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the log-odds of P(error) + P(critical), (n,)."""
    odds: NDArray[np.float32] = np.logaddexp.reduce(logits[:, _CRITICAL_FROM:], axis=1) - np.logaddexp.reduce(
        logits[:, :_CRITICAL_FROM], axis=1
    )
    return odds


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
