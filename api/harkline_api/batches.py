"""`GET /batches/<id>`: what became of lines that were accepted, for whoever kept the id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response

from harkline_api.describe import READ_STATUSES, json_response, operation, ref, refusals
from harkline_api.protocol import JSON, encode_json
from harkline_api.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from harkline.ledger import Ledger
    from harkline_api.gate import Gate

BATCH = {
    "type": "object",
    "required": ["batch", "state"],
    "properties": {
        "batch": {"type": "string"},
        "state": {"enum": ["waiting", "counted"]},
        "verdicts": {
            "type": "array",
            "items": ref("Verdict"),
            "description": "In the order of the accepted lines; where ?wait= was said when they were sent, and for HARKLINE_VERDICTS_SECONDS.",
        },
    },
}

OPERATIONS = {
    "/batches/{batch}": {
        "get": operation(
            "getBatch",
            "See whether accepted lines are counted, and their verdicts",
            {"200": json_response("What is known of the batch.", ref("Batch")), **refusals(*READ_STATUSES, 404, 503)},
            parameters=[
                {
                    "name": "batch",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string"},
                    "description": "As it was given when the lines were sent.",
                }
            ],
            tags=["read"],
        )
    }
}


def batch_view(ledger: Ledger, gate: Gate) -> Callable[[str], Response]:
    """Return the view."""

    def show(batch: str) -> Response:
        gate.require_up()
        state = ledger.batch_state(batch)
        if state == "unknown":
            raise Refusal("unknown_batch", "no batch of this name was ever given out")
        body: dict[str, object] = {"batch": batch, "state": state}
        if state == "counted":
            verdicts = ledger.verdicts(batch)
            if verdicts is not None:
                body["verdicts"] = verdicts
        return Response(encode_json(body), content_type=JSON)

    return show
