"""The one view behind every protocol: authenticate, read, decode, publish, perhaps wait, answer. Protocols differ in `decode` and in how they speak."""

from __future__ import annotations

import hashlib
import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Response, request

from harkline.contract import LogBatch
from harkline.errors import LedgerError
from harkline.lines.decoded import limits_of
from harkline.lines.redaction import redactor_of
from harkline_api.body import decompress, drain, read_body
from harkline_api.protocol import Outcome, Received
from harkline_api.refusals import Refusal, none_accepted, refusal_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from harkline.lines.decoded import Limits
    from harkline.settings import Settings
    from harkline_api.auth import Keys
    from harkline_api.gate import Gate
    from harkline_api.metrics import Metrics
    from harkline_api.protocol import Answer, Protocol
    from harkline_api.publisher import Publisher
    from harkline_api.waiting import Waiting

_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True)
class Intake:
    """What every request that sends lines needs."""

    settings: Settings
    keys: Keys
    gate: Gate
    publisher: Publisher
    waiting: Waiting
    metrics: Metrics

    def view(self, protocol: Protocol) -> Callable[..., Response]:
        """Return the Flask view of one protocol."""
        redactor_of(self.settings.redact)  # compiled before the first request
        # Lines are cut only once they are redacted.
        limits = limits_of(self.settings)._replace(kept_line_chars=self.settings.max_line_bytes)

        def take(**path: str) -> Response:
            began = time.perf_counter()
            status = 500
            try:
                response = self._take(protocol, limits, path)
                status = response.status_code
            finally:
                self.metrics.count_request(protocol.name, status, time.perf_counter() - began)
            return response

        return take

    def _take(self, protocol: Protocol, limits: Limits, path: dict[str, str]) -> Response:
        try:
            try:
                caller = self._admit()
                if request.method == "HEAD":
                    return Response(status=200)
                answer = self._accept(protocol, limits, path, caller)
            except LedgerError as error:
                raise refusal_of(error) from error
        except Refusal as refusal:
            self.metrics.count_refusal(refusal.code)
            if refusal.rejected:
                self.metrics.count_rejected_lines([line.error for line in refusal.rejected])
            return _response(protocol.refuse(refusal), refusal.headers)
        return _response(answer, {})

    def _admit(self) -> str:
        # Only browsers send this header: some page, perhaps on the internet, makes a visitor's browser write here.
        cross_site = request.headers.get("Sec-Fetch-Site") == "cross-site"
        try:
            caller = self.keys.caller(request.headers)
        except Refusal:
            drain(request.stream)
            raise
        if cross_site:
            drain(request.stream)
            raise Refusal("cross_site")
        return caller

    def _accept(self, protocol: Protocol, limits: Limits, path: dict[str, str], caller: str) -> Answer:
        sent = read_body(request.stream, request.content_length, self.settings.max_body_bytes)
        self.gate.check()  # before the work of decoding
        wait_seconds = _wait_seconds(request.args.get("wait"))
        explain = _wants_explanations(request.args.get("explain"), waits=wait_seconds is not None)
        idempotency_key = _idempotency_key(request.headers.get("Idempotency-Key"))
        received = Received(
            body=decompress(sent, request.headers.get("Content-Encoding", ""), self.settings.max_body_bytes),
            content_type=request.mimetype,
            charset=request.mimetype_params.get("charset", "").lower(),
            args=request.args,
            headers=request.headers,
            path=path,
            limits=limits,
        )
        lines, rejected = protocol.decode(received)
        if not lines:
            raise none_accepted(rejected)
        if explain and len(lines) > self.settings.explain_max_lines:
            raise Refusal(
                "too_many_to_explain",
                f"explain=true with {len(lines)} lines: send at most {self.settings.explain_max_lines} at once",
            )
        lines, replaced = redactor_of(self.settings.redact).redact_lines(lines, self.settings.kept_line_chars)
        batch = LogBatch(lines, wait_seconds is not None, explain)
        # Keys of different callers never meet.
        key = f"{caller} {idempotency_key}" if idempotency_key else ""
        receipt = self.publisher.submit(batch, key, _digest(protocol, received) if key else "")
        self.metrics.count_accepted(protocol.name, len(lines))
        self.metrics.count_redactions(replaced)
        if rejected:
            self.metrics.count_rejected_lines([line.error for line in rejected])
        verdicts = None
        if wait_seconds:
            with self.waiting.place() as granted:
                verdicts = self.waiting.verdicts(receipt, wait_seconds) if granted else None
        return protocol.answer(Outcome(len(lines), rejected, receipt.batch, verdicts))


def _wait_seconds(asked: str | None) -> float | None:
    if asked is None:
        return None
    try:
        seconds = float(asked) if not set(asked) & set("_ \t\n") else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise Refusal("bad_wait", f"wait={asked[:40]!r}: say a number of seconds")
    return seconds


def _wants_explanations(asked: str | None, *, waits: bool) -> bool:
    if asked not in (None, "true", "false"):
        raise Refusal("bad_explain", f"explain={asked[:40]!r}: say true or false")
    if asked == "true" and not waits:
        raise Refusal("explain_without_wait")
    return asked == "true"


def _idempotency_key(sent: str | None) -> str:
    if sent is None:
        return ""
    if not _IDEMPOTENCY_KEY.fullmatch(sent):
        raise Refusal("bad_idempotency_key")
    return sent


def _digest(protocol: Protocol, received: Received) -> str:
    """Name what the sender says its key stands for: the body, and what changes its meaning. Waiting does not, nor asking why."""
    said = [protocol.name, received.content_type, *received.path.values()]
    said += [f"{name}={value}" for name, value in sorted(received.args.items()) if name not in ("wait", "explain")]
    said += [received.headers.get(name, "") for name in ("X-Service", "X-Environment", "X-Level")]
    digest = hashlib.blake2b("\n".join(said).encode(errors="surrogatepass"), digest_size=16)
    digest.update(received.body)
    return digest.hexdigest()


def _response(answer: Answer, headers: dict[str, str]) -> Response:
    return Response(answer.body, answer.status, headers, content_type=answer.content_type)
