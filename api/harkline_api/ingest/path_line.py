"""The first demo's call: a line in the address, `GET /log/<message>`, so that a browser or a bare curl can send one.

Whatever stands after `/log/` is the message, slashes and line breaks included; a question mark begins the query, so it must be written %3F.
Addresses end up in the logs of proxies: for trying out, not for production.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harkline.lines.decoded import to_lines
from harkline_api.describe import LINE_PARAMETERS, send_operation
from harkline_api.protocol import Protocol, accepted_json, defaults_of, refused_json

if TYPE_CHECKING:
    from harkline.lines.decoded import Decoded
    from harkline_api.protocol import Received

_MESSAGE = {
    "name": "message",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": r"\S"},
    "description": "The line.",
}


def decode(received: Received) -> Decoded:
    """Return the one line; a body, if there is one, is not looked at."""
    return to_lines([received.path["message"]], defaults_of(received), received.limits)


LOG = Protocol(
    name="log",
    routes=("/log/<text:message>",),
    methods=("GET", "POST"),
    decode=decode,
    answer=accepted_json(202),
    refuse=refused_json,
    operations={
        "/log/{message}": {
            "get": send_operation(
                "sendLineByGet", "Send one line in the address", 202, parameters=[_MESSAGE, *LINE_PARAMETERS]
            ),
            "post": send_operation(
                "sendLineByPost", "Send one line in the address", 202, parameters=[_MESSAGE, *LINE_PARAMETERS]
            ),
        }
    },
)
