"""The workers' metrics: declared once, before use, with bounded labels. Children write them to multiprocess files, the parent serves the sum.

No message, template or id is ever a label. `log_severity_total` is exact while no process is killed; the ledger's totals always are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from harkline.contract import SERVICE_OTHER, SERVICE_UNKNOWN, SEVERITIES, SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client import CollectorRegistry

# What this module exports, for the tests that hold dashboards and rules to it.
EXPORTED = (
    "log_severity_total",
    "harkline_classified_lines_total",
    "harkline_degraded_lines_total",
    "harkline_batch_lines",
    "harkline_model_seconds",
    "harkline_model_lines_total",
    "harkline_cache_hits_total",
    "harkline_cache_misses_total",
    "harkline_ingest_to_count_seconds",
    "harkline_redelivered_entries_total",
    "harkline_model_degraded",
    "harkline_model_loaded",
    "harkline_model_outdated",
    "harkline_model_swap_failures_total",
    "harkline_worker_processes_ready",
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_LINES = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)


class WorkerMetrics:
    """One process' handles on the metrics. Built after the fork, in the process that counts."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.severity = Counter("log_severity_total", "Classified lines.", ["severity", "service"], registry=registry)
        self.classified = Counter(
            "harkline_classified_lines_total", "Classified lines by what decided them.", ["source"], registry=registry
        )
        self.degraded_lines = Counter(
            "harkline_degraded_lines_total",
            "Lines judged by the rules alone, because no model could.",
            registry=registry,
        )
        self.batch_lines = Histogram(
            "harkline_batch_lines", "Lines of one ledger entry.", buckets=_LINES, registry=registry
        )
        self.model_seconds = Histogram(
            "harkline_model_seconds", "Seconds of one model call.", buckets=_SECONDS, registry=registry
        )
        self.model_lines = Counter(
            "harkline_model_lines_total", "Distinct lines that the model scored.", registry=registry
        )
        self.cache_hits = Counter(
            "harkline_cache_hits_total",
            "Lines answered by a cache; of the Redis tier, distinct ones of a claim.",
            ["tier"],
            registry=registry,
        )
        self.cache_misses = Counter(
            "harkline_cache_misses_total", "Distinct lines of a claim that no cache knew.", registry=registry
        )
        self.ingest_to_count = Histogram(
            "harkline_ingest_to_count_seconds",
            "Age of a ledger entry when it was counted.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.redelivered = Counter(
            "harkline_redelivered_entries_total",
            "Entries taken over from a process that abandoned them.",
            registry=registry,
        )
        self.model_degraded = Gauge(
            "harkline_model_degraded",
            "1 while a process judges by the rules alone.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.model_loaded = Gauge(
            "harkline_model_loaded",
            "1 per model version in use.",
            ["version", "backend"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.model_outdated = Gauge(
            "harkline_model_outdated",
            "1 while a process serves a former model, because the one it should serve cannot be loaded.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.model_swap_failures = Counter(
            "harkline_model_swap_failures_total",
            "Times that a process could not load another model and kept what it had.",
            registry=registry,
        )
        self.processes_ready = Gauge(
            "harkline_worker_processes_ready",
            "Processes that can classify.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        for source in SOURCES:
            self.classified.labels(source)
        for tier in ("process", "redis"):
            self.cache_hits.labels(tier)
        self._children: dict[tuple[str, str], Counter] = {}
        self.know_services((SERVICE_UNKNOWN, SERVICE_OTHER))

    def know_services(self, services: Iterable[str]) -> None:
        """Create both severities of each service at 0: a counter that is born at 1 never alerts, since `increase()` sees no increase."""
        for service in services:
            for severity in SEVERITIES:
                self._children.setdefault((severity, service), self.severity.labels(severity, service))

    def count(self, lines: Mapping[tuple[str, str], int]) -> None:
        """Add classified lines, by (severity, admitted service)."""
        for key, number in lines.items():
            child = self._children.get(key)
            if child is None:
                self.know_services((key[1],))
                child = self._children[key]
            child.inc(number)
