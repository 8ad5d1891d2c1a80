"""Make the index of examples that ships beside the weights, by which an explanation can say what a line is like.

The vectors are of the graph that serves, so that a line and an example are compared as the same eyes saw them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from rich.progress import Progress

from harkline_training.checkpoint import load_tokenizer
from harkline_training.dataset import System, render
from harkline_workers.backends.onnx import OnnxBackend
from harkline_workers.explain import level_less
from harkline_workers.model import WEIGHTS_NAME
from harkline_workers.neighbours import INDEX_NAME, Example, build
from harkline_workers.normalise import normalise

DIMENSIONS = 64
MOST_BYTES = 1_400_000

_LINES_AT_ONCE = 256


def corpus_examples(systems: Sequence[System]) -> list[Example]:
    """Return every template of a corpus once, rendered and normalised, without its level; of those that come out alike the first."""
    rng = Random("examples")
    found: dict[str, Example] = {}
    for system in systems:
        for template in system.templates:
            text = normalise(render(template, system, rng, show_level=False, bare=True)).template
            found.setdefault(text, Example(text, template.level, template.system))
    return list(found.values())


def write_examples(directory: Path, examples: Sequence[Example], progress: Progress) -> int:
    """Write the index of `examples` beside a model's exported graphs, before its manifest is written; returns the file's size in bytes.

    Takes what scoring the examples takes, half a minute of one core for 9,000.
    """
    backend = OnnxBackend(directory)
    backend.load()
    inputs = [level_less(example.template) for example in examples]
    encodings = [encoding.ids for encoding in load_tokenizer(directory).encode_batch_fast(inputs)]
    vectors = [
        backend.embed(encodings[start : start + _LINES_AT_ONCE])
        for start in progress.track(range(0, len(encodings), _LINES_AT_ONCE), description="index of examples")
    ]
    backend.close()
    weights = hashlib.sha256((directory / WEIGHTS_NAME).read_bytes()).hexdigest()
    content = build(examples, np.concatenate(vectors), weights, DIMENSIONS, MOST_BYTES).to_bytes()
    (directory / INDEX_NAME).write_bytes(content)
    return len(content)
