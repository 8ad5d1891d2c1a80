"""The wire formats that harkline takes in. A new one is one file in this folder and one line in this table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harkline_api.ingest import json_lines, path_line

if TYPE_CHECKING:
    from harkline_api.protocol import Protocol

PROTOCOLS: tuple[Protocol, ...] = (
    json_lines.LOGS,
    json_lines.INGEST,
    path_line.LOG,
)
