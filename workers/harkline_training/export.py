"""Turn a checkpoint into the files that ship: fp16 weights once, a fp32 graph that points into them, an int8 graph, and `model.json` over all.

The legacy ONNX exporter is used on purpose: `quantize_dynamic` does not understand the graphs of the newer one.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from harkline_training.calibrate import Calibration
from harkline_training.checkpoint import load_encoder, load_tokenizer
from harkline_workers.backends.encoder import PackedEncoder, batch_rows
from harkline_workers.backends.onnx import LOGITS, VECTORS
from harkline_workers.manifest import FORMAT, MANIFEST_NAME
from harkline_workers.neighbours import INDEX_NAME
from harkline_workers.normalise import LEVELS, NORMALISER_VERSION
from harkline_workers.packing import LINE_TOKENS, PackedRow, pack

WEIGHTS, FP32_GRAPH, INT8_GRAPH = "model.safetensors", "model.fp32.onnx", "model.int8.onnx"
_OPSET = 17
_INPUTS = ("token_ids", "positions", "line_of_token", "first_tokens")
_OUTPUTS = (LOGITS, VECTORS)
_SAMPLE = (
    "none | connection to # refused, giving up after all/# attempts",
    "info | started",
    "error | disk sdb failed",
)


class _OneRow(torch.nn.Module):
    """The encoder as ONNX sees it: one row, without the leading dimension of a batch."""

    def __init__(self, encoder: PackedEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, token_ids: torch.Tensor, positions: torch.Tensor, line_of_token: torch.Tensor, first_tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (n, levels) and the vectors (n, hidden) that they were made of, which only explanations ask for."""
        vectors = self.encoder.pool(
            token_ids.unsqueeze(0), positions.unsqueeze(0), line_of_token.unsqueeze(0), first_tokens
        )
        return self.encoder.classifier(vectors), vectors


def export_graphs(directory: Path) -> float:
    """Write both graphs beside a checkpoint's weights. Return the largest difference of a logit between torch and the fp32 graph on a sample."""
    # An index that lies there is of other weights; `write_examples` makes it anew.
    (directory / INDEX_NAME).unlink(missing_ok=True)
    encoder = load_encoder(directory, dropout=0.0).eval()
    tokenizer = load_tokenizer(directory)
    row = pack([encoding.ids for encoding in tokenizer.encode_batch_fast(list(_SAMPLE))])[0]
    with tempfile.TemporaryDirectory() as scratch:
        traced, folded, quantised = (Path(scratch) / f"{step}.onnx" for step in ("traced", "folded", "quantised"))
        _trace(encoder, row, traced)
        _share_weights(traced, directory / FP32_GRAPH)
        _fold_constants(traced, folded)
        quantize_dynamic(
            folded,
            quantised,
            op_types_to_quantize=[
                "MatMul",
                "Gemm",
            ],  # the word table stays fp16 in the weights' file: exact, and mapped once for all processes
            per_channel=True,
            reduce_range=True,  # without VNNI, 8-bit products of a byte and a signed byte overflow; 7-bit weights give every CPU the same verdicts
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
        _share_weights(quantised, directory / INT8_GRAPH)
    session = onnxruntime.InferenceSession(str(directory / FP32_GRAPH), providers=["CPUExecutionProvider"])
    feed = {name: getattr(row, name) for name in _INPUTS}
    with torch.inference_mode():
        batch, _ = batch_rows([row])
        reference = encoder(*batch).numpy()
    return float(np.abs(session.run([LOGITS], feed)[0] - reference).max())


def _trace(encoder: PackedEncoder, row: PackedRow, path: Path) -> None:
    arguments = tuple(torch.from_numpy(getattr(row, name)) for name in _INPUTS)
    axes = {
        "token_ids": {0: "tokens"},
        "positions": {0: "tokens"},
        "line_of_token": {0: "tokens"},
        "first_tokens": {0: "lines"},
        **{name: {0: "lines"} for name in _OUTPUTS},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own age
        torch.onnx.export(
            _OneRow(encoder),
            arguments,
            str(path),
            input_names=list(_INPUTS),
            output_names=list(_OUTPUTS),
            dynamic_axes=axes,
            opset_version=_OPSET,
            do_constant_folding=False,  # parameters keep their names, by which they are found in the safetensors file
            dynamo=False,
        )


def _share_weights(source: Path, target: Path) -> None:
    """Copy a graph without the parameters that it still holds by name: each becomes fp16 bytes at an offset of `model.safetensors`, cast on loading."""
    graph_model = onnx.load(source)
    graph = graph_model.graph
    offsets = _tensor_offsets(target.parent / WEIGHTS)
    kept, casts = [], []
    for initializer in graph.initializer:
        name = initializer.name.removeprefix("encoder.")
        if name not in offsets:
            kept.append(initializer)
            continue
        start, length = offsets[name]
        half = TensorProto(
            name=f"{name}.half",
            data_type=TensorProto.FLOAT16,
            dims=initializer.dims,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", WEIGHTS), ("offset", start), ("length", length)):
            half.external_data.add(key=key, value=str(value))
        kept.append(half)
        casts.append(helper.make_node("Cast", [half.name], [initializer.name], to=TensorProto.FLOAT))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    _gather_before_cast(graph)
    onnx.save(graph_model, target)


def _gather_before_cast(graph: onnx.GraphProto) -> None:
    """Look words up in fp16 and cast the few that were found: the table, half of all weights, then stays in the mapped file."""
    by_output = {output: node for node in graph.node for output in node.output}
    for gather in [node for node in graph.node if node.op_type == "Gather"]:
        cast = by_output.get(gather.input[0])
        if cast is None or cast.op_type != "Cast" or not cast.input[0].endswith("embeddings.weight.half"):
            continue
        wide = gather.output[0]
        gather.input[0], gather.output[0] = cast.input[0], f"{wide}.half"
        place = list(graph.node).index(gather)
        graph.node.insert(place + 1, helper.make_node("Cast", [f"{wide}.half"], [wide], to=TensorProto.FLOAT))
    used = {name for node in graph.node for name in node.input}
    for node in [node for node in graph.node if node.op_type == "Cast" and node.output[0] not in used]:
        graph.node.remove(node)


def _tensor_offsets(path: Path) -> dict[str, tuple[int, int]]:
    """Return (offset, length) in bytes of every tensor of a safetensors file: eight bytes of header length, a JSON header, then plain tensors."""
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(header_bytes))
    spans = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: (8 + header_bytes + start, end - start) for name, (start, end) in spans.items()}


def _fold_constants(traced: Path, folded: Path) -> None:
    """Let onnxruntime compute what is constant (fused projections, transposed weights): the quantiser only sees weights that are initializers."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(traced), options, providers=["CPUExecutionProvider"])


def write_manifest(directory: Path, calibration: Calibration, about: dict[str, dict[str, Any]]) -> None:
    """Write `model.json` over the files that lie in `directory`. `about` holds `trained_on`, for people."""
    files = {name: _file_entry(directory / name) for name in _shipped(directory)}
    document = {
        "format": FORMAT,
        "levels": list(LEVELS),
        "normaliser_version": NORMALISER_VERSION,
        "temperature": round(calibration.temperature, 4),
        "threshold": round(calibration.threshold, 4),
        "second_look_log_odds": calibration.second_look_log_odds,
        "line_tokens": LINE_TOKENS,
        "files": files,
        **about,
    }
    (directory / MANIFEST_NAME).write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def _shipped(directory: Path) -> Sequence[str]:
    return [
        name
        for name in (WEIGHTS, FP32_GRAPH, INT8_GRAPH, "tokenizer.json", "config.json", INDEX_NAME)
        if (directory / name).exists()
    ]


def _file_entry(path: Path) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
