"""What the API counts of itself. Declared once, here, before anything is counted; every label has a bounded set of values.

With PROMETHEUS_MULTIPROC_DIR in the environment before this process started, values are kept in files that all API processes share; without
it (tests, one process) in the registry that is passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from harkline.exposition import LEDGER_METRICS
from harkline.lines.patterns import NAMES
from harkline_api.refusals import CODES, LINE_CODES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import CollectorRegistry, Metric

    from harkline_api.gate import Gate

# Everything that /metrics of the API shows, for the tests that hold dashboards and rules to it.
EXPORTED = (
    "harkline_requests_total",
    "harkline_request_seconds",
    "harkline_accepted_lines_total",
    "harkline_rejected_lines_total",
    "harkline_rejected_requests_total",
    "harkline_redactions_total",
    "harkline_append_seconds",
    "harkline_coalesced_requests",
    "harkline_waiting_requests",
    "harkline_backlog_bound_lines",
    *LEDGER_METRICS,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def is_multiprocess() -> bool:
    """Return whether prometheus-client keeps its values in shared files; it decided so when it was imported."""
    return values.ValueClass is not values.MutexValue


class Metrics:
    """The API's metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counter(
            "harkline_requests_total",
            "Requests that send lines, by protocol and HTTP status.",
            ["protocol", "status"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "harkline_request_seconds",
            "Time to answer a request that sends lines; waiting for verdicts included.",
            ["protocol"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._accepted_lines = Counter(
            "harkline_accepted_lines_total",
            "Lines answered for, by protocol; repeats of an Idempotency-Key included.",
            ["protocol"],
            registry=registry,
        )
        self._rejected_lines = Counter(
            "harkline_rejected_lines_total", "Lines that were no lines, by code.", ["code"], registry=registry
        )
        self._rejected_requests = Counter(
            "harkline_rejected_requests_total", "Requests refused as a whole, by code.", ["code"], registry=registry
        )
        self._redactions = Counter(
            "harkline_redactions_total",
            "Secrets and personal data replaced in accepted lines, by pattern.",
            ["pattern"],
            registry=registry,
        )
        self.append_seconds = Histogram(
            "harkline_append_seconds", "One durable write to the ledger.", buckets=_SECONDS, registry=registry
        )
        self.coalesced_requests = Histogram(
            "harkline_coalesced_requests",
            "Requests per write to the ledger.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
            registry=registry,
        )
        self.waiting_requests = Gauge(
            "harkline_waiting_requests",
            "Requests that wait for verdicts.",
            multiprocess_mode="livesum",
            registry=registry,
        )

    def prepare(self, protocols: list[str]) -> None:
        """Show every protocol, code and pattern at 0 from the start: a counter that is born at 1 shows no increase."""
        for code in CODES:
            self._rejected_requests.labels(code)
        for code in LINE_CODES:
            self._rejected_lines.labels(code)
        for pattern in NAMES:
            self._redactions.labels(pattern)
        for protocol in protocols:
            self._accepted_lines.labels(protocol)
            self._request_seconds.labels(protocol)

    def count_request(self, protocol: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(protocol, str(status)).inc()
        self._request_seconds.labels(protocol).observe(seconds)

    def count_accepted(self, protocol: str, lines: int) -> None:
        """Count the lines of one accepted request."""
        self._accepted_lines.labels(protocol).inc(lines)

    def count_rejected_lines(self, codes: list[str]) -> None:
        """Count the bad lines of one request."""
        for code in set(codes):
            self._rejected_lines.labels(code).inc(codes.count(code))

    def count_redactions(self, replaced: Mapping[str, int]) -> None:
        """Count what was replaced in one request, by pattern."""
        for pattern, times in replaced.items():
            self._redactions.labels(pattern).inc(times)

    def count_refusal(self, code: str) -> None:
        """Count one request that was refused as a whole."""
        self._rejected_requests.labels(code).inc()


class BoundCollector(Collector):
    """Exports the backlog bound, as this process derives it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        """Yield the bound; called once per scrape."""
        yield GaugeMetricFamily(
            "harkline_backlog_bound_lines",
            "Lines that may wait before requests are refused.",
            value=self._gate.bound_lines,
        )
