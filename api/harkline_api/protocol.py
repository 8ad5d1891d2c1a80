"""What every wire format has in common, so that adding one is one file and one line in `ingest.PROTOCOLS`.

A protocol decodes a request's body into lines, and speaks its own language in success and in refusal. It never sees Flask, Redis or a
socket: authentication, limits, decompression, publishing and waiting are the intake's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from typing import Protocol as Interface

import msgspec

from harkline.lines.decoded import Defaults
from harkline.lines.incoming import MAX_FIELD_CHARS
from harkline_api.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harkline.contract import Verdict
    from harkline.lines.decoded import Decoded, Limits
    from harkline.lines.faults import Rejected

JSON = "application/json"

_encoder = msgspec.json.Encoder()


class HeaderFields(Interface):
    """A request's headers, by name in any case."""

    def get(self, key: str, default: str, /) -> str:
        """Return the value of a header, as latin-1 (WSGI's way), or `default`."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request as a decoder sees it: the body is decompressed and within its limit."""

    body: bytes
    content_type: str  # lower case, without parameters; "" where the sender said none
    charset: str  # lower case; "" where the sender said none
    args: Mapping[str, str]  # of the query
    headers: HeaderFields
    path: Mapping[str, str]  # the variable parts of the route
    limits: Limits


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request of which at least one line was accepted and is durable."""

    accepted: int
    rejected: list[Rejected]
    batch: str
    verdicts: (
        list[Verdict] | None
    )  # in the order of the accepted lines; None where none were waited for, or not in time


class Answer(NamedTuple):
    """A response, before Flask."""

    status: int
    body: bytes
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Protocol:
    """One wire format. `name` is its label in metrics; `operations` describes it in OpenAPI, by path and method."""

    name: str
    routes: tuple[str, ...]
    methods: tuple[str, ...]
    decode: Callable[[Received], Decoded]
    answer: Callable[[Outcome], Answer]
    refuse: Callable[[Refusal], Answer]
    operations: Mapping[str, Mapping[str, Mapping[str, Any]]]


def defaults_of(received: Received) -> Defaults:
    """Read `?service=&environment=&level=`, or the headers X-Service, X-Environment and X-Level; the query wins."""
    values = []
    for name in Defaults._fields:
        value = received.args.get(name)
        if value is None:
            # WSGI hands headers over as latin-1, whatever they are.
            value = received.headers.get(f"X-{name}", "").encode("latin-1", "replace").decode("utf-8", "replace")
        if len(value) > MAX_FIELD_CHARS:
            raise Refusal(f"bad_{name}")
        values.append(value)
    return Defaults(*values)


def encode_json(body: object) -> bytes:
    """Return JSON; our structs become objects."""
    return _encoder.encode(body)


def accepted_json(status: int) -> Callable[[Outcome], Answer]:
    """Return the success answer of our own calls, with their status."""

    def answer(outcome: Outcome) -> Answer:
        body: dict[str, object] = {"accepted": outcome.accepted, "rejected": outcome.rejected, "batch": outcome.batch}
        if outcome.verdicts is not None:
            body["verdicts"] = outcome.verdicts
        return Answer(status, encode_json(body))

    return answer


def refused_json(refusal: Refusal) -> Answer:
    """Return the error answer of our own calls."""
    return Answer(refusal.status, encode_json(refusal.body()))
