"""The API as it is run for real: gunicorn with its configuration file, on a free port, in its own processes."""

from __future__ import annotations

import http.client
import json
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harkline.programs import api_program
from harkline.settings import process_environment
from tests.support.polling import wait_for
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harkline.settings import Settings


@dataclass
class GunicornServer:
    """A running API."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def connection(self, timeout_seconds: float = 20) -> http.client.HTTPConnection:
        """A new connection to it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_seconds)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send one request on its own connection; returns status and decoded JSON, or text."""
        connection = self.connection()
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(text) if is_json and text else text
        finally:
            connection.close()

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        found = subprocess.run(
            ["ps", "--ppid", str(self.process.pid), "-o", "pid="], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in found.stdout.split()]


@contextmanager
def gunicorn_server(settings: Settings, folder: Path, **overrides: Any) -> Iterator[GunicornServer]:
    """Run the API until the block ends; SIGTERM, then SIGKILL after 15 s."""
    settings = settings.model_copy(update={"api_port": free_port(), **overrides})
    program = api_program(settings)
    log = folder / "gunicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            program.command,
            env=process_environment(**settings.environment(), **program.environment),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = GunicornServer(settings.api_port, process, log)
    try:
        wait_for(lambda: server.call("GET", "/health")[0] == 200, 20, f"the API answers; see {log.read_text()}")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
