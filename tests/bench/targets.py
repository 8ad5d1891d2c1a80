"""What we set out to reach, beside what was measured. A number that falls short is shown as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.bench.results import Results


class Target(NamedTuple):
    """One number to reach."""

    what: str
    unit: str
    wanted: float
    is_most: bool  # whether less is better
    measured: float | None  # None: its parts were not measured

    @property
    def verdict(self) -> str:
        """`reached`, how far away it is, or that nobody looked."""
        if self.measured is None:
            return "not measured"
        if self.measured <= self.wanted if self.is_most else self.measured >= self.wanted:
            return "reached"
        return f"**short**, {self.measured / self.wanted:.2g} of it" if not self.is_most else "**over**"


def targets(results: Results) -> list[Target]:
    """Return every target with what was measured of it."""
    found = results.middle

    def ratio(above: str, below: str) -> float | None:
        upper, lower = found(above), found(below)
        return None if upper is None or not lower else upper / lower

    def percent(above: str, below: str) -> float | None:
        share = ratio(above, below)
        return None if share is None else 100 * share

    ceiling = "peak" if found("peak") else "large_matmul"
    return [
        Target("no cache, end to end, against the demo", "x", 30, False, ratio("no_cache", "demo")),
        Target("the same against the demo on shortened text", "x", 30, False, ratio("no_cache", "demo_short")),
        Target("the same against the demo's way with our model", "x", 9, False, ratio("no_cache", "demo_ours")),
        Target("a cold stream against the demo", "x", 250, False, ratio("cold", "demo")),
        Target("warm, other numbers, requests of 1,000", "lines/CPU-s", 100_000, False, found("warm_1000")),
        Target("warm, other numbers, requests of 256", "lines/CPU-s", 40_000, False, found("warm_256")),
        Target("the model alone, of the int8 ceiling", "%", 45, False, percent("alone_predict", ceiling)),
        Target("no cache, end to end, of the model alone", "%", 90, False, percent("no_cache", "alone_predict")),
        Target("half load, batches of 100: accepted, p99", "ms", 20, True, found("batches_accept_p99")),
        Target("half load, batches of 100: counted, p99", "ms", 50, True, found("batches_count_p99")),
        Target("half load, singles of 50 clients: counted, p99", "ms", 150, True, found("singles_count_p99")),
        Target("a worker process", "MiB", 250, True, found("worker_mib")),
        Target("overload: answers but 202, 429 and 503", "requests", 0, True, found("overload_other")),
        Target(
            "refusing 100 lines, of what taking them in costs", "%", 10, True, percent("refuse_us_100", "accept_us_100")
        ),
        Target(
            "refusing 1,000 lines, of what taking them in costs",
            "%",
            10,
            True,
            percent("refuse_us_1000", "accept_us_1000"),
        ),
    ]
