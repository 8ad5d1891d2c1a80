"""The composed system of docker-compose.yml under test: its own project, ports and secrets, so that it stands beside any other."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.containers.engine import CommandFailed, Engine
from tests.support.polling import wait_for
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_READY_SECONDS = 180


@dataclass(frozen=True)
class Composition:
    """A project of docker compose, and how to reach it."""

    engine: Engine
    project: str
    env_file: Path
    key: str
    ports: dict[str, int]  # by service, on 127.0.0.1

    def compose(self, *arguments: str) -> str:
        """Run docker compose on this project."""
        return self.engine.compose("--project-name", self.project, "--env-file", str(self.env_file), *arguments)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return what docker knows of a service's containers."""
        ids = self.compose("ps", "--quiet", service).split()
        found: list[dict[str, Any]] = json.loads(self.engine.docker("inspect", *ids)) if ids else []
        return found

    def healthy(self, service: str) -> bool:
        """Whether all of a service's containers run and are healthy."""
        states = [container["State"] for container in self.containers(service)]
        return bool(states) and all(state.get("Health", {}).get("Status") == "healthy" for state in states)

    def wait_until_healthy(self, services: Sequence[str]) -> None:
        """Wait until all of these are healthy; what a service that is not has logged goes into the failure."""
        for service in services:
            try:
                wait_for(lambda service=service: self.healthy(service), _READY_SECONDS, f"{service} is healthy", 1)  # type: ignore[misc]
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.compose('logs', '--tail=40', service)}") from None

    def kill(self, service: str) -> None:
        """End a service's processes with SIGKILL, as the machine would: after `docker kill` no restart policy applies."""
        for container in self.containers(service):
            image, process = container["Image"], str(container["State"]["Pid"])
            self.engine.docker(
                "run",
                "--rm",
                "--pid=host",
                "--user=0:0",
                "--cap-add=KILL",
                "--entrypoint=sh",
                image,
                "-c",
                f"kill -9 {process}",
            )

    def post_lines(self, text: str, query: str = "") -> dict[str, Any]:
        """Send plain lines to the API; returns its answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports['api']}/logs{query}", data=text.encode(), method="POST"
        )
        request.add_header("Authorization", f"Bearer {self.key}")
        request.add_header("Content-Type", "text/plain")
        return _json(request)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that Prometheus answers to an expression."""
        quoted = urllib.parse.quote(expression)
        answer = _json(f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/query?query={quoted}")
        series: list[dict[str, Any]] = answer["data"]["result"]
        return series

    def counted(self) -> int:
        """Return how many lines the ledger has counted, as Prometheus knows it."""
        series = self.query("sum(max by (severity) (harkline_ledger_lines_total))")
        return int(series[0]["value"][1]) if series else -1

    def alerts(self) -> set[str]:
        """Return the names of the alerts that Alertmanager holds."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.ports['alertmanager']}/api/v2/alerts", timeout=10
        ) as answer:
            return {alert["labels"]["alertname"] for alert in json.load(answer)}

    def get_status(self, service: str, path: str) -> int:
        """Return the status of a GET without a key."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[service]}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@contextmanager
def composition(engine: Engine, folder: Path, services: Sequence[str]) -> Iterator[Composition]:
    """Build and start services of docker-compose.yml until the block ends, then remove them with their volumes."""
    ports = {name: free_port() for name in ("api", "flower", "prometheus", "alertmanager")}
    secrets = {"HARKLINE_REDIS_PASSWORD": "redis-secret", "HARKLINE_API_KEYS": "sender-key,prometheus-key"}
    secrets |= {"HARKLINE_FLOWER_AUTH": "harkline:flower-secret", "GRAFANA_ADMIN_PASSWORD": "grafana-secret"}
    places = {f"HARKLINE_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    env_file = folder / "env"
    env_file.write_text(
        "".join(f"{name}={value}\n" for name, value in {**secrets, **places, "HARKLINE_WORKER_PROCESSES": "1"}.items())
    )
    system = Composition(engine, f"harkline-test-{ports['api']}", env_file, "sender-key", ports)
    try:
        system.compose("up", "--build", "--detach", *services)
        system.wait_until_healthy(services)
        yield system
    finally:
        try:
            system.compose("down", "--volumes", "--timeout", "10")
        except CommandFailed as error:
            print(error)  # noqa: T201 - the test's own outcome must not be hidden by the clearing up


def _json(request: urllib.request.Request | str) -> dict[str, Any]:
    with urllib.request.urlopen(request, timeout=60) as answer:
        decoded: dict[str, Any] = json.load(answer)
        return decoded
