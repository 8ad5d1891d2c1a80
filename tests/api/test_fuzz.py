"""Mutated requests: whatever is done to a good request, the answer is one of ours, and accepted lines are exactly those on the ledger."""

from __future__ import annotations

import json
import random
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from harkline_api.refusals import CODES
from tests.api.consumer import count_all, stored_lines

if TYPE_CHECKING:
    from tests.api.conftest import Api

REQUESTS = 2000

GOOD = [
    b'{"message": "disk failing", "service": "a", "timestamp": "2026-11-22T08:00:00Z", "level": "error", "labels": {"k": "v"}}',
    b'[{"message": "a"}, "b", {"msg": "c", "severity": 3, "timestamp": 1795335139443}]',
    b'{"message": "a"}\n{"message": "b"}\n"c"\n{"log": "d"}\n',
    b"2026-11-22 ERROR boom\n\tat x.y(Z.java:1)\r\n[x] y\n{z} w\n",
    b"",
]
NASTY = [
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\\ud800",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 400,
    b"[" * 3000,
    b"{" * 50,
    b'{"message":' * 300,
    b"]",
    b"}",
    b'"',
    b"\\",
    b",",
    b":",
    b"null",
    b"\r",
    b"\n\n",
    b"\xe2\x80\xa8",
    b'"labels": {"a": [1]},',
    b'"timestamp": "0001-01-01T00:00:00+14:00",',
    b'"timestamp": "9999-12-31T23:59:59-14:00",',
]
TYPES = [
    "application/json",
    "application/x-ndjson",
    "text/plain",
    "application/x-www-form-urlencoded",
    "",
    "text/plain; charset=utf-16",
    "application/json; charset=\x00",
    'multipart/form-data; boundary="',
    "image/png",
    "a" * 3000,
    "; ; ;",
]
ENCODINGS = ["", "gzip", "deflate", "zstd", "br", "identity", "gzip, zstd", "\xff"]
QUERIES = [
    "",
    "wait=0",
    "wait=1e999",
    "wait=%00",
    "wait=0&explain=true",
    "explain=%ff",
    "join=true",
    "join",
    "service=%ff%fe",
    "level=" + "x" * 300,
    "%",
    "&&=&",
    "wait=0&wait=x",
]
HEADERS = [
    {},
    {"Idempotency-Key": "k"},
    {"Idempotency-Key": "\xff"},
    {"X-Service": "\xc3\xa9\xff"},
    {"Authorization": "Basic \xff\xff=="},
    {"X-Environment": "e" * 300},
    {"Content-Length": "999999"},
    {"Transfer-Encoding": "chunked"},
    {"Range": "bytes=0-"},
    {"Accept": "\xff"},
]
PATHS = [
    "/logs",
    "/ingest",
    "/log/a%00b%ff",
    "/log/%0a/../x",
    "/logs/",
    "/x//logs",
    "/batches/%ff",
    "/batches/1-1-1",
    "/log/",
]


def mutated(chance: random.Random, body: bytes) -> bytes:
    """Cut, double, flip or stuff a body, several times over."""
    data = bytearray(body)
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                del data[at : at + chance.randrange(1, 20)]
            case 1:
                data[at:at] = chance.choice(NASTY)
            case 2:
                data[at:at] = data[: chance.randrange(1, 200)]
            case 3 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case _:
                data = data[:at]
    return bytes(data)


def packed(chance: random.Random, body: bytes, encoding: str) -> bytes:
    """Usually encode a body as its header says, and sometimes damage the result."""
    if encoding in ("gzip", "deflate") and chance.random() < 0.8:
        packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
        body = packer.compress(body) + packer.flush()
    elif encoding == "zstd" and chance.random() < 0.8:
        body = zstandard.compress(body)
    return mutated(chance, body) if chance.random() < 0.2 else body


@pytest.mark.parametrize("seed", range(2))
def test_no_mutation_breaks_the_api(api: Api, seed: int) -> None:
    """Seeded mutations of good requests: 2xx, or a 4xx with a known code; never a 5xx; the ledger holds what was accepted and no more."""
    chance = random.Random(seed)
    accepted = 0
    batches: set[str] = set()
    statuses: dict[int, int] = {}
    for number in range(REQUESTS // 2):
        encoding = chance.choice(ENCODINGS) if chance.random() < 0.3 else ""
        request: dict[str, Any] = {
            "method": "POST" if chance.random() < 0.95 else chance.choice(("GET", "PUT", "HEAD", "OPTIONS", "BREW")),
            "path": chance.choice(PATHS) if chance.random() < 0.2 else "/logs",
            "query_string": chance.choice(QUERIES) if chance.random() < 0.3 else "",
            "data": packed(chance, mutated(chance, chance.choice(GOOD)), encoding),
            "content_type": chance.choice(TYPES),
            "headers": {**(chance.choice(HEADERS) if chance.random() < 0.4 else {}), "Content-Encoding": encoding},
        }
        answer = api.client.open(**request)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (seed, number, request)
        if request["method"] in ("HEAD", "OPTIONS"):
            continue
        assert answer.content_type == "application/json", (
            answer.status_code,
            answer.data[:100],
            request["path"],
            request["method"],
        )
        body = json.loads(answer.data)
        if answer.status_code in (200, 202) and "accepted" in body:
            accepted += body["accepted"] if body["batch"] not in batches else 0
            batches.add(body["batch"])
        elif answer.status_code >= 400:
            assert body["error"] in CODES, (seed, number, request)
            assert CODES[body["error"]].status == answer.status_code
    assert accepted == len(stored_lines(api.ledger)) == count_all(api.ledger)
    assert statuses[202] > 100
    assert len(statuses) >= 5
