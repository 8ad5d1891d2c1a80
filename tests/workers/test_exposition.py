"""The worker's metrics endpoint: all children's counts, dead ones included, and the ledger's exact totals beside them."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from harkline import ledger as ledger_module
from harkline.exposition import LedgerCollector, render
from harkline.ledger import Commit, Ledger, connect
from harkline.settings import Settings, process_environment
from harkline_workers.exposition import Exposition
from tests.support.servers import free_port

CHILD = """
import os, signal
from prometheus_client import CollectorRegistry
from harkline_workers.metrics import WorkerMetrics
metrics = WorkerMetrics(CollectorRegistry())
metrics.count({("critical", "db"): 3, ("not_critical", "db"): 4})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    return metrics


def killed_child(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=process_environment(PROMETHEUS_MULTIPROC_DIR=str(folder)), check=False
    )
    assert done.returncode == -9


def test_the_counts_of_killed_children_stay(folder: Path) -> None:
    """kill -9 of children loses nothing they counted: the sum never drops."""
    killed_child(folder)
    killed_child(folder)
    body = render(folder, [], "")[0].decode()
    assert 'log_severity_total{service="db",severity="critical"} 6.0' in body


def test_totals_are_the_ledgers_and_outlive_redis(ledger: Ledger, settings: Settings, folder: Path) -> None:
    """The collector shows Redis' totals, zeros included, and repeats the last ones while Redis is away."""
    collector = LedgerCollector(ledger)
    first = render(folder, [collector], "")[0].decode()
    assert 'harkline_ledger_lines_total{severity="critical"} 0.0' in first
    assert "harkline_ledger_up 1.0" in first
    ledger.append([ledger_module.Appending(b"x", 5)], 100)
    ledger.commit([Commit(ledger.claim("c", 1).entries[0].id, 5, 2)])
    assert 'harkline_ledger_lines_total{severity="critical"} 2.0' in render(folder, [collector], "")[0].decode()
    collector._ledger = Ledger(connect(settings, url="redis://127.0.0.1:1/0"), settings)
    away = render(folder, [collector], "")[0].decode()
    assert 'harkline_ledger_lines_total{severity="critical"} 2.0' in away
    assert "harkline_ledger_up 0.0" in away


def test_the_endpoint_serves_metrics_health_and_nothing_else(folder: Path) -> None:
    """/metrics in Prometheus' format, /health for probes, 404 elsewhere; the port is free again after stop."""
    port = free_port()
    for _ in range(2):
        server = Exposition("127.0.0.1", port, folder, [])
        server.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            assert answer.read() == b"ok\n"
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/secrets", timeout=5)
        refused.value.close()
        server.stop()


def test_the_parent_of_a_worker_loads_no_model_runtime() -> None:
    """Importing everything that the parent imports brings no torch, onnxruntime, transformers or numpy: a fork must not inherit their threads."""
    heavy = ("torch", "onnxruntime", "transformers", "numpy", "tokenizers")
    code = (
        f"import sys, harkline_workers.app, harkline_workers.lifecycle; print([m for m in {heavy} if m in sys.modules])"
    )
    environment = {name: value for name, value in process_environment().items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=os.sep
    )
    assert done.stdout.strip() == "[]"
