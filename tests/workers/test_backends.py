"""Every backend gives the same model: int8 near fp32, fp32 equal to torch, and nothing is loaded before it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from harkline.errors import ModelError
from harkline_workers.backends import BACKENDS
from harkline_workers.model import read_tokenizer

MODEL_DIR = Path(__file__).parents[2] / "workers" / "model"
LINES = (
    "none | sda: unrecovered read error, sector # cannot be reallocated",
    "info | GET /healthz 2xx in 5 ms",
    "none | backup of orders finished, 0 errors",
    "none | Out of memory: killed process # (postgres)",
    "none | " + "worker # retries the call to payments after a timeout, " * 30 + "giving up for good",
)

needs_torch = pytest.mark.skipif(
    find_spec("torch") is None, reason="torch is not installed; the `gpu` extra brings it, and CI installs it"
)


@pytest.fixture(scope="module")
def encodings() -> list[list[int]]:
    return [
        encoding.ids
        for encoding in read_tokenizer(MODEL_DIR).encode_batch_fast(
            [*LINES, *(f"none | item # of shard {n}" for n in range(60))]
        )
    ]


def test_int8_stays_near_fp32(encodings: list[list[int]]) -> None:
    """Quantisation moves no log-probability of these lines by more than one and a half."""
    backend = BACKENDS["onnx"].make(MODEL_DIR, 1)
    backend.load()
    fast, exact = _log_probabilities(backend.score(encodings)), _log_probabilities(backend.score_exactly(encodings))
    assert fast.shape == exact.shape == (len(encodings), 5)
    assert fast.dtype == exact.dtype == np.float32
    assert np.abs(fast - exact)[exact > -4].max() < 1.5
    backend.close()


def test_a_line_scores_the_same_in_any_company(encodings: list[list[int]]) -> None:
    """In fp32 the lines that share a row with a line do not touch its score, nor does the order of the request."""
    backend = BACKENDS["onnx"].make(MODEL_DIR, 1)
    backend.load()
    together = backend.score_exactly(encodings)
    alone = np.concatenate([backend.score_exactly([encoding]) for encoding in encodings])
    np.testing.assert_allclose(together, alone, atol=2e-3)
    np.testing.assert_allclose(together[::-1], backend.score_exactly(encodings[::-1]), atol=2e-3)


@pytest.mark.torch
@needs_torch
def test_onnx_fp32_equals_the_torch_reference(encodings: list[list[int]]) -> None:
    """The exported fp32 graph and torch on the same weights agree to a thousandth of a logit."""
    results = []
    for name in ("onnx", "torch"):
        backend = BACKENDS[name].make(MODEL_DIR, 1)
        backend.load()
        results.append(backend.score_exactly(encodings))
        backend.close()
    np.testing.assert_allclose(*results, atol=1e-3)


@pytest.mark.torch
@needs_torch
def test_the_torch_backend_refuses_weights_of_other_sizes(tmp_path: Path) -> None:
    """A config that does not fit the weights is a ModelError that names the file, not a crash somewhere in torch."""
    config = json.loads((MODEL_DIR / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 96}), "utf-8")
    (tmp_path / "model.safetensors").symlink_to(MODEL_DIR / "model.safetensors")
    backend = BACKENDS["torch"].make(tmp_path, 1)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        backend.load()


@pytest.mark.parametrize("name", ["onnx", pytest.param("torch", marks=[pytest.mark.torch, needs_torch])])
def test_scoring_without_loading_says_so(name: str) -> None:
    """A backend that was not loaded, or was closed, names the call that is missing."""
    backend = BACKENDS[name].make(MODEL_DIR, 1)
    with pytest.raises(ModelError, match=r"call load\(\) first"):
        backend.score([[101, 102]])
    backend.close()
    backend.close()
    with pytest.raises(ModelError, match=r"call load\(\) first"):
        backend.score_exactly([[101, 102]])


def test_no_runtime_is_loaded_by_naming_it() -> None:
    """Importing the table of backends and the model loads neither torch nor onnxruntime: a prefork parent stays clean."""
    code = "import sys, harkline_workers.model; print([name for name in ('torch', 'onnxruntime', 'transformers') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
