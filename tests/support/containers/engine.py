"""A Docker engine for tests: the one that answers, else a private one that is started here and ended with the tests.

A private engine keeps its images under build/containers, so that stand-ins are made once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING

import pytest

from harkline.settings import process_environment
from tests.support.containers.standins import make_image
from tests.support.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPOSITORY = Path(__file__).resolve().parents[3]
_PULL_SECONDS = 600
_BUILD_SECONDS = 1500


class CommandFailed(AssertionError):
    """A docker command failed; the message ends with what it said."""


@dataclass(frozen=True)
class Engine:
    """A running engine, and the commands that drive it."""

    docker_program: str
    compose_command: tuple[str, ...]
    host: str = ""  # of a private engine; "" means the one that docker finds by itself

    @property
    def private(self) -> bool:
        """Whether it was started here, for the tests alone."""
        return bool(self.host)

    def docker(self, *arguments: str, stdin: IO[bytes] | None = None, seconds: float = _BUILD_SECONDS) -> str:
        """Run `docker ARGUMENTS` and return what it printed; raises CommandFailed."""
        return _run([self.docker_program, *arguments], self.host, seconds, stdin)

    def compose(self, *arguments: str, seconds: float = _BUILD_SECONDS) -> str:
        """Run `docker compose ARGUMENTS`, or docker-compose where there is no plugin; raises CommandFailed."""
        return _run([*self.compose_command, *arguments], self.host, seconds)

    def has_image(self, tag: str) -> bool:
        """Whether the engine holds an image of that name."""
        try:
            self.docker("image", "inspect", tag)
        except CommandFailed:
            return False
        return True

    def build(self, dockerfile: str, tag: str) -> None:
        """Build an image from the text of a Dockerfile, without files."""
        with TemporaryDirectory() as folder:
            (Path(folder) / "Dockerfile").write_text(dockerfile)
            self.docker("build", "--quiet", "--tag", tag, folder)

    def require_images(self, tags: Sequence[str], python_tag: str) -> None:
        """Have these images: those that are there, else pulled, else, on a private engine, stand-ins; skips the test where none of that works."""
        for tag in tags:
            if self.has_image(tag):
                continue
            try:
                self.docker("pull", "--quiet", tag, seconds=_PULL_SECONDS)
            except CommandFailed as error:
                if not self.private:
                    pytest.skip(f"{tag} cannot be pulled: {str(error)[-200:]}")
                make_image(self, tag, python_tag)


@contextmanager
def engine() -> Iterator[Engine]:
    """Find or start an engine; skips the test, saying why, where neither can be done."""
    docker = _docker()
    if _answers(docker):
        yield Engine(docker, _compose(docker))
        return
    if os.geteuid() != 0 or not shutil.which("dockerd") or not shutil.which("debootstrap"):
        pytest.skip("no Docker engine answers, and starting one takes root, dockerd and debootstrap")
    data = REPOSITORY / "build" / "containers"
    data.mkdir(parents=True, exist_ok=True)
    # A socket's path has room for some 100 characters: not below the repository.
    with TemporaryDirectory(prefix="docker-") as folder:
        host = f"unix://{folder}/docker.sock"
        command = [
            "dockerd",
            "--host",
            host,
            "--data-root",
            str(data),
            "--exec-root",
            f"{folder}/exec",
            "--pidfile",
            f"{folder}/pid",
        ]
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            try:
                wait_for(
                    lambda: process.poll() is not None or _answers(docker, host),
                    60,
                    "dockerd answers",
                    poll_seconds=0.2,
                )
            except AssertionError:
                pytest.skip(f"dockerd does not start here: {log.read_text()[-300:]}")
            if process.poll() is not None:
                pytest.skip(f"dockerd does not start here: {log.read_text()[-300:]}")
            yield Engine(docker, _compose(docker), host)
        finally:
            process.terminate()
            process.wait(60)


def _docker() -> str:
    """Return the client to use: of several on PATH the first that brings the compose plugin, else the first."""
    folders = os.get_exec_path()
    found = [str(path) for path in (Path(folder) / "docker" for folder in folders) if os.access(path, os.X_OK)]
    if not found:
        pytest.skip("docker is not on PATH")
    return next((docker for docker in found if _succeeds(docker, "compose", "version")), found[0])


def _compose(docker: str) -> tuple[str, ...]:
    if _succeeds(docker, "compose", "version"):
        return (docker, "compose")
    standalone = shutil.which("docker-compose")
    if standalone is None:
        pytest.skip("neither `docker compose` nor docker-compose is installed")
    return (standalone,)


def _answers(docker: str, host: str = "") -> bool:
    return _succeeds(docker, "info", "--format", "{{.ServerVersion}}", host=host)


def _succeeds(*command: str, host: str = "") -> bool:
    quiet = subprocess.DEVNULL
    return subprocess.run(command, env=_environment(host), stdout=quiet, stderr=quiet, check=False).returncode == 0


def _environment(host: str) -> dict[str, str]:
    # Not `--host`: docker-compose 1.29 calls docker to build, and does not hand that on.
    return process_environment(**({"DOCKER_HOST": host} if host else {}))


def _run(command: Sequence[str], host: str, seconds: float, stdin: IO[bytes] | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            env=_environment(host),
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            cwd=REPOSITORY,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{' '.join(command)} was not done after {seconds:g} s") from None
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout
