"""Our own wire format: a JSON object, a JSON array, NDJSON, or plain lines, told apart by Content-Type or by how the body begins.

`POST /logs` answers 202, as lines are counted later; `POST /ingest` is the same call for generic HTTP outputs that take 202 for a failure, and
answers exactly 200. Bodies decode in one typed call; only where that fails is each line looked at alone, so that a bad one costs no good one.
Indices count what is not blank: an item of an array, or a line that holds more than white space.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import msgspec

from harkline.contract import LogLine
from harkline_api.describe import JOIN, LINE_PARAMETERS, LINES_BODY, probe_operation, send_operation
from harkline_api.lines import (
    DECODE_ERRORS,
    LENIENT,
    Bad,
    Incoming,
    Item,
    defaults_of,
    item_of,
    item_of_value,
    shorten,
    to_lines,
)
from harkline_api.protocol import Decoded, Protocol, accepted_json, refused_json
from harkline_api.refusals import Refusal, Rejected
from harkline_api.traces import join_traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harkline_api.lines import Defaults
    from harkline_api.protocol import Limits, Received

BOM = b"\xef\xbb\xbf"

_JSON = re.compile(r"(?:application|text)/(?:[\w.+-]+\+)?json")
_NDJSON = re.compile(r"application/(?:x-)?(?:ndjson|jsonl|jsonlines|json-lines|json-stream|stream\+json)")
# What senders say that do not know what they send: nothing, what `curl -d` says, or "bytes".
_UNSAID = ("", "application/x-www-form-urlencoded", "application/octet-stream")
# A plain line may well begin with a bracket or a brace, as Apache's do; JSON goes on like this.
_LOOKS_JSON = re.compile(rb'\s*(?:\{\s*["}]|\[\s*(?:[{"]|\]\s*$))')
_WHITE = re.compile(r"\s*")
_BRACKET_OR_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)

_lines_decoder = msgspec.json.Decoder(Incoming | str)
_array_decoder = msgspec.json.Decoder(list[Incoming | str])


def decode(received: Received) -> Decoded:
    """Return the lines of a body of any of the four forms."""
    defaults, limits = defaults_of(received), received.limits
    if received.charset not in ("", "utf-8", "utf8", "us-ascii", "ascii"):
        raise Refusal("unknown_charset", f"charset {received.charset!r}: send UTF-8")
    body = received.body.removeprefix(BOM)
    join = _wants_join(received)
    if body.count(b"\n") > 20 * limits.max_request_lines:  # blank lines cost memory too
        raise _too_many(limits)
    items_of = _form(received.content_type, body)
    if items_of is None:
        return _plain_lines(body, defaults, limits, join=join)
    items = items_of(body, limits)
    if len(items) > limits.max_request_lines:
        raise _too_many(limits)
    return to_lines(items, defaults, limits)


def _form(content_type: str, body: bytes) -> Callable[[bytes, Limits], Sequence[Item]] | None:
    if content_type in _UNSAID:
        return _json_items if _LOOKS_JSON.match(body) else None
    if _NDJSON.fullmatch(content_type):
        return _ndjson_items
    if _JSON.fullmatch(content_type):
        return _json_items
    if content_type.startswith("text/"):
        return None
    raise Refusal(
        "unknown_content_type", f"{content_type!r}: send application/json, application/x-ndjson or text/plain"
    )


def _json_items(body: bytes, limits: Limits) -> Sequence[Item]:
    if not re.match(rb"\s*\[", body):
        return _ndjson_items(body, limits)
    # Each object takes a brace. With more braces than lines allowed, count as we go rather than build what may be millions.
    if body.count(b"{") <= limits.max_request_lines:
        try:
            return _array_decoder.decode(body)
        except DECODE_ERRORS:
            pass
    return _array_items_one_by_one(body, limits)


def _array_items_one_by_one(body: bytes, limits: Limits) -> list[Item]:
    # Bytes that are not UTF-8 become surrogates, so that they spoil only the item they are in.
    text = body.decode(errors="surrogateescape")
    items: list[Item] = []
    at = _skip_white(text, text.index("[") + 1)
    if text[at : at + 1] == "]":
        return items
    try:
        while True:
            item, end = _item_at(text, at)
            items.append(item)
            if len(items) > limits.max_request_lines:
                raise _too_many(limits)
            at = _skip_white(text, end)
            if text[at : at + 1] == "]" and not text[at + 1 :].strip():
                return items
            if text[at : at + 1] != ",":
                raise Refusal(
                    "bad_json", f"the array breaks off or goes wrong at character {at}, after item {len(items) - 1}"
                )
            at = _skip_white(text, at + 1)
    except ValueError:
        raise Refusal("bad_json", f"item {len(items)} of the array, at character {at}, is not JSON") from None


def _item_at(text: str, at: int) -> tuple[Item, int]:
    """Return one item of an array and where it ends; raises ValueError where it is not JSON."""
    try:
        value, end = LENIENT.raw_decode(text, at)
    except RecursionError:
        return Bad("too_deep"), _end_of_nested(text, at)
    return item_of_value(value) if _is_utf8(text[at:end]) else Bad("bad_utf8"), end


def _end_of_nested(text: str, at: int) -> int:
    """Find the end of a value that is nested too deep to decode, by counting brackets outside strings."""
    depth = 0
    for token in _BRACKET_OR_STRING.finditer(text, at):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
            if depth == 0:
                return token.end()
    raise ValueError("the value does not end")


def _ndjson_items(body: bytes, limits: Limits) -> Sequence[Item]:
    if body.count(b"{") <= limits.max_request_lines:
        try:
            return _lines_decoder.decode_lines(body)
        except DECODE_ERRORS:
            pass
    items = list(_one_value(body))
    if items:
        return items
    for raw in io.BytesIO(body):
        line = raw.strip()
        if line:
            items += _items_of_line(line)
        if len(items) > limits.max_request_lines:
            raise _too_many(limits)
    return items


def _one_value(body: bytes) -> Iterator[Item]:
    """Yield the item of a body that is a single JSON value, perhaps over several lines; nothing where it is more or less than that."""
    try:
        yield item_of_value(LENIENT.decode(body.decode()))
    except (ValueError, RecursionError):
        return


def _items_of_line(line: bytes) -> Sequence[Item]:
    # `curl -d @file` removes newlines, and some senders never write them: several objects may share a line.
    try:
        return _lines_decoder.decode_lines(line)
    except DECODE_ERRORS:
        return [item_of(line)]


def _plain_lines(body: bytes, defaults: Defaults, limits: Limits, *, join: bool) -> Decoded:
    text = body.decode(errors="replace")
    # Not splitlines: form feeds and Unicode's separators are part of a line.
    split = text.split("\n")
    if "\r" in text:
        split = [line.rstrip("\r") for line in split]
    messages = [line for line in split if line and not line.isspace()]
    if join:
        messages = join_traces(messages)
    if len(messages) > limits.max_request_lines:
        raise _too_many(limits)
    service, environment, level = defaults
    if not messages or len(max(messages, key=len)) <= min(limits.kept_line_chars, limits.max_line_bytes // 4):
        return Decoded([LogLine(message, service, environment, None, level) for message in messages], [])
    lines, rejected = [], []
    for index, message in enumerate(messages):
        if len(message.encode()) > limits.max_line_bytes:
            rejected.append(Rejected(index, "line_too_long"))
        else:
            lines.append(LogLine(shorten(message, limits.kept_line_chars), service, environment, None, level))
    return Decoded(lines, rejected)


def _wants_join(received: Received) -> bool:
    asked = received.args.get("join")
    if asked is None:
        return received.limits.join_traces
    if asked not in ("true", "false"):
        raise Refusal("bad_join", f"join={asked!r}: say true or false")
    return asked == "true"


def _too_many(limits: Limits) -> Refusal:
    return Refusal("too_many_lines", f"more than {limits.max_request_lines} lines: send several requests")


def _skip_white(text: str, at: int) -> int:
    match = _WHITE.match(text, at)
    return match.end() if match else at


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
