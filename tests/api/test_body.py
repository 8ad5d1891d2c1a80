"""Bodies: every encoding, limits after decompression, and bombs that stop early."""

from __future__ import annotations

import io
import json
import time
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard

from harkline_api.body import DRAIN_BYTES, decompress, read_body
from harkline_api.refusals import Refusal
from tests.api.consumer import stored_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Api

LIMIT = 2**20


def packed(data: bytes, window_bits: int) -> bytes:
    packer = zlib.compressobj(wbits=window_bits)
    return packer.compress(data) + packer.flush()


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", lambda data: packed(data, 31)),
    "x-gzip": ("X-GZip", lambda data: packed(data, 31)),
    "gzip of two members": ("gzip", lambda data: packed(data[:20], 31) + packed(data[20:], 31)),
    "deflate, zlib": ("deflate", lambda data: packed(data, 15)),
    "deflate, raw": ("deflate", lambda data: packed(data, -15)),
    "zstd": ("zstd", zstandard.compress),
    "zstd of two frames": ("zstd", lambda data: zstandard.compress(data[:20]) + zstandard.compress(data[20:])),
    "zstd of unknown size": (
        "zstd",
        lambda data: b"".join(zstandard.ZstdCompressor().read_to_iter(io.BytesIO(data))),
    ),
    "identity": ("identity", lambda data: data),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_read(api: Api, encoding: str) -> None:
    """gzip, deflate in both its meanings and zstd arrive as they were meant, several members or frames included."""
    header, pack = ENCODINGS[encoding]
    lines = [{"message": f"line {number} of a body that is worth packing"} for number in range(2000)]
    answer = api.client.post(
        "/logs",
        data=pack(json.dumps(lines).encode()),
        content_type="application/json",
        headers={"Content-Encoding": header},
    )
    assert answer.status_code == 202, answer.get_data(as_text=True)
    assert [line.message for line in stored_lines(api.ledger)] == [line["message"] for line in lines]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_limit_holds_after_decompression(make_api: Callable[..., Api], encoding: str) -> None:
    """A body of exactly the limit is accepted, one byte more is refused, whatever it weighs on the wire."""
    api = make_api(max_body_bytes=LIMIT)
    header, pack = ENCODINGS[encoding]
    for size, status in ((LIMIT, 202), (LIMIT + 1, 413)):
        body = pack((b"a line of some length, and another of none\n\n" * size)[:size])
        answer = api.client.post("/logs", data=body, content_type="text/plain", headers={"Content-Encoding": header})
        assert answer.status_code == status
    assert answer.json["error"] == "body_too_large"


@pytest.mark.parametrize("encoding", ["gzip", "deflate, zlib", "deflate, raw", "zstd"])
def test_a_bomb_stops_early(encoding: str) -> None:
    """A body that would unpack to many megabytes is refused after the limit, in a fraction of the time and memory."""
    header, pack = ENCODINGS[encoding]
    bomb = pack(bytes(2**20)) if encoding != "zstd" else zstandard.compress(bytes(2**29))
    if encoding != "zstd":
        packer = zlib.compressobj(wbits={"gzip": 31, "deflate, zlib": 15, "deflate, raw": -15}[encoding])
        bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    began = time.process_time()
    with pytest.raises(Refusal, match="body_too_large"):
        decompress(bomb, header, LIMIT)
    assert time.process_time() - began < 0.2


class Endless(io.RawIOBase):
    """A sender that never stops."""

    def __init__(self) -> None:
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        self.given += size
        return bytes(size)


def test_an_endless_body_is_cut_off() -> None:
    """A chunked body is read to the limit and a little further, so that the sender hears the answer, and no more."""
    stream = Endless()
    with pytest.raises(Refusal, match="body_too_large"):
        read_body(stream, None, LIMIT)
    assert stream.given <= LIMIT + DRAIN_BYTES + 2**17


def test_a_body_that_says_it_is_too_large_is_not_kept() -> None:
    """Content-Length beyond the limit is refused without reading the body into memory."""
    with pytest.raises(Refusal, match="body_too_large"):
        read_body(io.BytesIO(b"x" * 100), LIMIT + 1, LIMIT)


class Broken(io.RawIOBase):
    """A connection that ends in the middle."""

    def read(self, _size: int = -1) -> bytes:
        raise OSError("chunk framing is wrong")


def test_a_broken_connection_is_the_senders_fault() -> None:
    """A body that ends early, or whose chunks are framed wrongly, is a 400 and no 500."""
    with pytest.raises(Refusal, match="incomplete_body"):
        read_body(Broken(), None, LIMIT)
