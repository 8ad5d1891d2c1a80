"""The application factory: every part is made here, once, and handed what it needs. Nothing happens at import."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flask import Flask, Response, request
from prometheus_client import CollectorRegistry
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from harkline.errors import LedgerError
from harkline.logs import get_logger
from harkline_api import health
from harkline_api.auth import Keys
from harkline_api.batches import batch_view
from harkline_api.gate import Gate
from harkline_api.ingest import PROTOCOLS
from harkline_api.intake import Intake
from harkline_api.metrics import Metrics
from harkline_api.openapi import describe
from harkline_api.pages import docs_view, front_view
from harkline_api.protocol import JSON, encode_json, refused_json
from harkline_api.publisher import Publisher
from harkline_api.refusals import CODES, Refusal, refusal_of
from harkline_api.stream import Stream
from harkline_api.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harkline.ledger import Ledger
    from harkline.settings import Settings

log = get_logger(__name__)

# Where the application keeps its parts, for whoever must close it: gunicorn's hooks, and tests.
EXTENSION = "harkline"
# Open to everyone: an orchestrator has no key, and these tell nothing that one could misuse.
OPEN_ENDPOINTS = ("health", "startup", "readiness")

_STATUS_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unknown_content_type"}


class Parts:
    """What runs behind the views of one application."""

    def __init__(self, settings: Settings, ledger: Ledger, ring: Callable[[], None]) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.prepare([protocol.name for protocol in PROTOCOLS])
        self.keys = Keys(settings.keys)
        self.gate = Gate(ledger, settings)
        self.publisher = Publisher(ledger, self.gate, ring, settings, self.metrics)
        self.waiting = Waiting(ledger, settings, self.metrics)
        self.stream = Stream(ledger, self.gate, settings)

    def stop_waiting(self) -> None:
        """End what may last: streams and waiting requests. Called when the process begins to stop, so that it can."""
        self.stream.close()
        self.waiting.close()

    def close(self) -> None:
        """End every thread; what was queued is written first."""
        self.stop_waiting()
        self.publisher.close()
        self.gate.close()


class _AnyText(BaseConverter):
    """The rest of the path, slashes and line breaks included."""

    part_isolating = False
    regex = r"[\s\S]+"


def create_app(settings: Settings, ledger: Ledger, ring: Callable[[], None], metrics_dir: Path | None = None) -> Flask:
    """Return the API. `ring` publishes a doorbell; `metrics_dir` holds the files of multiprocess metrics, where there are several processes."""
    app = Flask("harkline_api", static_folder=None)
    app.url_map.merge_slashes = False  # a message may hold two in a row
    app.url_map.converters["text"] = _AnyText
    parts = Parts(settings, ledger, ring)
    app.extensions[EXTENSION] = parts
    intake = Intake(settings, parts.keys, parts.gate, parts.publisher, parts.waiting, parts.metrics)
    probes = health.Probes(ledger, parts.gate, parts.metrics, metrics_dir)
    document = describe(PROTOCOLS, keys_required=parts.keys.required)
    description = encode_json(document)
    intake_endpoints = set()

    for protocol in PROTOCOLS:
        view = intake.view(protocol)
        for route in protocol.routes:
            endpoint = f"intake {route}"
            intake_endpoints.add(endpoint)
            app.add_url_rule(route, endpoint, view, methods=protocol.methods)
    for route, endpoint, read in (
        ("/batches/<batch>", "batch", batch_view(ledger, parts.gate)),
        ("/stream", "stream", parts.stream.view),
        ("/health", "health", health.alive),
        ("/startup", "startup", health.alive),
        ("/readiness", "readiness", probes.readiness),
        ("/metrics", "metrics", probes.metrics),
        ("/openapi.json", "openapi", lambda: Response(description, content_type=JSON)),
        ("/docs", "docs", docs_view(document)),
        ("/", "front", front_view(keys_required=parts.keys.required)),
    ):
        app.add_url_rule(route, endpoint, read, methods=("GET",))

    @app.before_request
    def authenticate() -> None:
        # Senders are refused in the language of their protocol, so the intake asks for the key itself.
        if request.endpoint not in OPEN_ENDPOINTS and request.endpoint not in intake_endpoints:
            parts.keys.caller(request.headers)

    app.after_request(_harden)
    app.register_error_handler(Refusal, _answer)
    app.register_error_handler(LedgerError, lambda error: _answer(refusal_of(error)))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    return app


def _harden(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    return response


def _answer(refusal: Refusal) -> Response:
    answer = refused_json(refusal)
    return Response(answer.body, answer.status, refusal.headers, content_type=answer.content_type)


def _http_error(error: HTTPException) -> Response:
    """Put what Flask refuses by itself into our words, keeping its headers (Allow)."""
    status = error.code or 500
    name = re.sub(r"\W+", "_", error.name.lower())
    code = _STATUS_CODES.get(status, "bad_request" if status < 500 else "internal_error")
    body = {"error": code if CODES[code].status == status else name, "detail": error.description or error.name}
    response = Response(encode_json(body), status, content_type=JSON)
    for header, value in error.get_headers():
        if header.lower() not in ("content-type", "content-length"):
            response.headers[header] = value
    return response


def _unexpected(error: Exception) -> Response:
    # The endpoint, not the path: a path may hold the text of a line.
    log.error("request_failed", endpoint=request.endpoint, exc_info=error)
    return _answer(
        Refusal("internal_error", "an unexpected fault, which is in the log; nothing is promised of this request")
    )
