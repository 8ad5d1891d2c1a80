"""How fast the runtime multiplies 8-bit matrices of the model's own shapes, and how fast it can at all. Prints JSON; a program, run on its own core.

If nothing but these products ran, a row of 128 tokens would take as long as all of them together: what is left of a model's time is everything else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from tests.bench.places import MODEL_DIR

_LARGE = 2048


def main() -> None:
    """Measure for about so many seconds each, as often as asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    shapes = model_shapes(MODEL_DIR / "model.int8.onnx")
    own = _session(shapes, options.tokens)
    large = _session([(_LARGE, _LARGE)], _LARGE)
    operations = 2 * options.tokens * sum(rows * columns for rows, columns in shapes)
    result = {
        "operations_per_token": operations // options.tokens,
        "model_shapes": [_per_second(own, operations, options.seconds) for _ in range(options.repeats)],
        "large": [_per_second(large, 2 * _LARGE**3, options.seconds) for _ in range(options.repeats)],
    }
    json.dump(result, sys.stdout)


def model_shapes(graph: Path) -> list[tuple[int, int]]:
    """Return (rows, columns) of every 8-bit weight matrix in a graph, its head apart."""
    model = onnx.load(str(graph), load_external_data=False)
    found = [tuple(weight.dims) for weight in model.graph.initializer if weight.data_type == TensorProto.INT8]
    return [(shape[0], shape[1]) for shape in found if len(shape) == 2 and min(shape) > 16]


def _session(shapes: list[tuple[int, int]], tokens: int) -> tuple[onnxruntime.InferenceSession, dict[str, np.ndarray]]:
    """Return a session that multiplies activations (tokens, rows) with one weight (rows, columns) a shape, and what to feed it."""
    rng = np.random.default_rng(0)
    widths = sorted({rows for rows, _ in shapes})
    feed = {f"in{width}": rng.integers(0, 255, (tokens, width), dtype=np.uint8) for width in widths}
    weights = [
        helper.make_tensor(
            f"w{at}", TensorProto.INT8, shape, rng.integers(-127, 127, shape, dtype=np.int8).tobytes(), raw=True
        )
        for at, shape in enumerate(shapes)
    ]
    zero = helper.make_tensor("zero", TensorProto.UINT8, [], bytes([128]), raw=True)
    nodes = [
        helper.make_node("MatMulInteger", [f"in{rows}", f"w{at}", "zero"], [f"out{at}"])
        for at, (rows, _) in enumerate(shapes)
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.UINT8, value.shape) for name, value in feed.items()]
    outputs = [
        helper.make_tensor_value_info(f"out{at}", TensorProto.INT32, (tokens, columns))
        for at, (_, columns) in enumerate(shapes)
    ]
    graph = helper.make_graph(nodes, "products", inputs, outputs, [*weights, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]), feed


def _per_second(
    session: tuple[onnxruntime.InferenceSession, dict[str, np.ndarray]], operations: int, seconds: float
) -> float:
    run, feed = session
    run.run(None, feed)
    rounds, began = 0, time.process_time()
    while (spent := time.process_time() - began) < seconds:
        run.run(None, feed)
        rounds += 1
    return rounds * operations / spent


if __name__ == "__main__":
    main()
