"""Probes and metrics: what an orchestrator, a load balancer and Prometheus ask, kept apart because they do different things with a no."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, request

from harkline.errors import LedgerUnavailable
from harkline.exposition import LedgerCollector, render
from harkline_api.describe import READ_STATUSES, json_response, operation, ref, refusals
from harkline_api.metrics import BoundCollector
from harkline_api.protocol import JSON, encode_json
from harkline_api.refusals import CODES, LEDGER_RETRY_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from harkline.ledger import Ledger
    from harkline_api.gate import Gate, GateState
    from harkline_api.metrics import Metrics

_STATUS = {"type": "object", "required": ["status"], "properties": {"status": {"const": "alive"}}}
READINESS = {
    "type": "object",
    "required": ["ready", "ledger", "backlog", "workers", "model"],
    "properties": {
        "ready": {"type": "boolean"},
        "error": {"const": "not_ready"},
        "detail": {"type": "string"},
        "ledger": {
            "type": "object",
            "required": ["up", "why"],
            "properties": {"up": {"type": "boolean"}, "why": {"type": "string", "description": "It is not up."}},
        },
        "backlog": {
            "type": "object",
            "required": ["lines", "bound_lines", "oldest_seconds", "drain_lines_per_second", "memory_full"],
            "properties": {
                "lines": {"type": "integer"},
                "bound_lines": {"type": "integer"},
                "oldest_seconds": {"type": "number"},
                "drain_lines_per_second": {"type": "number"},
                "memory_full": {"type": "boolean", "description": "Redis uses more than 80% of the memory it may."},
            },
        },
        "workers": {
            "type": "object",
            "description": "Worker processes by name, as they reported within the last half minute.",
            "additionalProperties": {
                "type": "object",
                "required": ["model", "degraded", "why", "at"],
                "properties": {
                    "model": {"type": "string"},
                    "degraded": {"type": "boolean"},
                    "why": {"type": "string"},
                    "at": {"type": "number"},
                },
            },
        },
        "model": {
            "type": "object",
            "required": ["versions", "degraded"],
            "properties": {
                "versions": {"type": "array", "items": {"type": "string"}},
                "degraded": {"type": "boolean", "description": "At least one worker process judges by rules alone."},
            },
        },
    },
}

OPERATIONS = {
    "/health": {
        "get": operation(
            "getHealth", "Is this process alive", {"200": json_response("It is.", _STATUS)}, tags=["probe"], security=[]
        )
    },
    "/startup": {
        "get": operation(
            "getStartup",
            "Has this process started",
            {"200": json_response("It has.", _STATUS)},
            tags=["probe"],
            security=[],
        )
    },
    "/readiness": {
        "get": operation(
            "getReadiness",
            "Can lines be accepted",
            {
                "200": json_response("Redis answers and the backlog is below its bound.", ref("Readiness")),
                "503": json_response("One of these is not so.", ref("Readiness")),
            },
            tags=["probe"],
            security=[],
        )
    },
    "/metrics": {
        "get": operation(
            "getMetrics",
            "The API's metrics, for Prometheus",
            {
                "200": {
                    "description": "Prometheus' text or protobuf form, as asked for.",
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                },
                **refusals(*READ_STATUSES),
            },
            tags=["probe"],
        )
    },
}


def alive() -> Response:
    """Answer liveness and startup: that this code runs is all there is to it. Redis' absence is no reason to restart an API process."""
    return Response(encode_json({"status": "alive"}), content_type=JSON)


class Probes:
    """Readiness and metrics of this process."""

    def __init__(self, ledger: Ledger, gate: Gate, metrics: Metrics, metrics_dir: Path | None) -> None:
        self._ledger = ledger
        self._gate = gate
        self._metrics_dir = metrics_dir
        own = [] if metrics_dir is not None else [metrics.registry]
        self._collectors = [*own, LedgerCollector(ledger), BoundCollector(gate)]

    def readiness(self) -> Response:
        """Answer whether lines can be accepted, and tell the state of everything behind it."""
        state = self._gate.current()
        workers = {}
        if state.up:
            try:
                workers = self._ledger.workers()
            except LedgerUnavailable as error:
                self._gate.fail(error)
                state = state._replace(up=False, why=str(error))
        ready = state.up and state.stats.backlog_lines < state.bound_lines
        body: dict[str, object] = {
            "ready": ready,
            "ledger": {"up": state.up, "why": state.why},
            "backlog": {
                "lines": state.stats.backlog_lines,
                "bound_lines": state.bound_lines,
                "oldest_seconds": round(state.stats.oldest_seconds, 3),
                "drain_lines_per_second": round(state.drain_lines_per_second, 1),
                "memory_full": state.memory_full,
            },
            "workers": workers,
            "model": {
                "versions": sorted({worker.model for worker in workers.values() if worker.model}),
                "degraded": any(worker.degraded for worker in workers.values()),
            },
        }
        if ready:
            return Response(encode_json(body), content_type=JSON)
        body |= {"error": "not_ready", "detail": _not_ready(state)}
        return Response(encode_json(body), 503, {"Retry-After": str(LEDGER_RETRY_SECONDS)}, content_type=JSON)

    def metrics(self) -> Response:
        """Answer a scrape."""
        body, content_type = render(self._metrics_dir, self._collectors, request.headers.get("Accept", ""))
        return Response(body, content_type=content_type)


def _not_ready(state: GateState) -> str:
    if not state.up:
        return state.why or CODES["not_ready"].meaning
    if state.memory_full:
        return "Redis uses more than 80% of the memory it may"
    return f"{state.stats.backlog_lines} lines wait, the bound is {state.bound_lines}"
