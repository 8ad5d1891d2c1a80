"""Which examples of the corpus a line is most like: evidence that a person can judge, beside a score that one can only believe.

The index is one small file beside the weights. It holds the examples' vectors (what the encoder made of them and the head reads), turned to their
main directions, shortened and rounded to a byte each, and their texts. It only fits the weights that it was made with, and names them.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harkline.contract import Neighbour
from harkline.errors import ModelError

INDEX_NAME = "examples.npz"

# A zip's own headers, and the names of its parts.
_OVERHEAD_BYTES = 4096


class Example(NamedTuple):
    """One line of the corpus as the model reads it, level taken away, and what it was labelled."""

    template: str
    level: str
    system: str


class Neighbours:
    """An index, ready to be asked. The texts are unpacked when the first line asks."""

    def __init__(
        self,
        weights: str,
        mean: NDArray[np.floating],
        axes: NDArray[np.floating],
        vectors: NDArray[np.int8],
        texts: bytes,
    ) -> None:
        self.weights = weights  # sha256 of the weights that the vectors are of
        self._mean = mean.astype(np.float32)  # (hidden,)
        self._axes = axes.astype(np.float32)  # (hidden, dimensions), each direction scaled by its weight
        self._vectors = vectors  # (examples, dimensions)
        self._texts = texts

    @cached_property
    def _examples(self) -> list[Example]:
        return msgspec.json.decode(zlib.decompress(self._texts), type=list[Example])

    @cached_property
    def _lengths(self) -> NDArray[np.float32]:
        return np.maximum(np.linalg.norm(self._vectors.astype(np.float32), axis=1), 1e-6)

    def __len__(self) -> int:
        return len(self._vectors)

    def nearest(self, vectors: NDArray[np.float32], most: int = 3) -> list[list[Neighbour]]:
        """Return for each of the encoder's vectors (n, hidden) its most similar examples, the most similar first; none has a similarity of 0."""
        asked = (vectors - self._mean) @ self._axes
        asked /= np.maximum(np.linalg.norm(asked, axis=1, keepdims=True), 1e-6)
        similarities = asked @ self._vectors.T.astype(np.float32) / self._lengths
        best = np.argsort(-similarities, axis=1, kind="stable")[:, :most]
        return [
            [self._neighbour(at, float(row[at])) for at in order.tolist() if row[at] > 0]
            for row, order in zip(similarities, best, strict=True)
        ]

    def _neighbour(self, at: int, similarity: float) -> Neighbour:
        example = self._examples[at]
        return Neighbour(example.template, example.level, example.system, round(min(1.0, similarity), 3))

    def to_bytes(self) -> bytes:
        """Return the file: arrays in a zip, without pickles, the same bytes for the same index."""
        file = io.BytesIO()
        np.savez_compressed(
            file,
            weights=np.array(self.weights),
            mean=self._mean,
            axes=self._axes.astype(np.float16),
            vectors=self._vectors,
            texts=np.frombuffer(self._texts, dtype=np.uint8),
        )
        return file.getvalue()


def build(
    examples: Sequence[Example], vectors: NDArray[np.floating], weights: str, dimensions: int, most_bytes: int
) -> Neighbours:
    """Make an index of `examples` from their vectors (n, hidden) under the weights of this sha256.

    It has `dimensions` numbers an example, or fewer where its file would be larger than `most_bytes`, or where there are fewer examples.
    """
    texts = zlib.compress(msgspec.json.encode(examples), 9)
    mean = vectors.mean(axis=0)
    _, spread, directions = np.linalg.svd(vectors - mean, full_matrices=False)
    room = most_bytes - len(texts) - mean.nbytes - _OVERHEAD_BYTES
    kept = min(dimensions, int((spread > 1e-6 * spread[0]).sum()), room // (len(examples) + 2 * mean.size))
    if kept < 1:
        raise ModelError(
            f"{len(examples)} examples do not fit into an index of {most_bytes} bytes; take fewer, or allow more"
        )
    # The widest directions are those of severity. By their full weight the neighbours of a disk failure are failures of any kind; with none left
    # they are disks, failing or not. The square root keeps some of both.
    axes = (directions[:kept] * np.sqrt(spread[0] / spread[:kept, None])).T.astype(np.float16).astype(np.float32)
    placed = (vectors - mean) @ axes
    placed /= np.maximum(np.linalg.norm(placed, axis=1, keepdims=True), 1e-12)
    rounded = np.rint(placed * (127 / np.abs(placed).max())).astype(np.int8)
    return Neighbours(weights, mean, axes, rounded, texts)


def read_neighbours(path: Path) -> Neighbours:
    """Read an index. Raises ModelError for a file that is none."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            weights, texts = str(file["weights"]), file["texts"].tobytes()
            mean, axes, vectors = file["mean"], file["axes"], file["vectors"]
    except Exception as error:  # numpy and zipfile raise errors of many kinds
        raise ModelError(f"cannot read {path} ({error}); restore the file from the release") from error
    if vectors.dtype != np.int8 or vectors.ndim != 2 or axes.shape != (*mean.shape, vectors.shape[1]):
        raise ModelError(f"{path}: vectors and axes do not fit together; export the model again")
    return Neighbours(weights, mean, axes, vectors, texts)
