"""Our own format over HTTP: which of its forms a request's Content-Type says, and what its query asks for. `harkline.lines` decodes it.

`POST /logs` answers 202, as lines are counted later; `POST /ingest` is the same call for generic HTTP outputs that take 202 for a failure, and
answers exactly 200.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harkline.lines import native
from harkline.lines.faults import Undecodable
from harkline_api.describe import JOIN, LINE_PARAMETERS, LINES_BODY, probe_operation, send_operation
from harkline_api.protocol import Protocol, accepted_json, defaults_of, refused_json
from harkline_api.refusals import Refusal

if TYPE_CHECKING:
    from harkline.lines.decoded import Decoded
    from harkline.lines.native import Form
    from harkline_api.protocol import Received

_JSON = re.compile(r"(?:application|text)/(?:[\w.+-]+\+)?json")
_NDJSON = re.compile(r"application/(?:x-)?(?:ndjson|jsonl|jsonlines|json-lines|json-stream|stream\+json)")
# What senders say that do not know what they send: nothing, what `curl -d` says, or "bytes".
_UNSAID = ("", "application/x-www-form-urlencoded", "application/octet-stream")


def decode(received: Received) -> Decoded:
    """Return the lines of a body of any of the four forms."""
    defaults = defaults_of(received)
    if received.charset not in ("", "utf-8", "utf8", "us-ascii", "ascii"):
        raise Refusal("unknown_charset", f"charset {received.charset!r}: send UTF-8")
    join = _wants_join(received)
    try:
        return native.decode(received.body, _form(received.content_type), defaults, received.limits, join=join)
    except Undecodable as error:
        raise Refusal(error.code, error.detail) from error


def _form(content_type: str) -> Form | None:
    """Return the form that a Content-Type says; None where the body must tell."""
    if content_type in _UNSAID:
        return None
    if _NDJSON.fullmatch(content_type):
        return "ndjson"
    if _JSON.fullmatch(content_type):
        return "json"
    if content_type.startswith("text/"):
        return "plain"
    raise Refusal(
        "unknown_content_type", f"{content_type!r}: send application/json, application/x-ndjson or text/plain"
    )


def _wants_join(received: Received) -> bool:
    asked = received.args.get("join")
    if asked is None:
        return received.limits.join_traces
    if asked not in ("true", "false"):
        raise Refusal("bad_join", f"join={asked!r}: say true or false")
    return asked == "true"


LOGS = Protocol(
    name="logs",
    routes=("/logs",),
    methods=("POST",),
    decode=decode,
    answer=accepted_json(202),
    refuse=refused_json,
    operations={
        "/logs": {
            "post": send_operation(
                "sendLines", "Send lines", 202, parameters=[*LINE_PARAMETERS, JOIN], requestBody=LINES_BODY
            ),
        }
    },
)
INGEST = Protocol(
    name="ingest",
    routes=("/ingest",),
    methods=("POST", "HEAD"),
    decode=decode,
    answer=accepted_json(200),
    refuse=refused_json,
    operations={
        "/ingest": {
            "post": send_operation(
                "ingestLines",
                "Send lines, for outputs that want exactly 200",
                200,
                parameters=[*LINE_PARAMETERS, JOIN],
                requestBody=LINES_BODY,
            ),
            "head": probe_operation("probeIngest", "Check that lines may be sent"),
        }
    },
)
