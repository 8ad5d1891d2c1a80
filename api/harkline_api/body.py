"""Read a request's body within its limit, before and after decompression, so that neither a large body nor a bomb takes memory.

Content codings (RFC 9110 section 8.4): gzip (several members too), deflate (zlib as RFC 9110 says, raw as many send it), zstd (RFC 8878).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import zstandard
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]

from harkline_api.refusals import CODES, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 65_536
# A refused sender is read this far, so that it hears the answer: closing on unread bytes resets the connection and destroys it.
DRAIN_BYTES = 4 * 2**20
# zstd cannot be told to stop, but 4 bytes make 128 KiB at most (a run-length block): a piece of this size makes 16 MiB at most.
ZSTD_PIECE_BYTES = 512
# RFC 8878 section 3.1.1.1.2 asks decoders to accept windows of 8 MiB and lets them refuse larger ones.
ZSTD_WINDOW_BYTES = 8 * 2**20
# gzip members and zstd frames follow each other freely; empty ones would make work out of nothing.
MAX_FRAMES = 1000


class ByteStream(Protocol):
    """Where a body comes from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, none at the end."""


def read_body(stream: ByteStream, content_length: int | None, max_bytes: int) -> bytes:
    """Return the body as it was sent; raises Refusal where it is larger than `max_bytes` or ends early."""
    if content_length is not None and content_length > max_bytes:
        drain(stream)
        raise _too_large(max_bytes)
    chunks = []
    size = 0
    try:
        while chunk := stream.read(READ_BYTES):
            size += len(chunk)
            if size > max_bytes:
                drain(stream)
                raise _too_large(max_bytes)
            chunks.append(chunk)
    except (OSError, ParseException) as error:  # the sender left, or framed its chunks wrongly
        raise Refusal("incomplete_body") from error  # without the error's words: they quote the body
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def drain(stream: ByteStream) -> None:
    """Read and forget what a refused sender still sends, up to a limit."""
    try:
        for _ in range(DRAIN_BYTES // READ_BYTES):
            if not stream.read(READ_BYTES):
                return
    except (OSError, ParseException):
        return


def decompress(data: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return the body as it was meant; stops as soon as it is larger than `max_bytes`."""
    coding = encoding.strip().lower()
    if coding in ("", "identity"):
        return data
    decode = _CODINGS.get(coding)
    if decode is None:
        raise Refusal("unknown_encoding", f"Content-Encoding {encoding!r}: send gzip, deflate, zstd or nothing")
    return decode(data, max_bytes)


def _gunzip(data: bytes, max_bytes: int) -> bytes:
    return _unframe(data, lambda: _Inflating(31), READ_BYTES, max_bytes, "bad_gzip")


def _inflate(data: bytes, max_bytes: int) -> bytes:
    # zlib's header: method 8 in the low bits, and the first two bytes a multiple of 31 (RFC 1950 section 2.2)
    zlib_header = len(data) > 1 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
    return _unframe(data, lambda: _Inflating(15 if zlib_header else -15), READ_BYTES, max_bytes, "bad_deflate")


def _unzstd(data: bytes, max_bytes: int) -> bytes:
    return _unframe(data, _Unzstding, ZSTD_PIECE_BYTES, max_bytes, "bad_zstd")


class _Inflating:
    """One gzip member, or one deflate stream."""

    def __init__(self, window_bits: int) -> None:
        self._zlib = zlib.decompressobj(wbits=window_bits)

    def feed(self, piece: bytes, room_bytes: int) -> bytes:
        return self._zlib.decompress(piece, room_bytes + 1)

    def rest(self) -> bytes | None:
        return self._zlib.unused_data if self._zlib.eof else None


class _Unzstding:
    """One zstd frame."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()

    def feed(self, piece: bytes, room_bytes: int) -> bytes:  # noqa: ARG002 - zstd cannot be told to stop
        return self._zstd.decompress(piece)

    def rest(self) -> bytes | None:
        return self._zstd.unused_data if self._zstd.eof else None


def _unframe(
    data: bytes, new_frame: Callable[[], _Inflating | _Unzstding], piece_bytes: int, max_bytes: int, code: str
) -> bytes:
    whole = bytearray()
    at = 0
    for _ in range(MAX_FRAMES):
        frame = new_frame()
        while (rest := frame.rest()) is None:
            piece = data[at : at + piece_bytes]
            if not piece:
                raise Refusal(
                    code, f"{CODES[code].meaning}: it ends after {len(data)} bytes, in the middle of its data"
                )
            at += len(piece)
            try:
                whole += frame.feed(piece, max_bytes - len(whole))
            except (zlib.error, zstandard.ZstdError) as error:
                raise Refusal(code, str(error)) from error
            if len(whole) > max_bytes:
                raise _too_large(max_bytes)
        at -= len(rest)
        if at == len(data):
            return bytes(whole)
    raise Refusal(code, f"more than {MAX_FRAMES} compressed frames in one body: send several requests")


def _too_large(max_bytes: int) -> Refusal:
    return Refusal("body_too_large", f"the body exceeds {max_bytes} bytes: send several requests")


_CODINGS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
    "zstd": _unzstd,
}
