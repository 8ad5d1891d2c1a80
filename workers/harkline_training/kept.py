"""Score a line once: rows of numbers that lines were given, kept in a file, so that a second look at the same model costs seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

Compute = Callable[[Sequence[str]], NDArray[np.floating]]

_LINES_AT_ONCE = 512


class KeptRows:
    """One row of numbers a line, by the line's digest. Name the file for whatever decides the numbers: the weights, the runtime."""

    def __init__(self, path: Path, *, afresh: bool = False) -> None:
        self._path = path
        self._rows: dict[bytes, NDArray[np.floating]] = {}
        if path.exists() and not afresh:
            with np.load(path, allow_pickle=False) as stored:
                self._rows = dict(zip(map(bytes, stored["digests"]), stored["rows"], strict=True))

    def rows(self, lines: Sequence[str], compute: Compute, what: str, progress: Progress) -> NDArray[np.floating]:
        """Return (lines, width), computing what was not kept. Each line must be worth the same in any company."""
        digests = [hashlib.sha256(line.encode("utf-8", "replace")).digest()[:16] for line in lines]
        missing = {digest: line for digest, line in zip(digests, lines, strict=True) if digest not in self._rows}
        if missing:
            computed = in_portions(list(missing.values()), compute, what, progress)
            self._rows.update(zip(missing, computed, strict=True))
            self._write()
        return np.stack([self._rows[digest] for digest in digests])

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_suffix(".writing.npz")
        digests = np.frombuffer(b"".join(self._rows), dtype=np.uint8).reshape(-1, 16)
        np.savez(scratch, digests=digests, rows=np.stack(list(self._rows.values())))
        scratch.replace(self._path)


def in_portions(lines: Sequence[str], compute: Compute, what: str, progress: Progress) -> NDArray[np.floating]:
    """Compute a row a line in portions, so that a person sees it move."""
    bar = progress.add_task(what, total=len(lines))
    portions = []
    for start in range(0, len(lines), _LINES_AT_ONCE):
        portions.append(compute(lines[start : start + _LINES_AT_ONCE]))
        progress.advance(bar, min(_LINES_AT_ONCE, len(lines) - start))
    return np.concatenate(portions)
