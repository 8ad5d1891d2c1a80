"""Our own format: a JSON object, a JSON array, NDJSON, or plain lines, told apart by what the sender says or by how the body begins.

Bodies decode in one typed call; only where that fails is each line looked at alone, so that a bad one costs no good one. Indices count what is
not blank: an item of an array, or a line that holds more than white space.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Literal

import msgspec

from harkline.lines.decoded import messages_to_lines, to_lines
from harkline.lines.faults import Undecodable
from harkline.lines.incoming import DECODE_ERRORS, LENIENT, Incoming, item_of, item_of_value
from harkline.lines.traces import TraceJoiner
from harkline.lines.values import array_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harkline.lines.decoded import Decoded, Defaults, Limits
    from harkline.lines.incoming import Item

Form = Literal["json", "ndjson", "plain"]

BOM = b"\xef\xbb\xbf"

# A plain line may well begin with a bracket or a brace, as Apache's do; JSON goes on like this.
_LOOKS_JSON = re.compile(rb'\s*(?:\{\s*["}]|\[\s*(?:[{"]|\]\s*$))')
_ARRAY = re.compile(rb"\s*\[")

_lines_decoder = msgspec.json.Decoder(Incoming | str)
_array_decoder = msgspec.json.Decoder(list[Incoming | str])


def decode(body: bytes, form: Form | None, defaults: Defaults, limits: Limits, *, join: bool) -> Decoded:
    """Return the lines of a body; without a form, its beginning tells. Raises Undecodable where the body as a whole is wrong.

    `json` is one value, an array, or NDJSON all the same. `join` joins the continuation lines of stack traces, for plain lines.
    """
    body = body.removeprefix(BOM)
    if body.count(b"\n") > 20 * limits.max_request_lines:  # blank lines cost memory too
        raise _too_many(limits)
    form = form or form_of(body)
    if form == "plain":
        messages = plain_messages(body)
        if join:
            joiner = TraceJoiner(limits.max_line_bytes)
            messages = joiner.feed(messages) + joiner.end()
        if len(messages) > limits.max_request_lines:
            raise _too_many(limits)
        return messages_to_lines(messages, defaults, limits)
    items = _array_items(body, limits) if form == "json" and is_array(body) else _ndjson_items(body, limits)
    if len(items) > limits.max_request_lines:
        raise _too_many(limits)
    return to_lines(items, defaults, limits)


def form_of(body: bytes) -> Form:
    """Tell JSON from plain lines by how the body begins, after its byte order mark."""
    return "json" if _LOOKS_JSON.match(body) else "plain"


def is_array(body: bytes) -> bool:
    """Return whether JSON is an array, by how it begins."""
    return _ARRAY.match(body) is not None


def plain_messages(body: bytes) -> list[str]:
    """Return the lines that are not blank. What is not UTF-8 becomes U+FFFD."""
    text = body.decode(errors="replace")
    # Not splitlines: form feeds and Unicode's separators are part of a line.
    split = text.split("\n")
    if "\r" in text:
        split = [line.rstrip("\r") for line in split]
    return [line for line in split if line and not line.isspace()]


def items_of_array(body: bytes) -> list[Incoming | str] | None:
    """Return the items of an array that is whole and good, None otherwise."""
    try:
        return _array_decoder.decode(body)
    except DECODE_ERRORS:
        return None


def items_of_lines(body: bytes) -> list[Incoming | str] | None:
    """Return the items of NDJSON that is good throughout, None otherwise. Several values may share a line: some senders write no newlines."""
    try:
        return _lines_decoder.decode_lines(body)
    except DECODE_ERRORS:
        return None


def items_line_by_line(body: bytes) -> Iterator[Item]:
    """Yield the items of NDJSON, looking at each line alone."""
    for raw in io.BytesIO(body):
        line = raw.strip()
        if line:
            good = items_of_lines(line)
            if good is None:
                yield item_of(line)
            else:
                yield from good


def _array_items(body: bytes, limits: Limits) -> Sequence[Item]:
    if _may_be_built(body, limits) and (good := items_of_array(body)) is not None:
        return good
    return _counted(array_items(iter([body.decode(errors="surrogateescape")]), len(body)), limits)


def _ndjson_items(body: bytes, limits: Limits) -> Sequence[Item]:
    if _may_be_built(body, limits) and (good := items_of_lines(body)) is not None:
        return good
    return list(_one_value(body)) or _counted(items_line_by_line(body), limits)


def _one_value(body: bytes) -> Iterator[Item]:
    """Yield the item of a body that is a single JSON value, perhaps over several lines; nothing where it is more or less than that."""
    try:
        yield item_of_value(LENIENT.decode(body.decode()))
    except (ValueError, RecursionError):
        return


def _may_be_built(body: bytes, limits: Limits) -> bool:
    """Each object takes a brace: with more braces than lines allowed, count as we go rather than build what may be millions."""
    return body.count(b"{") <= limits.max_request_lines


def _counted(found: Iterable[Item], limits: Limits) -> list[Item]:
    items = []
    for item in found:
        items.append(item)
        if len(items) > limits.max_request_lines:
            raise _too_many(limits)
    return items


def _too_many(limits: Limits) -> Undecodable:
    return Undecodable("too_many_lines", f"more than {limits.max_request_lines} lines: send several requests")
