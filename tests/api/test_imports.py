"""The API is thin: it loads no model runtime, and importing it does nothing."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import os, sys, threading
before = set(os.listdir("."))
import harkline_api.wsgi
heavy = {"torch", "transformers", "onnxruntime", "numpy", "tokenizers"} & set(sys.modules)
assert not heavy, heavy
assert threading.active_count() == 1
assert set(os.listdir(".")) == before
app = harkline_api.wsgi.application()
assert app.test_client().get("/health").status_code == 200
heavy = {"torch", "transformers", "onnxruntime", "numpy", "tokenizers"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_api_loads_no_model_runtime(tmp_path: object) -> None:
    """A fresh process that imports and builds the API has none of torch, transformers, onnxruntime, numpy, tokenizers; import starts nothing."""
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=str(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
