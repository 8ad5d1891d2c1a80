"""A whole harkline, started as a user starts it, seen from outside: HTTP, signals and files. Imports nothing of ours."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HARKLINE = str(Path(sys.executable).parent / "harkline")


def free_ports(number: int) -> list[int]:
    """Return different loopback ports that were free a moment ago."""
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def clean_environment() -> dict[str, str]:
    """Return this process' environment without any setting of harkline's or Prometheus'."""
    return {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - a test starts programs, and decides what they inherit
        if not name.startswith(("HARKLINE_", "PROMETHEUS_"))
    }


@dataclass
class Whole:
    """One running system."""

    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    screen: Path  # what it printed

    @property
    def url(self) -> str:
        """Its API."""
        return f"http://127.0.0.1:{self.environment['HARKLINE_API_PORT']}"

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Send a body; returns status and decoded answer, of refusals too."""
        request = urllib.request.Request(self.url + path, data=body, headers=dict(headers or {}))
        return _answer(request)

    def get(self, path: str) -> tuple[int, Any]:
        """Read a path."""
        return _answer(urllib.request.Request(self.url + path))

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry `labels`, from the worker's endpoint."""
        url = f"http://127.0.0.1:{self.environment['HARKLINE_METRICS_PORT']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = [
            line for line in lines if line.split("{")[0].split(" ")[0] == name and all(part in line for part in wanted)
        ]
        assert samples, f"{name} {labels} is not exported"
        return sum(float(line.rsplit(" ", 1)[1]) for line in samples)

    def ledger_lines(self) -> int:
        """Lines counted, as the ledger's totals say."""
        return int(self.metric("harkline_ledger_lines_total"))

    def wait_until_drained(self, seconds: float = 120) -> None:
        """Wait until no accepted line is left uncounted."""
        wait_for(lambda: self.metric("harkline_backlog_lines") == 0, seconds, "the backlog to drain")

    def processes(self, *words: str) -> list[int]:
        """Return the ids of this system's processes whose command line holds all of `words`, oldest first."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environment = (folder / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if (
                all(word in command for word in words)
                and f"HARKLINE_METRICS_PORT={self.environment['HARKLINE_METRICS_PORT']}" in environment
            ):
                found.append(int(folder.name))
        return sorted(found)

    def run(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a harkline command against this system."""
        return subprocess.run(
            [HARKLINE, *arguments], env=self.environment, capture_output=True, text=True, timeout=seconds, check=False
        )

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop as Ctrl-C does; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def whole(folder: Path, **settings: str) -> Iterator[Whole]:
    """Run `harkline up` on ports and a data folder of its own until the block ends."""
    api, metrics, flower, prometheus, alertmanager = free_ports(5)
    environment = clean_environment()
    environment |= {
        "HARKLINE_DATA_DIR": str(folder / "data"),
        "HARKLINE_API_PORT": str(api),
        "HARKLINE_METRICS_PORT": str(metrics),
        "HARKLINE_FLOWER_PORT": str(flower),
        "HARKLINE_PROMETHEUS_PORT": str(prometheus),
        "HARKLINE_ALERTMANAGER_PORT": str(alertmanager),
    } | settings
    with started(environment, folder / "screen") as system:
        yield system


@contextmanager
def started(environment: dict[str, str], screen: Path) -> Iterator[Whole]:
    """Run `harkline up` in a given environment until the block ends."""
    with screen.open("ab") as output:
        begin = screen.stat().st_size
        process = subprocess.Popen(
            [HARKLINE, "up"],
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    system = Whole(environment, process, screen)

    def is_up() -> bool:
        said = screen.read_bytes()[begin:]
        assert process.poll() is None, said.decode()
        return b"harkline is up" in said

    try:
        wait_for(is_up, 90, "harkline up")
        yield system
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass
class Receiver:
    """A webhook that remembers what Alertmanager sent."""

    url: str
    alerts: list[dict[str, Any]] = field(default_factory=list)

    def named(self, name: str, status: str) -> list[dict[str, Any]]:
        """Return the alerts of one name and status, in the order they came."""
        return [alert for alert in self.alerts if alert["labels"]["alertname"] == name and alert["status"] == status]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Listen for alerts until the block ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.alerts += body["alerts"]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_address[1]}/alerts")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _answer(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read()
    try:
        return status, json.loads(body)
    except ValueError:
        return status, body
