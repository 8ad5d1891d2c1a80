"""Real programs for tests: found on PATH or skipped on a laptop, required in CI, started on free ports, ended by their id."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest

from harkline.settings import process_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def require_program(*names: str) -> str:
    """Return the path of the first of `names` on PATH; where there is none, skip the test, or fail it in CI."""
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    return missing(" or ".join(names) + " is not on PATH")


def missing(what: str) -> NoReturn:
    """Skip the test on a laptop, fail it in CI: what is missing there must not pass in silence."""
    if process_environment().get("CI"):
        pytest.fail(f"{what}, and CI must have it")
    pytest.skip(what)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends, its output in `log`; SIGTERM first, SIGKILL after 10 s."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
