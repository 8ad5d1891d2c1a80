"""The command line behind a real terminal, as a person meets it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from harkline.settings import process_environment

if TYPE_CHECKING:
    from pathlib import Path

    from harkline.settings import Settings

SECONDS = 120
_HARKLINE = "from harkline.cli import main; main()"


def environment(settings: Settings) -> dict[str, str]:
    """Return an environment with these settings and no others."""
    clean = {name: value for name, value in process_environment().items() if not name.startswith("HARKLINE_")}
    return clean | settings.environment() | {"TERM": "xterm-256color", "COLUMNS": "160"}


def on_terminal(settings: Settings, folder: Path, *arguments: str, typed: bytes = b"") -> tuple[int, str]:
    """Run `harkline` with everything on a terminal, on which `typed` is typed when it asks; returns exit status and screen."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _HARKLINE, *arguments],
        cwd=folder,
        env=environment(settings),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        screen = b""
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux: nobody holds the other end any more
                break
            if not piece:
                break
            screen += piece
            if typed and b"[y/N]" in screen:
                os.write(ours, typed)
                typed = b""
        os.close(ours)
        return process.wait(SECONDS), screen.decode()
