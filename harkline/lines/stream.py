"""Read our own format from a file or a pipe of any length, in memory that does not grow with it, line for line as a request body is read.

What `native.decode` makes of a body this makes of a stream, as far as one can tell without waiting for its end. Where an array, or a series of values
over several lines, breaks off, the items before the break are given before Undecodable is raised. A value over several lines is known as such only
where the stream begins with one.
"""

from __future__ import annotations

import codecs
import re
import sys
from itertools import chain
from typing import TYPE_CHECKING

from harkline.lines import native
from harkline.lines.decoded import messages_to_lines, to_lines
from harkline.lines.faults import Rejected, Undecodable
from harkline.lines.incoming import Bad
from harkline.lines.traces import TraceJoiner
from harkline.lines.values import array_items, concatenated_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harkline.contract import LogLine
    from harkline.lines.decoded import Decoded, Defaults, Limits
    from harkline.lines.incoming import Item
    from harkline.lines.native import Form

# What fits in this is decoded as a whole, exactly as a request body.
WHOLE_BYTES = 2**20
_SLICE_ITEMS = 1024
# A beginning that could still become JSON or plain lines.
_UNDECIDED = re.compile(rb"(?:\xef|\xef\xbb|(?:\xef\xbb\xbf)?\s*(?:\{\s*|\[\s*(?:\]\s*)?)?)\Z")


def decode_stream(
    chunks: Iterator[bytes], form: Form | None, defaults: Defaults, limits: Limits, most_bytes: int, *, join: bool
) -> Iterator[list[LogLine | Rejected]]:
    """Yield lines, and in their places what was rejected, as soon as chunks bring them; without a form, the beginning tells.

    `most_bytes` bounds one line, or one item of an array; of `limits`, the number of lines does not apply. Raises Undecodable.
    """
    index = 0
    for decoded in _pieces(chunks, form, defaults, limits._replace(max_request_lines=sys.maxsize), most_bytes, join):
        entries = _in_order(decoded, index)
        index += len(entries)
        yield entries


def _pieces(
    chunks: Iterator[bytes],
    form: Form | None,
    defaults: Defaults,
    limits: Limits,
    most_bytes: int,
    join: bool,
) -> Iterator[Decoded]:
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= WHOLE_BYTES or not _UNDECIDED.match(start):
            break
    start = start.removeprefix(native.BOM)
    form = form or native.form_of(start)
    chunks = chain([start], chunks)
    if form == "json" and native.is_array(start):
        return _array(chunks, defaults, limits, most_bytes)
    lines = _whole_lines(chunks, max(most_bytes, limits.max_line_bytes))
    if form == "plain":
        return _plain(lines, defaults, limits, TraceJoiner(limits.max_line_bytes) if join else None)
    return _ndjson(lines, defaults, limits, most_bytes)


def _whole_lines(chunks: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """Yield pieces of whole lines. A line longer than allowed is a piece of its own: the first `most_bytes + 1` bytes of it, or a few more."""
    parts: list[bytes] = []
    size = 0
    skips = False
    for chunk in chunks:
        rest = chunk
        if skips:
            _, newline, rest = chunk.partition(b"\n")
            if not newline:
                continue
            skips = False
        end = rest.rfind(b"\n") + 1
        if end:
            yield b"".join((*parts, rest[:end]))
            parts, size = [], 0
        parts.append(rest[end:])
        size += len(rest) - end
        if size > most_bytes:
            yield b"".join(parts)
            parts, size, skips = [], 0, True
    if size:
        yield b"".join(parts)


def _plain(lines: Iterable[bytes], defaults: Defaults, limits: Limits, joiner: TraceJoiner | None) -> Iterator[Decoded]:
    for piece in lines:
        messages = native.plain_messages(piece)
        yield messages_to_lines(joiner.feed(messages) if joiner else messages, defaults, limits)
    if joiner:
        yield messages_to_lines(joiner.end(), defaults, limits)


def _ndjson(lines: Iterator[bytes], defaults: Defaults, limits: Limits, most_bytes: int) -> Iterator[Decoded]:
    first = next((piece for piece in lines if not piece.isspace()), None)
    if first is None:
        return
    lines = chain([first], lines)
    line = first.lstrip().partition(b"\n")[0]
    if not _stands_alone(line):
        parts, rest = _at_first(lines)
        whole = b"".join(parts)
        if rest is None:
            yield native.decode(whole, "ndjson", defaults, limits, join=False)
            return
        if _begins_with_value(whole) and not _begins_with_value(line):
            yield from _in_slices(concatenated_items(_texts(chain(parts, rest)), most_bytes), defaults, limits)
            return
        lines = chain(parts, rest)
    for piece in lines:
        if len(piece) > most_bytes and b"\n" not in piece:
            items: Iterable[Item] = [Bad("line_too_long")]
        else:
            good = native.items_of_lines(piece)
            items = native.items_line_by_line(piece) if good is None else good
        yield to_lines(items, defaults, limits)


def _array(chunks: Iterator[bytes], defaults: Defaults, limits: Limits, most_bytes: int) -> Iterator[Decoded]:
    parts, rest = _at_first(chunks)
    if rest is None and (good := native.items_of_array(b"".join(parts))) is not None:
        yield to_lines(good, defaults, limits)
        return
    yield from _in_slices(array_items(_texts(chain(parts, rest or ())), most_bytes), defaults, limits)


def _in_slices(items: Iterator[Item], defaults: Defaults, limits: Limits) -> Iterator[Decoded]:
    ready: list[Item] = []
    try:
        for item in items:
            ready.append(item)
            if len(ready) == _SLICE_ITEMS:
                yield to_lines(ready, defaults, limits)
                ready = []
    except Undecodable:
        yield to_lines(ready, defaults, limits)
        raise
    yield to_lines(ready, defaults, limits)


def _at_first(pieces: Iterator[bytes]) -> tuple[list[bytes], Iterator[bytes] | None]:
    """Return what comes first, more than WHOLE_BYTES of it, and the rest; None for a rest that is empty for sure."""
    parts = []
    size = 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size > WHOLE_BYTES:
            return parts, pieces
    return parts, None


def _stands_alone(line: bytes) -> bool:
    """Return whether a line is JSON by itself, and no beginning of a value that goes on in the next."""
    return not any(isinstance(item, Bad) and item.code == "bad_json" for item in native.items_line_by_line(line))


def _begins_with_value(text: bytes) -> bool:
    try:
        next(concatenated_items(_texts([text]), len(text)))
    except Undecodable:
        return False
    return True


def _texts(chunks: Iterable[bytes]) -> Iterator[str]:
    return codecs.iterdecode(chunks, "utf-8", "surrogateescape")


def _in_order(decoded: Decoded, first_index: int) -> list[LogLine | Rejected]:
    """Return every entry in its place, the rejected ones with their index in the stream."""
    lines, rejected = decoded
    if not rejected:
        return list(lines)
    error_of = {line.index: line.error for line in rejected}
    good = iter(lines)
    return [
        Rejected(first_index + at, error_of[at]) if at in error_of else next(good)
        for at in range(len(lines) + len(rejected))
    ]
