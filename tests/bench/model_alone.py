"""What the model costs with nothing around it: normalising, tokenising, packing, scoring, each alone. Prints JSON; a program, run on its own core.

The only part of the bench that imports the product, since a model without its service cannot be seen from outside. On a GPU (`--backend torch`) lines
are charged in wall time, since the GPU's work is nobody's CPU time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, TypeVar

from harkline_workers.backends import BACKENDS
from harkline_workers.model import load_model, read_tokenizer
from harkline_workers.normalise import normalise
from harkline_workers.packing import ROW_TOKENS, pack
from tests.bench.places import MODEL_DIR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")


def main() -> None:
    """Read lines from standard input and measure each step on all of them, as often as asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="onnx", choices=list(BACKENDS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--call-lines", type=int, default=64, help="Lines of one model call; the worker's own number.")
    parser.add_argument("--wall", action="store_true", help="Charge wall time instead of CPU time.")
    options = parser.parse_args()
    clock = time.perf_counter if options.wall else time.process_time
    lines = [line for line in sys.stdin.read().split("\n") if line]
    inputs = [normalise(line).model_input for line in lines]
    tokenizer = read_tokenizer(MODEL_DIR)
    encodings = [encoding.ids for encoding in tokenizer.encode_batch_fast(inputs)]
    rows = [row for call in _calls(encodings, options.call_lines) for row in pack(call)]
    backend = BACKENDS[options.backend].make(MODEL_DIR, 1)
    backend.load()
    model = load_model(MODEL_DIR, options.backend)
    model.predict(inputs[: options.call_lines])

    steps: dict[str, Callable[[], object]] = {
        "normalise": lambda: [normalise(line) for line in lines],
        "tokenise": lambda: [tokenizer.encode_batch_fast(call) for call in _calls(inputs, options.call_lines)],
        "pack": lambda: [pack(call) for call in _calls(encodings, options.call_lines)],
        "score": lambda: [backend.score(call) for call in _calls(encodings, options.call_lines)],
        "predict": lambda: [model.predict(call) for call in _calls(inputs, options.call_lines)],
    }
    seconds = {name: [_seconds(step, clock) for _ in range(options.repeats)] for name, step in steps.items()}
    tokens = sum(row.token_ids.size for row in rows)
    result = {
        "lines": len(lines),
        "tokens_per_line": tokens / len(lines),
        "row_filling": tokens / (ROW_TOKENS * len(rows)),
        "lines_per_second": {name: [len(lines) / spent for spent in spents] for name, spents in seconds.items()},
    }
    json.dump(result, sys.stdout)


def _calls(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _seconds(step: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    step()
    return clock() - began


if __name__ == "__main__":
    main()
