"""What there is to scrape: read from the code that exports it, so that no table here can go stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics import MetricWrapperBase

import harkline_api.metrics
import harkline_workers.metrics
from harkline.exposition import LEDGER_METRICS, LedgerCollector
from harkline.ledger import Ledger, LedgerStats

if TYPE_CHECKING:
    from collections.abc import Iterable

# Series of Prometheus, Alertmanager and Flower that the rules and the dashboard use, with their labels.
FOREIGN = {
    "up": {"job", "instance"},
    "ALERTS": {"alertname", "alertstate", "severity"},
    "alertmanager_notifications_total": {"integration"},
    "alertmanager_notifications_failed_total": {"integration"},
    "prometheus_notifications_errors_total": {"alertmanager"},
}


class _QuietLedger:
    """A ledger at rest."""

    def stats(self) -> LedgerStats:
        return LedgerStats()


def exported() -> dict[str, set[str]]:
    """Return every series name that the product and its companions export, with its own labels (`job` and `instance` left out)."""
    registry = CollectorRegistry()
    handles = (harkline_workers.metrics.WorkerMetrics(registry), harkline_api.metrics.Metrics(registry))
    found: dict[str, set[str]] = dict(FOREIGN)
    for metric in _metrics(handles):
        labels = set(metric._labelnames)
        for name in _names(metric):
            found[name] = labels
    for family in LedgerCollector(cast("Ledger", _QuietLedger())).collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    found.setdefault("harkline_backlog_bound_lines", set())
    return found


def declared() -> set[str]:
    """Return the names in the tables that the product's modules keep."""
    return {*LEDGER_METRICS, *harkline_workers.metrics.EXPORTED, *harkline_api.metrics.EXPORTED}


def _metrics(handles: Iterable[object]) -> Iterable[MetricWrapperBase]:
    for handle in handles:
        for value in vars(handle).values():
            if isinstance(value, MetricWrapperBase):
                yield value


def _names(metric: MetricWrapperBase) -> list[str]:
    (family,) = metric.describe()
    if isinstance(metric, Histogram):
        return [f"{family.name}_{part}" for part in ("bucket", "count", "sum")]
    return [f"{family.name}_total" if family.type == "counter" else family.name]
