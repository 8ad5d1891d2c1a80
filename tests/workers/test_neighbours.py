"""The index of examples: small, exact about what it is an index of, and never a reason for a wrong or a missing verdict."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from harkline.errors import ModelError
from harkline_workers.manifest import read_manifest
from harkline_workers.model import load_model
from harkline_workers.neighbours import INDEX_NAME, Example, Neighbours, build, read_neighbours
from tests.workers.models import make_model, write_manifest

HIDDEN = 96
MOST_BYTES = 1_400_000


def examples(number: int) -> list[Example]:
    chance = random.Random(1)
    words = ["disk", "lost", "quorum", "lease", "retry", "volume", "cache", "token", "denied", "peer"]
    return [Example(" ".join(chance.choices(words, k=7)), "error", f"system-{at % 9}") for at in range(number)]


def vectors(number: int) -> np.ndarray:
    """Vectors whose directions differ in weight, as an encoder's do."""
    return (np.random.default_rng(1).normal(size=(number, HIDDEN)) / np.arange(1, HIDDEN + 1)).astype(np.float32)


@pytest.fixture(scope="module")
def index() -> Neighbours:
    return build(examples(300), vectors(300), "a digest", 64, MOST_BYTES)


def test_every_example_is_its_own_nearest(index: Neighbours) -> None:
    """Shortened and rounded to bytes, a vector still finds itself, with a similarity of nearly 1, and two others after it."""
    known = examples(300)
    for at, found in enumerate(index.nearest(vectors(300))):
        assert (found[0].template, found[0].level, found[0].system) == known[at]
        assert found[0].similarity > 0.97
        assert [neighbour.similarity for neighbour in found] == sorted(
            (neighbour.similarity for neighbour in found), reverse=True
        )
    assert len(index.nearest(vectors(1), 3)[0]) == 3


def test_what_is_like_nothing_has_no_neighbours(index: Neighbours) -> None:
    """Only similarities above 0 count, and the middle of all examples is like none of them."""
    assert index.nearest(vectors(300).mean(axis=0, keepdims=True)) == [[]]
    assert all(0 < found.similarity <= 1 for row in index.nearest(-vectors(300)) for found in row)


def test_an_index_comes_back_from_its_file(index: Neighbours, tmp_path: Path) -> None:
    """The same answers, and the same bytes for the same index, so that its digest is reproducible."""
    (tmp_path / INDEX_NAME).write_bytes(index.to_bytes())
    again = read_neighbours(tmp_path / INDEX_NAME)
    assert again.weights == "a digest"
    assert again.nearest(vectors(20)) == index.nearest(vectors(20))
    assert build(examples(300), vectors(300), "a digest", 64, MOST_BYTES).to_bytes() == index.to_bytes()


def test_an_index_stays_within_its_bound() -> None:
    """More examples have fewer numbers each; too many are refused by name."""
    most = 60_000
    small = build(examples(1000), vectors(1000), "", 64, most)
    assert len(small.to_bytes()) <= most
    assert len(small.nearest(vectors(1000))[0]) == 3
    with pytest.raises(ModelError, match="1000 examples do not fit into an index of 9000 bytes"):
        build(examples(1000), vectors(1000), "", 64, 9000)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_index_is_refused(tmp_path: Path, content: bytes) -> None:
    """A ModelError that names the file, whatever it holds."""
    path = tmp_path / INDEX_NAME
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot read .*examples\.npz"):
        read_neighbours(path)


def test_an_index_with_a_pickle_in_it_is_refused(tmp_path: Path) -> None:
    """Nothing is ever unpickled."""
    path = tmp_path / INDEX_NAME
    np.savez(path, weights=np.array([object()], dtype=object))
    with pytest.raises(ModelError, match=r"cannot read .*examples\.npz"):
        read_neighbours(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder like the shipped one, with no index in it."""
    folder = tmp_path / "model"
    make_model(folder)
    listed = json.loads((folder / "model.json").read_text("utf-8"))["files"]
    listed.pop(INDEX_NAME, None)
    (folder / INDEX_NAME).unlink(missing_ok=True)
    write_manifest(folder, files=listed)
    return folder


def add_index(folder: Path, weights: str) -> None:
    """Put an index into a model folder and its manifest."""
    from hashlib import sha256

    wide = np.random.default_rng(1).normal(size=(50, 384)).astype(np.float32)
    content = build(examples(50), wide, weights, 16, MOST_BYTES).to_bytes()
    (folder / INDEX_NAME).write_bytes(content)
    listed = json.loads((folder / "model.json").read_text("utf-8"))["files"]
    entry = {"sha256": sha256(content).hexdigest(), "bytes": len(content)}
    write_manifest(folder, files=listed | {INDEX_NAME: entry})


def test_a_model_without_an_index_has_no_neighbours(folder: Path) -> None:
    """A folder exported before there were indexes serves as before."""
    model = load_model(folder)
    assert model.nearest(["none | disk failed", "none | started"], 3) == [[], []]
    assert model.predict(["none | disk failed"]).shape == (1, 5)
    model.close()


def test_an_index_of_other_weights_is_not_used(folder: Path) -> None:
    """Vectors of two models cannot be compared: such an index is left alone, and the model serves."""
    add_index(folder, "0" * 64)
    model = load_model(folder)
    assert model.nearest(["none | disk failed"], 3) == [[]]
    model.close()


def test_a_damaged_index_is_refused_like_any_other_file(folder: Path) -> None:
    """What the manifest lists must be what lies there."""
    add_index(folder, read_manifest(folder).files["model.safetensors"].sha256)
    content = bytearray((folder / INDEX_NAME).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / INDEX_NAME).unlink()
    (folder / INDEX_NAME).write_bytes(content)
    with pytest.raises(ModelError, match=r"examples\.npz has sha256"):
        load_model(folder)
    os.truncate(folder / INDEX_NAME, 10)
    with pytest.raises(ModelError, match=r"examples\.npz has sha256"):
        load_model(folder)
