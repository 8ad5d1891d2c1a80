"""A stream is read line for line as a request body is, however it is cut into chunks, in memory that does not grow with it."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from harkline.contract import LogLine
from harkline.lines import native
from harkline.lines.decoded import Decoded, Defaults, Limits
from harkline.lines.faults import Rejected, Undecodable
from harkline.lines.stream import WHOLE_BYTES, decode_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harkline.lines.native import Form

LIMITS = Limits(max_line_bytes=2**20, kept_line_chars=8192, max_request_lines=2**62, join_traces=False)
MOST_BYTES = 2**21
DEFAULTS = Defaults(service="shop")

TRACE = (
    "ERROR boom\njava.lang.IllegalStateException: broken\n\tat com.acme.Shop.buy(Shop.java:7)\n\t... 23 more\n"
    "Caused by: java.io.IOException: disk\n\tat com.acme.Disk.read(Disk.java:9)\nINFO fine\nERROR while handling\n"
    'Traceback (most recent call last):\n  File "a.py", line 1\n    f()\nValueError: bad\n\n'
    "During handling of the above exception, another exception occurred:\n\n"
    "Traceback (most recent call last):\n  g()\nKeyError: 'x'\nINFO after\njava.lang.Error: last\n"
)
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n\t\n  ",
    "plain": b"a\nb\r\n\n  \nc",
    "plain, no UTF-8": b"caf\xe9 \xf0\x9f\nok\n",
    "separators that are no newlines": "a\x0cb\u2028c\x85d".encode(),
    "byte order mark, plain": b"\xef\xbb\xbfa\nb",
    "byte order mark, object": b'\xef\xbb\xbf{"message": "a"}',
    "object": b'{"message": "a"}',
    "object over several lines": b'{\n  "message": "a"\n}\n',
    "objects over several lines": b'{\n"message": "a"\n}\n{\n"message": "b"\n}',
    "broken object over several lines": b'{\n  "message": "a"\n',
    "ndjson": b'{"message": "a"}\n{"message": "b", "level": 3}\n\n"c"\n',
    "ndjson with bad lines": b'{"message": "a"}\n{"message"\n{}\n[]\n{"message": "\xff"}\n{"message": "b"}',
    "ndjson whose first line is cut": b'{"message": "a\n{"message": "b"}\n{"message": "c"}',
    "several on a line": b'{"message": "a"}{"message": "b"}\n{"message": "c"}',
    "array": b' [{"message": "a"},\n "b"\n, {"msg": "c", "severity": 0}] ',
    "array with bad items": b'[{"message": "a"}, 42, {"message": 5}, {"message": "\xff"}, {"message": "b"}]',
    "empty array": b"[]",
    "bracketed lines": b"[error] mod_jk\n[x] y\n",
    "braced lines": b"{web} started\n{db} stopped\n",
    "brackets alone": b"[\n]\nx",
    "trace": TRACE.encode(),
}


def in_chunks(body: bytes, most_bytes: int, seed: int = 1) -> Iterator[bytes]:
    """Cut a body at random places."""
    choose = random.Random(seed)
    at = 0
    while at < len(body):
        end = at + choose.randint(1, most_bytes)
        yield body[at:end]
        at = end


def read(
    chunks: Iterable[bytes], form: Form | None = None, *, join: bool = False, limits: Limits = LIMITS
) -> list[LogLine | Rejected]:
    """Return all entries of a stream."""
    stream = decode_stream(iter(chunks), form, DEFAULTS, limits, MOST_BYTES, join=join)
    return [entry for entries in stream for entry in entries]


def in_order(decoded: Decoded) -> list[LogLine | Rejected]:
    """Return what a body holds as a stream gives it."""
    entries: list[LogLine | Rejected] = list(decoded.lines)
    for line in decoded.rejected:
        entries.insert(line.index, line)
    return entries


@pytest.mark.parametrize("most_bytes", [1, 7, 10**6])
@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("name", BODIES)
def test_a_stream_gives_what_a_body_gives(name: str, join: bool, most_bytes: int) -> None:
    """Every form, good and bad, gives the same lines and the same codes in the same places as in one request, wherever it is cut."""
    body = BODIES[name]
    expected = in_order(native.decode(body, None, DEFAULTS, LIMITS, join=join))
    assert read(in_chunks(body, most_bytes), join=join) == expected


NASTY = [
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"NaN",
    b"9" * 5000,
    b"[" * 3000,
    b"]",
    b"}",
    b'"',
    b"\\",
    b",",
    b"\xc2\xa0",
]


def test_mutated_bodies_give_the_same_too() -> None:
    """Whatever is done to a body, the stream and the body agree, refusals of the whole included."""
    choose = random.Random(5)
    bodies = list(BODIES.values())
    for number in range(1500):
        body = bytearray(choose.choice(bodies) * choose.choice((1, 1, 3)))
        for _ in range(choose.choice((1, 1, 2, 4))):
            at = choose.randrange(len(body) + 1)
            if choose.random() < 0.6:
                body[at:at] = choose.choice(NASTY)
            else:
                del body[at : at + choose.randrange(1, 9)]
        form = choose.choice((None, "plain", "ndjson", "json"))
        try:
            expected = in_order(native.decode(bytes(body), form, DEFAULTS, LIMITS, join=False))
        except Undecodable as error:
            with pytest.raises(Undecodable, match=error.code):
                read(in_chunks(bytes(body), 50, number), form)
            continue
        if b"\n" in body.strip() and form != "plain" and _spans_lines_inside(bytes(body)):
            continue
        assert read(in_chunks(bytes(body), 50, number), form) == expected, (form, bytes(body))


def _spans_lines_inside(body: bytes) -> bool:
    """Whether a value that does not begin the body goes over several lines: a stream looks at its lines one by one."""
    whole = native.items_of_lines(body.removeprefix(native.BOM))
    return whole is not None and any(native.items_of_lines(line) is None for line in body.split(b"\n") if line.strip())


def test_an_array_larger_than_memory_should_hold_comes_in_slices() -> None:
    """A large array is read item by item, bad ones in their places, multi-byte characters cut anywhere."""
    items: list[object] = [{"message": f"line {number} \u20ac", "level": "info"} for number in range(40_000)]
    items[12_345] = 7
    body = json.dumps(items, ensure_ascii=False).encode()
    assert len(body) > WHOLE_BYTES
    stream = decode_stream(in_chunks(body, 70_000), None, DEFAULTS, LIMITS, MOST_BYTES, join=False)
    slices = list(stream)
    assert max(len(entries) for entries in slices) < 5000
    entries = [entry for entries in slices for entry in entries]
    assert len(entries) == 40_000
    assert entries[12_345] == Rejected(12_345, "not_an_object")
    assert entries[39_999] == LogLine("line 39999 \u20ac", "shop", level="info")


@pytest.mark.parametrize("end", [b"", b',{"message": "x"', b"]]", b", nonsense]"])
def test_an_array_that_breaks_off_gives_what_came_before(end: bytes) -> None:
    """What is good before the break is given, and then the break is told."""
    body = b"[" + b",".join(b'{"message": "m%d"}' % number for number in range(3000)) + end
    given: list[list[LogLine | Rejected]] = []
    stream = decode_stream(in_chunks(body, 9000), None, DEFAULTS, LIMITS, MOST_BYTES, join=False)
    with pytest.raises(Undecodable, match="bad_json"):
        given.extend(stream)
    assert [entry for entries in given for entry in entries] == [
        LogLine(f"m{number}", "shop") for number in range(3000)
    ]


def test_objects_over_several_lines_without_end() -> None:
    """What `jq .` prints is read value by value, however much there is of it."""
    one = b'{\n  "message": "m",\n  "service": "s"\n}\n'
    body = one * (2 * WHOLE_BYTES // len(one))
    entries = read(in_chunks(body, 70_000))
    assert entries == [LogLine("m", "s")] * (2 * WHOLE_BYTES // len(one))


def test_ndjson_whose_first_line_is_bad_loses_that_line_only() -> None:
    """A log that was cut at its beginning is read from its second line on, also where it is too long to hold."""
    one = b'{"message": "m"}\n'
    count = 2 * WHOLE_BYTES // len(one)
    entries = read(in_chunks(b'{"message": "cut\n' + one * count, 70_000))
    assert entries[0] == Rejected(0, "bad_json")
    assert entries[1:] == [LogLine("m", "shop")] * count


@pytest.mark.parametrize(
    ("around", "form"), [((b"", b""), "plain"), ((b'{"message": "', b'"}'), "ndjson")], ids=["plain", "ndjson"]
)
def test_a_line_without_end_is_rejected_in_its_place(around: tuple[bytes, bytes], form: Form) -> None:
    """A line longer than one may be costs itself and none of its neighbours, and is not held in memory."""
    before, after = around
    good = before + b"m" + after + b"\n"

    def chunks() -> Iterator[bytes]:
        yield good
        yield before
        for _ in range(100):
            yield b"x" * 100_000
        yield after + b"\n" + good
        yield good

    for form_said in (form, None):
        entries = read(chunks(), form_said)
        line = LogLine("m", "shop")
        assert entries == [line, Rejected(1, "line_too_long"), line, line]


def test_a_trace_without_end_is_one_line_too_long() -> None:
    """A joined trace stops taking lines once it is too long anyway, and what follows it is read."""
    entries = read([b"ERROR x\n", *[b"\tat com.acme.A.b(A.java:1)\n" * 3000] * 40, b"INFO after\n"], join=True)
    assert entries == [Rejected(0, "line_too_long"), LogLine("INFO after", "shop")]


def test_lines_are_given_as_soon_as_they_are_there() -> None:
    """A pipe that is written to slowly is answered before it ends: no chunk is asked for while a whole line waits."""
    asked: list[int] = []

    def chunks() -> Iterator[bytes]:
        for number in range(3):
            asked.append(number)
            yield b'{"message": "m%d"}\n{"mess' % number if number == 0 else b'age": "m%d"}\n{"mess' % number

    stream = decode_stream(chunks(), None, DEFAULTS, LIMITS, MOST_BYTES, join=False)
    assert next(stream) == [LogLine("m0", "shop")]
    assert asked == [0]
    assert next(stream) == [LogLine("m1", "shop")]
    assert asked == [0, 1]
