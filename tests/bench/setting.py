"""What every part of the bench is given: how long it may measure, with which lines, and where it may write."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from tests.bench.machine import cores
from tests.bench.stream import Stream, all_different, other_numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_DIFFERENT_LINES = 12_000


@dataclass
class Setting:
    """The common ground of one run."""

    folder: Path
    stream: Stream
    seconds: float  # a measurement should last about so long
    repeats: int
    quick: bool
    say: Callable[[str], None]
    cores: int = field(default_factory=cores)
    _folders: int = 0
    _seeds: int = 1000

    @cached_property
    def different(self) -> Stream:
        """Lines that share no template."""
        return all_different(self.stream, _DIFFERENT_LINES, seed=7)

    def fresh_numbers(self, stream: Stream | None = None) -> Stream:
        """Return the stream (or another) with numbers that it never had before in this run."""
        self._seeds += 1
        return other_numbers(stream or self.stream, self._seeds)

    def with_new_lines(self, stream: Stream, every: int) -> Stream:
        """Return the stream with one line in so many replaced by one of a template that no cache has met."""
        self._seeds += 1
        new = all_different(stream, -(-len(stream) // every), self._seeds).lines
        lines = [new[at // every] if at % every == 0 else line for at, line in enumerate(stream.lines)]
        return replace(stream, lines=tuple(lines))

    def new_folder(self, name: str) -> Path:
        """Return a path for a system of its own."""
        self._folders += 1
        return self.folder / f"{self._folders}-{name}"
