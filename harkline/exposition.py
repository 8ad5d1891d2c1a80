"""Render metrics for Prometheus: a fresh registry per scrape, the multiprocess files of all processes, and the ledger's exact values beside them.

The ledger's totals are exported by every process that serves metrics, each the same number: rules take `max`, never `sum`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from harkline.errors import LedgerUnavailable
from harkline.ledger import LedgerStats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from prometheus_client import Metric

    from harkline.ledger import Ledger

# What this collector exports, for the tests that hold dashboards and rules to it.
LEDGER_METRICS = (
    "harkline_ledger_lines_total",
    "harkline_ledger_last_critical_timestamp_seconds",
    "harkline_ledger_degraded_lines_total",
    "harkline_dead_letter_lines_total",
    "harkline_backlog_lines",
    "harkline_backlog_oldest_seconds",
    "harkline_ledger_up",
)


class LedgerCollector(Collector):
    """Exports the ledger's totals and backlog. Where Redis does not answer it repeats the last values it knew, zeros included, and says so."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._last = LedgerStats()
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield the ledger's metrics; called once per scrape, from the scraper's thread."""
        with self._lock:
            try:
                self._last = self._ledger.stats()
                up = 1
            except LedgerUnavailable:
                up = 0
            stats = self._last
        lines = CounterMetricFamily(
            "harkline_ledger_lines", "Lines classified and counted, exactly once each.", labels=["severity"]
        )
        lines.add_metric(["critical"], stats.critical)
        lines.add_metric(["not_critical"], stats.not_critical)
        yield lines
        # Tells a new Prometheus, which has no history, a fresh critical line from an old one.
        yield GaugeMetricFamily(
            "harkline_ledger_last_critical_timestamp_seconds",
            "When a critical line was last counted, 0 if never.",
            value=stats.last_critical_at,
        )
        yield CounterMetricFamily(
            "harkline_ledger_degraded_lines",
            "Lines judged by the rules alone, because no model could.",
            value=stats.degraded,
        )
        yield CounterMetricFamily(
            "harkline_dead_letter_lines",
            "Lines set aside because they kept killing or raising; counted by the rules.",
            value=stats.dead,
        )
        yield GaugeMetricFamily(
            "harkline_backlog_lines", "Lines accepted and not yet counted.", value=stats.backlog_lines
        )
        yield GaugeMetricFamily(
            "harkline_backlog_oldest_seconds",
            "Age of the oldest entry that is not yet counted.",
            value=stats.oldest_seconds,
        )
        yield GaugeMetricFamily("harkline_ledger_up", "1 if Redis answered during this scrape.", value=up)


class _Fixed(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def render(multiproc_dir: Path | None, collectors: Sequence[Collector], accept: str) -> tuple[bytes, str]:
    """Return (body, content type) of one scrape: the multiprocess files under `multiproc_dir`, if any, and whatever `collectors` yield."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    if multiproc_dir is not None:
        MultiProcessCollector(registry, path=str(multiproc_dir))  # type: ignore[no-untyped-call]
    for collector in collectors:
        registry.register(_Fixed(collector.collect()))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
