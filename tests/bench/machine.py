"""The machine that numbers were taken on, in words, and how much of it others used meanwhile: a number from a busy machine says so itself."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_INSTRUCTIONS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "sve",
)
_PACKAGES = ("onnxruntime", "torch", "transformers", "celery", "gunicorn")


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def flags() -> set[str]:
    """Return the processor's features."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def describe() -> str:
    """Return one sentence about this machine and what runs on it; no name of a host, no path."""
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in facts if line.startswith("model name")]
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    having = flags()
    words = [
        f"{cores()} cores of {models[0] if models else platform.machine()}"
        + (" (virtual)" if "hypervisor" in having else ""),
        f"with {', '.join(name for name in _INSTRUCTIONS if name in having) or 'no vector instructions we know'}",
        f"{memory_kib / 2**20:.0f} GiB of memory",
    ]
    software = [f"Python {platform.python_version()}", _redis_version()]
    for package in _PACKAGES:
        try:
            software.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{', '.join(words)}; {', '.join(software)}"


class Others(NamedTuple):
    """What other programs, and other machines on the same host, took while something was measured."""

    cores: float  # busy cores that were not ours, on average
    stolen: float  # cores' worth of time that the host gave to others


class Watch:
    """Measures what others take, from its making until `others` is asked."""

    def __init__(self) -> None:
        self._began = _reading()

    def others(self) -> Others:
        """Return what others took so far; programs of ours must have ended by now, or their time is taken for others'."""
        then, now = self._began, _reading()
        elapsed = max(1e-9, now[0] - then[0])
        busy, stolen, ours = (now[at] - then[at] for at in (1, 2, 3))
        return Others(max(0.0, busy - ours) / elapsed, stolen / elapsed)


def _reading() -> tuple[float, float, float, float]:
    """Return monotonic time, busy and stolen CPU seconds of the machine, and those of this process and its dead children."""
    user, nice, system, _, _, irq, softirq, stolen = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ours = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return time.monotonic(), (user + nice + system + irq + softirq) / _TICKS, stolen / _TICKS, ours


def _redis_version() -> str:
    try:
        said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return "the bundled Redis"
    return f"Redis {said.partition('v=')[2].split(' ')[0]}"
