"""A real redis-server for tests, configured as harkline configures it, that a test may hang, kill and start again."""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from harkline.programs import find_redis
from tests.support.polling import wait_for
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class RedisServer:
    """A running redis-server: append-only, fsynced, never evicting."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A plain client of it."""
        return redis.Redis(port=self.port, socket_timeout=5)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP to hang it, SIGCONT, SIGKILL."""
        self.process.send_signal(number)

    def start_again(self) -> None:
        """Start it again on the same port and files after it ended."""
        self.process.wait(10)
        self.process = _start(self.port, self.folder)


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Run a redis-server until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    server = RedisServer(port, folder, _start(port, folder))
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGCONT)
        server.process.kill()
        server.process.wait(10)


def _start(port: int, folder: Path) -> subprocess.Popen[bytes]:
    command = [
        find_redis(),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        "--save",
        "",
        "--appendonly",
        "yes",
    ]
    command += [
        "--appendfsync",
        "always",
        "--maxmemory-policy",
        "noeviction",
        "--maxmemory",
        "512mb",
        "--logfile",
        str(folder / "redis.log"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with redis.Redis(port=port, socket_timeout=1) as client:
        wait_for(client.ping, 10, "redis-server answers")
    return process
