"""What was measured, as rows that survive an interrupted run: every number with all its repeats, its unit, and what others did meanwhile."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One number of a part. `key` names it for tables and plots; `wall` is lines per second by the clock, where that makes sense."""

    key: str
    what: str
    values: list[float]
    unit: str
    wall: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def middle(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.values)


@dataclass(slots=True)
class PartResult:
    """One part of the bench, as it was measured."""

    title: str
    rows: list[Row]
    at: str  # when, in UTC
    seconds: float  # it took
    quick: bool
    other_cores: float  # busy with something else meanwhile, on average
    stolen_cores: float  # taken by the host meanwhile


@dataclass(slots=True)
class Results:
    """Everything measured so far, by the letter of its part."""

    machine: str = ""
    stream: str = ""
    parts: dict[str, PartResult] = field(default_factory=dict)

    def row(self, key: str) -> Row | None:
        """Return the row of this key, or None where it has not been measured."""
        return next((row for part in self.parts.values() for row in part.rows if row.key == key), None)

    def middle(self, key: str) -> float | None:
        """Return the median of the row of this key, or None."""
        row = self.row(key)
        return None if row is None else row.middle

    def rows(self, prefix: str) -> list[Row]:
        """Return the rows whose keys begin so, in their order."""
        return [row for part in self.parts.values() for row in part.rows if row.key.startswith(prefix)]


def save(results: Results, path: Path) -> None:
    """Write results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(results), indent=1) + "\n", "utf-8")


def load(path: Path) -> Results:
    """Read results, or return empty ones where there are none."""
    if not path.exists():
        return Results()
    document = json.loads(path.read_text("utf-8"))
    parts = {
        letter: PartResult(**{**part, "rows": [Row(**row) for row in part["rows"]]})
        for letter, part in document["parts"].items()
    }
    return Results(document["machine"], document["stream"], parts)
