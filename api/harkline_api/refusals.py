"""Why a request or a line is refused: one table of short codes, the same in bodies, metric labels, the API's description and tests.

Whether a sender may retry is decided here and nowhere else: 429, 502, 503 and 504 are retryable, everything else is permanent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harkline.errors import BacklogFull, KeyConflict, LedgerError
from harkline.lines.faults import LINE_FAULTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harkline.lines.faults import Rejected

RETRYABLE = (429, 502, 503, 504)

# Redis comes back within a second or two of a restart; a probe looks several times a second.
LEDGER_RETRY_SECONDS = 2


class Code(NamedTuple):
    """What one code means and the HTTP status of a request that is refused for it."""

    status: int
    meaning: str


# What is wrong with a line is for `harkline.lines` to say; 422 where it is JSON and does not mean a line.
_LINE_STATUSES = {"bad_json": 400, "bad_utf8": 400, "too_deep": 400, "line_too_long": 413}
LINE_CODES: dict[str, Code] = {
    code: Code(_LINE_STATUSES.get(code, 422), meaning) for code, meaning in LINE_FAULTS.items()
}

REQUEST_CODES: dict[str, Code] = {
    "no_lines": Code(400, "the request holds no line"),
    "bad_gzip": Code(400, "the body is not gzip, or was cut short"),
    "bad_deflate": Code(400, "the body is not deflate, or was cut short"),
    "bad_zstd": Code(400, "the body is not zstd, or was cut short"),
    "incomplete_body": Code(400, "the connection ended before the body did, or the body was framed wrongly"),
    "bad_wait": Code(400, "wait is not a number of seconds of 0 or more"),
    "bad_explain": Code(400, "explain is neither true nor false"),
    "explain_without_wait": Code(
        400, "explain=true without wait: explanations come with the verdicts, which only wait=SECONDS keeps"
    ),
    "bad_join": Code(400, "join is neither true nor false"),
    "bad_position": Code(400, "the position in the stream is not one that the stream gave"),
    "bad_idempotency_key": Code(400, "the Idempotency-Key is not 1 to 255 visible ASCII characters"),
    "bad_request": Code(400, "the request is malformed"),
    "key_required": Code(401, "no API key was presented"),
    "bad_key": Code(403, "the API key is not known"),
    "cross_site": Code(403, "a web page of another site made the browser send this"),
    "not_found": Code(404, "there is no such call"),
    "unknown_batch": Code(404, "no such batch was ever given out"),
    "method_not_allowed": Code(405, "the call exists, with another method"),
    "body_too_large": Code(413, "the body is larger than HARKLINE_MAX_BODY_BYTES after decompression"),
    "too_many_lines": Code(413, "the request holds more lines than HARKLINE_MAX_REQUEST_LINES"),
    "too_many_to_explain": Code(413, "explain=true, and the request holds more lines than HARKLINE_EXPLAIN_MAX_LINES"),
    "unknown_encoding": Code(415, "the Content-Encoding is none of gzip, deflate, zstd"),
    "unknown_content_type": Code(415, "the Content-Type is neither JSON, NDJSON nor text"),
    "unknown_charset": Code(415, "the charset is not UTF-8"),
    "idempotency_key_reused": Code(422, "the Idempotency-Key came before with another body"),
    "backlog_full": Code(429, "the backlog is at its bound"),
    "internal_error": Code(500, "a fault of harkline's"),
    "ledger_unavailable": Code(503, "Redis does not answer, refuses or is full; nothing is promised"),
    "not_ready": Code(503, "Redis does not answer, or the backlog is at its bound"),
    "too_many_readers": Code(503, "all places of /stream are taken"),
}

CODES: dict[str, Code] = LINE_CODES | REQUEST_CODES


class Refusal(Exception):
    """The whole request is refused. Nothing of it was written."""

    def __init__(
        self, code: str, detail: str = "", *, rejected: Sequence[Rejected] = (), retry_after_seconds: int | None = None
    ) -> None:
        self.code = code
        self.status = CODES[code].status
        self.detail = detail or CODES[code].meaning
        self.rejected = rejected
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{code}: {self.detail}")

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with the answer, whatever its body is."""
        headers = {}
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="harkline", Basic realm="harkline"'
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(self.retry_after_seconds)
        return headers

    def body(self) -> dict[str, object]:
        """Return the body of every error of ours."""
        body: dict[str, object] = {"error": self.code, "detail": self.detail}
        if self.rejected:
            body["rejected"] = list(self.rejected)
        return body


def refusal_of(error: LedgerError) -> Refusal:
    """Say to a sender what the ledger said to us."""
    if isinstance(error, BacklogFull):
        return Refusal("backlog_full", str(error), retry_after_seconds=error.retry_after_seconds)
    if isinstance(error, KeyConflict):
        return Refusal("idempotency_key_reused", str(error))
    return Refusal("ledger_unavailable", str(error), retry_after_seconds=LEDGER_RETRY_SECONDS)


def none_accepted(rejected: Sequence[Rejected]) -> Refusal:
    """Refuse a request of which no line is good: its code is that of the first line."""
    if not rejected:
        return Refusal("no_lines")
    first = rejected[0]
    detail = f"none of {len(rejected)} lines can be accepted; line {first.index}: {CODES[first.error].meaning}"
    return Refusal(first.error, detail, rejected=rejected)
