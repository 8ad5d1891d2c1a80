"""An exported model is one model in two graphs and an index: same scores, same vectors, every file named with its digest."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from harkline_workers.manifest import check_files, read_manifest
from harkline_workers.model import load_model, read_tokenizer
from harkline_workers.neighbours import INDEX_NAME
from harkline_workers.normalise import normalise

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        find_spec("torch") is None or find_spec("onnx") is None,
        reason="torch and onnx are not installed; the `train` extra brings them, and CI installs it",
    ),
]

SHIPPED = Path(__file__).parents[2] / "workers" / "model"
SYSTEMS = ("postgresql", "sshd", "kafka-broker", "nginx")
LINES = [
    "none | could not write block #: no space left on device",
    "none | Failed password for invalid user admin from # port # ssh2",
    "info | started",
    "none | " + "worker # retries the call to payments, " * 30,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights, exported anew with an index of four systems of the corpus."""
    from rich.progress import Progress

    from harkline_training.calibrate import Calibration
    from harkline_training.dataset import load_corpus
    from harkline_training.examples import corpus_examples, write_examples
    from harkline_training.export import export_graphs, write_manifest

    folder = tmp_path_factory.mktemp("exported")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        shutil.copyfile(SHIPPED / name, folder / name)
    (folder / INDEX_NAME).write_bytes(b"an index of other weights")
    assert export_graphs(folder) < 1e-3
    assert not (folder / INDEX_NAME).exists()
    systems = [system for system in load_corpus() if system.name in SYSTEMS]
    with Progress(disable=True) as progress:
        size = write_examples(folder, corpus_examples(systems), progress)
    assert size == (folder / INDEX_NAME).stat().st_size
    write_manifest(folder, Calibration(1.0, 0.5), {})
    return folder


def test_every_file_is_listed_with_its_digest(folder: Path) -> None:
    """Weights, graphs, tokenizer, configuration and index."""
    manifest = read_manifest(folder)
    assert set(manifest.files) == {path.name for path in folder.iterdir()} - {"model.json"}
    assert INDEX_NAME in manifest.files
    check_files(folder, manifest, manifest.files)


def test_all_runtimes_give_the_same_vector(folder: Path) -> None:
    """The int8 graph's vectors point where torch's do, so that an index made with one serves the other."""
    from harkline_workers.backends import BACKENDS

    encodings = [encoding.ids for encoding in read_tokenizer(folder).encode_batch_fast(LINES)]
    found = []
    for name in ("onnx", "torch"):
        backend = BACKENDS[name].make(folder, 1)
        backend.load()
        found.append(backend.embed(encodings))
        backend.close()
    assert found[0].shape == found[1].shape == (len(LINES), 384)
    lengths = [np.linalg.norm(vectors, axis=1) for vectors in found]
    assert ((found[0] * found[1]).sum(axis=1) / lengths[0] / lengths[1]).min() > 0.95


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_neighbours_are_sensible(folder: Path, backend: str) -> None:
    """A line finds those of its own kind: the system it would be written by, and the same trouble."""
    model = load_model(folder, backend)
    inputs = [
        "FATAL:  could not write to file pg_wal/xlogtemp.77: No space left on device",
        "Failed password for root from 10.2.3.4 port 51522 ssh2",
    ]
    disk, door = model.nearest([f"none | {normalise(line).template}" for line in inputs], 3)
    assert any("no space left" in found.template.lower() for found in disk)
    assert door[0].system == "sshd"
    assert len(disk) == len(door) == 3
    model.close()


def test_scores_do_not_depend_on_the_second_output(folder: Path) -> None:
    """The graph that also gives vectors scores as the shipped one does."""
    from harkline_workers.backends import BACKENDS

    encodings = [encoding.ids for encoding in read_tokenizer(folder).encode_batch_fast(LINES)]
    found = []
    for place in (folder, SHIPPED):
        backend = BACKENDS["onnx"].make(place, 1)
        backend.load()
        found.append(backend.score_exactly(encodings))
        backend.close()
    np.testing.assert_allclose(*found, atol=1e-3)
