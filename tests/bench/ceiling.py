"""Parts f and g: what the silicon would allow, and how much of it the model gets, on CPU and on a GPU where one is at hand."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tests.bench.places import ROOT
from tests.bench.results import Row
from tests.system.whole import clean_environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.bench.setting import Setting

_GPU_CALL_LINES = 8192


def roofline(setting: Setting) -> list[Row]:
    """Part f: every core runs a copy at once, as the workers do, and the mean of the copies counts."""
    seconds = min(3.0, setting.seconds)
    setting.say("8-bit products of the model's shapes")
    timing = ["--repeats", str(setting.repeats), "--seconds", str(seconds)]
    products = _copies("tests.bench.matmul", timing, setting.cores)
    lines = setting.different.sample(400 if setting.quick else 2000, seed=3).lines
    setting.say("the model alone")
    alone = _copies("tests.bench.model_alone", ["--repeats", str(setting.repeats)], setting.cores, "\n".join(lines))
    operations_per_line = products[0]["operations_per_token"] * alone[0]["tokens_per_line"]

    def lines_per_second(rates: Sequence[float]) -> list[float]:
        return [rate / operations_per_line for rate in rates]

    rows = []
    setting.say("the instruction")
    peaks = [peak for _ in range(setting.repeats) if (peak := _instruction_peak(setting.folder))]
    text = f"{alone[0]['tokens_per_line']:.1f} tokens a line, {operations_per_line / 1e9:.3f} G operations"
    if peaks:
        note = f"{statistics.median(peaks) / 1e9:.0f} G operations/s a core, {text}"
        rows.append(
            Row("peak", "int8 ceiling: the instruction alone", lines_per_second(peaks), "lines/CPU-s", note=note)
        )
    for key, name, what in (
        ("large_matmul", "large", "int8 ceiling: one large product in the runtime"),
        ("matmul", "model_shapes", "int8 ceiling: the model's products in the runtime, nothing else"),
    ):
        rates = _mean([copy[name] for copy in products])
        note = f"{statistics.median(rates) / 1e9:.0f} G operations/s a core"
        rows.append(Row(key, what, lines_per_second(rates), "lines/CPU-s", note=note))
    filling = f"rows {alone[0]['row_filling']:.0%} full"
    for step, what, note in (
        ("predict", "the model alone: tokens, packing, int8, second look in fp32", filling),
        ("score", "packing and int8 scoring alone", filling),
        ("pack", "packing alone", ""),
        ("tokenise", "tokenising alone", ""),
        ("normalise", "normalising alone", ""),
    ):
        rates = _mean([copy["lines_per_second"][step] for copy in alone])
        rows.append(Row(f"alone_{step}", what, rates, "lines/CPU-s", note=note))
    return rows


def gpu(setting: Setting) -> list[Row]:
    """Part g: the torch backend on a GPU, and what one core of the host can feed it. Without a GPU nothing is measured and nothing is claimed."""
    if find_spec("torch") is None:
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    setting.say("the model on the GPU")
    lines = "\n".join(setting.different.lines * 4)
    options = ["--backend", "torch", "--wall", "--call-lines", str(_GPU_CALL_LINES), "--repeats", str(setting.repeats)]
    (alone,) = _copies("tests.bench.model_alone", options, 1, lines)
    (products,) = _copies("tests.bench.matmul", ["--seconds", "0.2", "--repeats", "1"], 1)
    per_line = products["operations_per_token"] * alone["tokens_per_line"]
    peak = _gpu_peak()
    rates = alone["lines_per_second"]
    share = statistics.median(rates["score"]) * per_line / peak
    note = f"{share:.1%} of the {peak / 1e12:.0f} TFLOP/s of a large product on {torch.cuda.get_device_name()}"
    feed = [
        1 / (1 / normalise + 1 / tokenise)
        for normalise, tokenise in zip(rates["normalise"], rates["tokenise"], strict=True)
    ]
    return [
        Row("gpu_score", "GPU: packing and scoring", rates["score"], "lines/s", note=note),
        Row("gpu_predict", "GPU: the model alone, tokenising included", rates["predict"], "lines/s"),
        Row("gpu_feed", "what one process of the host normalises and tokenises", feed, "lines/s"),
    ]


def _gpu_peak() -> float:
    """Return the operations per second of a large half-precision product."""
    import torch

    size, rounds = 8192, 50
    left = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    for _ in range(5):
        left @ left
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(rounds):
        left @ left
    torch.cuda.synchronize()
    return float(rounds * 2 * size**3 / (time.perf_counter() - began))


def _copies(module: str, options: Sequence[str], copies: int, given: str = "") -> list[dict[str, Any]]:
    """Run a program of ours on every core at once; returns what each printed."""
    environment = clean_environment() | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", module, *options],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(copies)
    ]
    for process in started:
        # All get their lines before any is waited for, so that they run side by side.
        assert process.stdin is not None
        process.stdin.write(given)
        process.stdin.close()
        process.stdin = None
    said = [process.communicate()[0] for process in started]
    for process in started:
        if process.returncode:
            raise RuntimeError(f"{module} ended with {process.returncode}")
    return [json.loads(text) for text in said]


def _mean(copies: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.fmean(repeat) for repeat in zip(*copies, strict=True)]


def _instruction_peak(folder: Path) -> float | None:
    """Return 8-bit operations per CPU second of one core, or None where there is no compiler or no such instruction."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    program = folder / "peak"
    command = [compiler, "-O2", "-march=native", "-o", str(program), str(ROOT / "tests" / "bench" / "peak.c")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return None
    return float(subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout)
