"""`harkline up`: the whole system on one machine, in the foreground, from one command; and its clean end.

Every program is the ordinary one with its ordinary command line (`programs`), in a process group of its own, so that Ctrl-C reaches only us and the
order of stopping is ours: what stores stops last.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from harkline import programs
from harkline.errors import HarklineError, LedgerUnavailable
from harkline.ledger import Ledger, connect, wait_for_redis
from harkline.settings import Settings, load_settings, make_secret, process_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harkline.contract import CriticalLine

STOP_SECONDS = 7.0
READY_SECONDS = 60.0
_LONGEST_RESTART_PAUSE_SECONDS = 10.0
_LOG_BYTES = 10 * 2**20
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Running:
    """One program of the system and its process."""

    program: programs.Program
    process: subprocess.Popen[bytes]
    log: Path
    restarts: int = 0
    buried: bool = False  # its death was seen, and what was left of its group is gone
    started: float = field(default_factory=time.monotonic)


class System:
    """The programs of one system, supervised."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self.settings = _completed(settings)
        self._say = say
        self._running: list[Running] = []
        self._stopping = threading.Event()
        self._asked_at = 0.0  # monotonic seconds
        self._began_at = time.time()
        self._lock = _lock(settings)

    def start(self) -> None:
        """Start everything, in order, and return once a line can be sent; raises HarklineError that says what is in the way."""
        settings = self.settings
        _require_free_ports(settings)
        client = connect(settings)
        if not _answers(client):
            if urlsplit(settings.redis).hostname not in ("127.0.0.1", "localhost", "::1"):
                raise HarklineError(
                    f"no Redis answers at {urlsplit(settings.redis).hostname}, and harkline starts one on this machine only"
                )
            self._start(programs.redis_program(settings))
            self._wait_for_redis(client)
            if self._stopping.is_set():
                return
        Ledger(client, settings).open()
        self._start(programs.worker_program(settings))
        self._start(programs.api_program(settings))
        self._start(programs.flower_program(settings))
        for program in (programs.alertmanager_program(settings), programs.prometheus_program(settings)):
            if program is not None:
                self._start(program)
        programs.write_secret(
            state_file(settings), json.dumps({"pid": os.getpid(), "environment": settings.environment()}, indent=1)
        )
        self._wait_until_ready(Ledger(client, settings))

    def names(self) -> set[str]:
        """Return the names of the programs that were started."""
        return {running.program.name for running in self._running}

    def critical_lines(self) -> Iterator[CriticalLine]:
        """Yield critical lines as they are found, restarting programs that died meanwhile, until `stop` is asked for."""
        ledger = Ledger(connect(self.settings, timeout_seconds=1.0), self.settings)
        position = ""
        while not self._stopping.is_set():
            self._mend()
            try:
                position = position or ledger.last_critical()
                for seen, line in ledger.critical_lines(position, block_seconds=0.3):
                    position = seen
                    yield line
            except LedgerUnavailable:
                self._stopping.wait(0.5)

    def ask_to_stop(self, *_: Any) -> None:
        """Signal handler: end `start` or `critical_lines`, after which the caller stops the system."""
        self._asked_at = self._asked_at or time.monotonic()
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        """Whether the end was asked for."""
        return self._stopping.is_set()

    def stop(self) -> bool:
        """Stop everything within 10 s; returns whether all programs ended by themselves. What was accepted stays on disk and is counted at the next start."""
        self._stopping.set()
        deadline = (self._asked_at or time.monotonic()) + STOP_SECONDS
        clean = True
        stores = [running for running in self._running if running.program.name == "redis"]
        for group in ([running for running in self._running if running not in stores], stores):
            for running in group:
                _signal(running, signal.SIGTERM)
            # Redis must keep a second of the ten to write its file.
            until = deadline if group is stores else deadline - 1.5
            for running in group:
                try:
                    running.process.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    clean = False
                    self._say(f"{running.program.name} did not stop in time and is killed (nothing accepted is lost)")
                    _signal(running, signal.SIGKILL)
                    running.process.wait(5)
        state_file(self.settings).unlink(missing_ok=True)
        self._lock.close()
        return clean

    def _start(self, program: programs.Program, restarts: int = 0) -> None:
        logs = self.settings.data_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{program.name}.log"
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        environment = process_environment(**(self.settings.environment() | program.environment))
        with log.open("ab") as output:
            process = subprocess.Popen(
                program.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_us,  # noqa: PLW1509 - one thread runs here
            )
        self._running = [running for running in self._running if running.program.name != program.name]
        self._running.append(Running(program, process, log, restarts))

    def _mend(self) -> None:
        """Restart what died: Celery's parent may, when Redis disconnects under it."""
        for running in list(self._running):
            code = running.process.poll()
            if code is None:
                continue
            if not running.buried:
                _signal(running, signal.SIGKILL)  # what is left of its process group
                running.buried = True
            pause = min(_LONGEST_RESTART_PAUSE_SECONDS, 0.5 * 2 ** min(running.restarts, 8))
            if time.monotonic() - running.started < pause:
                continue
            self._say(f"{running.program.name} ended with {code} and is started again (log: {running.log})")
            try:
                self._start(running.program, running.restarts + 1 if time.monotonic() - running.started < 60 else 0)
            except OSError as error:  # no memory, no file handle, no disk: try again after the pause
                self._say(f"{running.program.name} cannot be started: {error}")
                running.started = time.monotonic()
                running.restarts += 1

    def _wait_for_redis(self, client: Any) -> None:
        """Return once Redis answers (it may load a long file), or the end was asked for; raises with its log where it died."""
        redis = self._running[-1]
        deadline = time.monotonic() + READY_SECONDS
        while not self._stopping.wait(0.05):
            if redis.process.poll() is not None:
                raise HarklineError(f"redis ended with {redis.process.returncode} at start:\n{_tail(redis.log)}")
            if _answers(client):
                return
            if time.monotonic() > deadline:
                raise HarklineError(f"Redis did not answer within {READY_SECONDS:g} s:\n{_tail(redis.log)}")

    def _wait_until_ready(self, ledger: Ledger) -> None:
        deadline = time.monotonic() + READY_SECONDS
        pause = threading.Event()
        waiting_for = "the API"
        while time.monotonic() < deadline:
            for running in self._running:
                if running.process.poll() is not None and running.program.name in ("api", "worker", "redis"):
                    raise HarklineError(
                        f"{running.program.name} ended with {running.process.returncode} at start:\n{_tail(running.log)}"
                    )
            if self._stopping.is_set():
                return
            if not _healthy(f"http://{self.settings.api_dial_host}:{self.settings.api_port}/readiness"):
                waiting_for = "the API"
            elif not any(state.at > self._began_at for state in ledger.workers().values()):
                waiting_for = "a worker"
            else:
                return
            pause.wait(0.05)
        raise HarklineError(
            f"{waiting_for} was not ready after {READY_SECONDS:g} s; see {self.settings.data_dir / 'logs'}"
        )


def state_file(settings: Settings) -> Path:
    """Return the file in which a running `harkline up` says where it is, readable by its owner only: other commands find its Redis there."""
    return settings.data_dir / "system.json"


def running_settings(settings: Settings) -> Settings:
    """Return the settings of the system that runs on this data folder, or `settings` where none does."""
    try:
        state = json.loads(state_file(settings).read_text())
        os.kill(state["pid"], 0)
    except (OSError, json.JSONDecodeError):  # none runs, or one was killed and left its file
        return settings
    names = {f"HARKLINE_{name.upper()}": name for name in Settings.model_fields}
    return load_settings(
        **{names[variable]: value for variable, value in state["environment"].items() if variable in names}
    )


def _completed(settings: Settings) -> Settings:
    """Fill in what `up` makes by itself: a private Redis on a free port with a password, and Flower's login."""
    made: dict[str, Any] = {"data_dir": settings.data_dir.resolve()}
    if not settings.redis_url.get_secret_value():
        made["redis_url"] = SecretStr(f"redis://:{quote(make_secret())}@127.0.0.1:{_free_port()}/0")
    if not settings.flower_auth.get_secret_value():
        made["flower_auth"] = SecretStr(f"harkline:{_kept_secret(settings)}")
    return settings.model_copy(update=made)


def _kept_secret(settings: Settings) -> str:
    """Return Flower's generated password, the same at every start of this data folder."""
    path = settings.data_dir / "flower-password"
    if not path.exists():
        programs.write_secret(path, make_secret())
    return path.read_text().strip()


def _lock(settings: Settings) -> Any:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    handle = (settings.data_dir / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise HarklineError(
            f"a system runs on {settings.data_dir} already; for another one set HARKLINE_DATA_DIR and the ports"
        ) from None
    return handle


def _require_free_ports(settings: Settings) -> None:
    wanted = {"api_port": settings.api_host, "metrics_port": settings.metrics_host, "flower_port": settings.flower_host}
    if programs.prometheus_program(settings) is not None:
        wanted["prometheus_port"] = "127.0.0.1"
    if programs.alertmanager_program(settings) is not None:
        wanted["alertmanager_port"] = "127.0.0.1"
    taken = []
    for name, host in wanted.items():
        port = getattr(settings, name)
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            taken.append(
                f"{host!r} is no address of this machine ({error.strerror}): set HARKLINE_{name.replace('port', 'host').upper()}"
            )
            continue
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                taken.append(f"port {port} cannot be used ({error.strerror}): set HARKLINE_{name.upper()} to another")
    if taken:
        raise HarklineError("\n".join(taken))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(client: Any) -> bool:
    try:
        wait_for_redis(client, 0)
    except LedgerUnavailable:
        return False
    return True


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _signal(running: Running, number: signal.Signals) -> None:
    # SIGTERM goes to the program alone, which knows how to end its own children; SIGKILL to all of its group.
    try:
        if number == signal.SIGKILL:
            os.killpg(running.process.pid, number)
        else:
            running.process.send_signal(number)
    except ProcessLookupError:
        return


def _die_with_us() -> None:
    """In a child before its program starts: be terminated when `harkline up` itself is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
