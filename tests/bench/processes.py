"""Programs under measurement: started in sessions of their own, so that every process of theirs, dead or alive, can be charged to them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
# Fields of /proc/<pid>/stat after the command name, counted from 0 (proc_pid_stat(5) counts from 3).
_STATE, _SESSION, _UTIME, _CSTIME = 0, 3, 11, 14


class Memory(NamedTuple):
    """What one process holds."""

    pid: int
    command: str
    pss_mib: float  # its own pages, and its share of those that others use too


@dataclass
class Program:
    """One running program: the leader of a session, and all that it started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def cpu_seconds(self) -> float:
        """CPU time of the whole session so far: living processes, zombies, and the dead that a living one has waited for."""
        return sum(process.cpu_seconds for process in _session(self.process.pid))

    def pids(self) -> list[int]:
        """Return the living processes of the session, the leader first."""
        return sorted(process.pid for process in _session(self.process.pid) if process.is_alive)

    def memory(self) -> list[Memory]:
        """Return what each living process holds."""
        return [memory for pid in self.pids() if (memory := _memory(pid)) is not None]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the session."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        """End it as its operator would, then for sure."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.signal(signal.SIGKILL)  # what it left behind

    def said(self, lines: int = 15) -> str:
        """Return the end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def start(name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Program:
    """Start a program in a session of its own; it is told to end when this process dies."""
    # Looked up here: between fork and exec nothing may be loaded, since another thread may hold the loader's lock.
    die_with_us = functools.partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGTERM)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_us,  # noqa: PLW1509 - one system call
        )
    return Program(name, process, log)


class _Process(NamedTuple):
    pid: int
    is_alive: bool
    cpu_seconds: float  # those of its dead children included


def _session(leader: int) -> list[_Process]:
    """Return the processes of a session, zombies too."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The name in parentheses may hold spaces and parentheses itself.
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:  # it ended while we looked
            continue
        if int(fields[_SESSION]) == leader:
            seconds = sum(map(int, fields[_UTIME : _CSTIME + 1])) / _TICKS
            found.append(_Process(int(folder.name), fields[_STATE] != b"Z", seconds))
    return found


def _memory(pid: int) -> Memory | None:
    folder = Path("/proc") / str(pid)
    try:
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        rollup = (folder / "smaps_rollup").read_text()
    except OSError:
        return None
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return Memory(pid, command, int(line.split()[1]) / 1024)
    return None
