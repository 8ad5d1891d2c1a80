"""Serve the worker's metrics from the worker's parent: one port per worker, however many children count.

The parent and not the children, because N children would race for one port; a thread and not another process, so that it lives and dies with the
worker. Every scrape reads all children's files, of dead children too: a sum that drops would read as a reset, and as a false alert.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client.exposition import ThreadingWSGIServer

from harkline.exposition import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIEnvironment

    from prometheus_client.registry import Collector


class _QuietHandler(WSGIRequestHandler):
    # A scraper that stalls must not hold its thread for ever.
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: a scrape every few seconds is no event."""


class Exposition:
    """The metrics endpoint of one worker: `/metrics`, and `/health` for probes."""

    def __init__(self, host: str, port: int, multiproc_dir: Path, collectors: Sequence[Collector]) -> None:
        self._multiproc_dir = multiproc_dir
        self._collectors = collectors
        self._server = make_server(host, port, self._answer, ThreadingWSGIServer, handler_class=_QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="exposition", daemon=True)

    def start(self) -> None:
        """Begin to serve, in a daemon thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving; called in the parent at shutdown, returns when the port is free."""
        self._server.shutdown()
        self._server.server_close()

    def forget(self) -> None:
        """Close the inherited socket in a forked child: a child that outlives its parent must not hold the port."""
        self._server.socket.close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/health":
            body, content_type, status = b"ok\n", "text/plain; charset=utf-8", HTTPStatus.OK
        elif path == "/metrics":
            body, content_type = render(self._multiproc_dir, self._collectors, environ.get("HTTP_ACCEPT", ""))
            status = HTTPStatus.OK
        else:
            body, content_type, status = (
                b"not found: /metrics and /health are here\n",
                "text/plain; charset=utf-8",
                HTTPStatus.NOT_FOUND,
            )
        start_response(
            f"{status.value} {status.phrase}", [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        )
        return [body]
