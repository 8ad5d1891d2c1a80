"""`GET /stream`: critical lines as they are found, as server-sent events (WHATWG HTML, section 9.2), resumable by Last-Event-ID.

Each event's data is one line of JSON, so no text of a log can end the event or begin another. Each reader holds a thread and a Redis
connection for as long as it reads, so their number is bounded.
"""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from typing import TYPE_CHECKING

import msgspec
from flask import Response, request

from harkline.errors import LedgerUnavailable
from harkline_api.describe import READ_STATUSES, operation, ref, refusals
from harkline_api.protocol import encode_json
from harkline_api.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harkline.contract import CriticalLine
    from harkline.ledger import Ledger
    from harkline.settings import Settings
    from harkline_api.gate import Gate

HEARTBEAT_SECONDS = 15.0
# How long one read of Redis blocks: shorter than the client's socket timeout, and how fast a shutdown is noticed.
BLOCK_SECONDS = 0.5
RETRY_AFTER_SECONDS = 10
RECONNECT_MS = 3000

_POSITION = re.compile(r"[0-9]{1,20}(?:-[0-9]{1,20})?")
_POSITION_MAX = 2**64 - 1  # Redis' limit for either half of a stream id

CRITICAL_LINE = {
    "type": "object",
    "description": "The data of each event.",
    "required": ["batch", "accepted_at", "line", "verdict"],
    "properties": {
        "batch": {"type": "string"},
        "accepted_at": {"type": "number", "description": "Seconds since the epoch."},
        "line": {"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}},
        "verdict": ref("Verdict"),
    },
}

OPERATIONS = {
    "/stream": {
        "get": operation(
            "streamCriticalLines",
            "Read critical lines as they are found",
            {
                "200": {
                    "description": "Server-sent events named `critical`, each with an id to resume from; a comment every 15 s.",
                    "content": {"text/event-stream": {"schema": {"type": "string"}}},
                },
                **refusals(*READ_STATUSES, 400, 503),
            },
            parameters=[
                {
                    "name": name,
                    "in": place,
                    "schema": {"type": "string", "pattern": r"^[0-9]{1,19}(-[0-9]{1,19})?$"},
                    "description": description,
                }
                for name, place, description in (
                    ("Last-Event-ID", "header", "Go on after this event. Browsers send it when they reconnect."),
                    ("after", "query", "The same, for the first request; 0 begins with the oldest line that is kept."),
                )
            ],
            tags=["read"],
        )
    }
}


class Stream:
    """The readers of this process."""

    def __init__(self, ledger: Ledger, gate: Gate, settings: Settings) -> None:
        self._ledger = ledger
        self._gate = gate
        self._clients_max = min(settings.stream_max_clients, max(1, settings.api_threads // 4))
        self._clients = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def view(self) -> Response:
        """Answer one reader, for as long as it reads."""
        said = [
            place for place in (request.headers.get("Last-Event-ID"), request.args.get("after")) if place is not None
        ]
        if not all(_is_position(place) for place in said):
            raise Refusal("bad_position", "say an id that the stream gave, or 0")
        self._gate.require_up()
        position = said[0] if said else self._ledger.last_critical()
        with self._lock:
            if self._clients >= self._clients_max:
                raise Refusal("too_many_readers", retry_after_seconds=RETRY_AFTER_SECONDS)
            self._clients += 1
        events = self._events(position, request.environ.get("gunicorn.socket"))
        response = Response(events, content_type="text/event-stream; charset=utf-8")
        response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        # Also called where the reader left before the first event, unlike a `finally` in the generator.
        response.call_on_close(self._leave)
        return response

    def close(self) -> None:
        """End every reader's stream; they come back to another process by themselves."""
        self._closing.set()

    def _leave(self) -> None:
        with self._lock:
            self._clients -= 1

    def _events(self, position: str, connection: socket.socket | None) -> Iterator[bytes]:
        yield b"retry: %d\n\n" % RECONNECT_MS
        said_at = time.monotonic()
        while not self._closing.is_set() and not _hung_up(connection):
            try:
                found = self._ledger.critical_lines(position, BLOCK_SECONDS)
            except LedgerUnavailable:
                found = []
                self._closing.wait(BLOCK_SECONDS)
            if found:
                yield b"".join(_event(at, line) for at, line in found)
                position = found[-1][0]
                said_at = time.monotonic()
            elif time.monotonic() - said_at >= HEARTBEAT_SECONDS:
                # Proxies close what is silent; and where no socket is at hand, only writing tells that the reader is gone.
                yield b": still here\n\n"
                said_at = time.monotonic()


def _hung_up(connection: socket.socket | None) -> bool:
    """Return whether the reader closed its end, which makes the socket readable with nothing to read."""
    if connection is None:
        return False
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True


def _is_position(text: str) -> bool:
    return bool(_POSITION.fullmatch(text)) and all(int(part) <= _POSITION_MAX for part in text.split("-"))


def _event(position: str, critical: CriticalLine) -> bytes:
    # A LogLine is an array on the wire and an object for people.
    data = {
        "batch": critical.batch,
        "accepted_at": critical.accepted_at,
        "line": msgspec.structs.asdict(critical.line),
        "verdict": critical.verdict,
    }
    return b"id: %b\nevent: critical\ndata: %b\n\n" % (position.encode(), encode_json(data))
