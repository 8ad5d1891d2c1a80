"""The description of the API (OpenAPI 3.1), put together from what each call says of itself: `/openapi.json`, and what `/docs` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harkline import __version__
from harkline_api import batches, health, stream
from harkline_api.describe import (
    ACCEPTED,
    ERROR,
    EXPLANATION,
    LINE,
    READ_STATUSES,
    REJECTED,
    TEXT_LINE,
    VERDICT,
    operation,
    ref,
    refusals,
)
from harkline_api.refusals import CODES, RETRYABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harkline_api.protocol import Protocol

Json = dict[str, Any]

_INTRODUCTION = f"""Send log lines; harkline finds those that a person on call would want to be told of.

A line that was answered with 2xx is durable and will be classified and counted exactly once. Any good line in a request is accepted, and the bad
ones come back in `rejected`, each with its index and a code; a request without a good line is refused. Retry {", ".join(map(str, RETRYABLE[:-1]))} and
{RETRYABLE[-1]}, after `Retry-After` where it is given and with the same Idempotency-Key, and nothing else."""

_PAGES = {
    "/openapi.json": {
        "get": operation(
            "getDescription",
            "This description",
            {
                "200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}},
                **refusals(*READ_STATUSES),
            },
            tags=["about"],
        )
    },
    "/docs": {
        "get": operation(
            "getDocs",
            "This description, for people",
            {
                "200": {"description": "A page.", "content": {"text/html": {"schema": {"type": "string"}}}},
                **refusals(*READ_STATUSES),
            },
            tags=["about"],
        )
    },
    "/": {
        "get": operation(
            "getFront",
            "What this is and how to send a line",
            {
                "200": {"description": "A page.", "content": {"text/html": {"schema": {"type": "string"}}}},
                **refusals(*READ_STATUSES),
            },
            tags=["about"],
        )
    },
}

_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Splunk` and `ApiKey` are understood in the place of `Bearer`.",
    },
    "basic": {"type": "http", "scheme": "basic", "description": "The key is the password, or the user."},
    "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "datadog": {"type": "apiKey", "in": "header", "name": "DD-API-KEY"},
}


def describe(protocols: Sequence[Protocol], *, keys_required: bool) -> Json:
    """Return the description of every call, with security only where this API asks for keys."""
    paths: Json = {}
    for protocol in protocols:
        for path, operations in protocol.operations.items():
            paths.setdefault(path, {}).update(operations)
    for group in (batches.OPERATIONS, stream.OPERATIONS, health.OPERATIONS, _PAGES):
        paths.update(group)
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "harkline",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "send", "description": "Lines in."},
            {"name": "read", "description": "Verdicts and critical lines out."},
            {"name": "probe", "description": "For orchestrators and Prometheus."},
            {"name": "about", "description": "What this is."},
        ],
        "paths": paths,
        "components": {
            "schemas": {
                "Line": LINE,
                "TextLine": TEXT_LINE,
                "Verdict": VERDICT,
                "Explanation": EXPLANATION,
                "Rejected": REJECTED,
                "Accepted": ACCEPTED,
                "Error": ERROR,
                "Batch": batches.BATCH,
                "CriticalLine": stream.CRITICAL_LINE,
                "Readiness": health.READINESS,
            },
            "responses": {str(status): _refused(status) for status in sorted({code.status for code in CODES.values()})},
        },
    }
    if keys_required:
        document["components"]["securitySchemes"] = _SCHEMES
        document["security"] = [{name: []} for name in _SCHEMES]
    return document


def _refused(status: int) -> Json:
    codes = {name: code.meaning for name, code in CODES.items() if code.status == status}
    response: Json = {
        "description": "; ".join(f"`{name}`: {meaning}" for name, meaning in codes.items()),
        "content": {
            "application/json": {
                "schema": {"allOf": [ref("Error"), {"properties": {"error": {"enum": list(codes)}}}]},
            }
        },
    }
    if status in RETRYABLE:
        response["headers"] = {
            "Retry-After": {
                "schema": {"type": "integer", "minimum": 1},
                "description": "Seconds after which to try again.",
            }
        }
    if status == 401:
        response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return response
