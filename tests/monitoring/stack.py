"""A real Prometheus and a real Alertmanager on rendered configuration, scraping processes that the test plays itself."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harkline.alerting import Receivers, Scraped, render_alertmanager, render_prometheus
from tests.support.polling import wait_for
from tests.support.servers import free_port, require_program, running

if TYPE_CHECKING:
    from collections.abc import Iterator

MONITORING = Path(__file__).parents[2] / "monitoring"
RULES = MONITORING / "prometheus" / "rules"


def alertmanager_config(receivers: Receivers) -> str:
    """Render the shipped template for `receivers`."""
    folder = MONITORING / "alertmanager"
    return render_alertmanager((folder / "alertmanager.yml.tmpl").read_text(), receivers, folder)


def prometheus_config(scraped: Scraped) -> str:
    """Render the shipped template for `scraped`."""
    return render_prometheus((MONITORING / "prometheus" / "prometheus.local.yml.tmpl").read_text(), scraped)


class Target:
    """A process with /metrics on one port: `series` maps a series to its value, `stop` and `start` replace the process."""

    def __init__(self) -> None:
        self.port = free_port()
        self.series: dict[str, float] = {}
        self.scrapes = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread = threading.Thread()

    def start(self) -> None:
        """Begin to answer."""
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = "".join(f"{series} {value}\n" for series, value in target.series.items()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                target.scrapes += 1

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse every connection from now on."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def counts(self, critical: float, *, up: float = 1) -> None:
        """Export these ledger totals, as every process of harkline does."""
        self.series |= {
            'harkline_ledger_lines_total{severity="critical"}': critical,
            'harkline_ledger_lines_total{severity="not_critical"}': 0,
            "harkline_ledger_up": up,
        }


@dataclass
class Stack:
    """What runs, and where."""

    prometheus_url: str = ""
    alertmanager_url: str = ""
    api: Target = field(default_factory=Target)
    worker: Target = field(default_factory=Target)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        address = f"{self.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(address, timeout=5) as response:
            result: list[dict[str, Any]] = json.load(response)["data"]["result"]
            return result


def post_alerts(alertmanager_url: str, alerts: list[dict[str, Any]]) -> None:
    """Hand alerts to Alertmanager's v2 API."""
    request = urllib.request.Request(
        f"{alertmanager_url}/api/v2/alerts", json.dumps(alerts).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5) as response:
        assert response.status == 200


@contextmanager
def alertmanager(folder: Path, receivers: Receivers, port: int | None = None) -> Iterator[str]:
    """Run Alertmanager; yields its URL."""
    port = port or free_port()
    config = folder / "alertmanager.yml"
    config.write_text(alertmanager_config(receivers))
    command = [
        require_program("prometheus-alertmanager", "alertmanager"),
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running(command, folder / "alertmanager.log"):
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _answers(f"{url}/-/ready"), 20, f"Alertmanager, see {folder / 'alertmanager.log'}")
        yield url


@contextmanager
def stack(folder: Path, receivers: Receivers) -> Iterator[Stack]:
    """Run both programs with the shipped rules, scraping `api` and `worker` of the yielded Stack every 5 s.

    The targets do not answer before the test starts them; both end with the block.
    """
    made = Stack()
    alertmanager_port, prometheus_port = free_port(), free_port()
    config = folder / "prometheus.yml"
    scraped = Scraped(
        made.api.port, made.worker.port, free_port(), prometheus_port, alertmanager_port, RULES, scrape_seconds=5
    )
    config.write_text(prometheus_config(scraped))
    command = [
        require_program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{prometheus_port}",
        f"--web.external-url=http://127.0.0.1:{prometheus_port}/",
    ]
    with ExitStack() as opened:
        opened.callback(made.api.stop)
        opened.callback(made.worker.stop)
        made.alertmanager_url = opened.enter_context(alertmanager(folder, receivers, alertmanager_port))
        opened.enter_context(running(command, folder / "prometheus.log"))
        made.prometheus_url = f"http://127.0.0.1:{prometheus_port}"
        ready = f"{made.prometheus_url}/-/ready"
        wait_for(lambda: _answers(ready), 30, f"Prometheus, see {folder / 'prometheus.log'}")
        yield made


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
