"""Where a command reads lines from: a file or standard input, gzip and zstd told by their first bytes, read as they come."""

from __future__ import annotations

import gzip
import sys
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, cast

from harkline.errors import HarklineError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from pathlib import Path

STDIN = "-"
CHUNK_BYTES = 2**18

_GZIP = b"\x1f\x8b"  # RFC 1952 section 2.3.1
_ZSTD = b"\x28\xb5\x2f\xfd"  # RFC 8878 section 3.1.1
# zstd cannot be told to stop, but 4 bytes make 128 KiB at most: a piece of this size makes 32 MiB at most, and some KiB of ordinary logs.
_ZSTD_PIECE_BYTES = 1024


class Unreadable(HarklineError):
    """A file cannot be opened or read to its end; the message says which and why."""


@dataclass(frozen=True, slots=True)
class LineFile:
    """An open file, or standard input."""

    name: str
    total_bytes: int | None  # as stored, compressed or not; None where nobody can know
    _file: BinaryIO

    def position(self) -> int:
        """Return how many of the stored bytes were read; 0 where nobody can know."""
        return self._file.tell() if self.total_bytes is not None else 0

    def chunks(self) -> Iterator[bytes]:
        """Yield what there is to read, decompressed, as soon as it is there. Raises Unreadable."""
        magic = cast("io.BufferedReader", self._file).peek(len(_ZSTD))
        try:
            if magic.startswith(_GZIP):
                with gzip.GzipFile(fileobj=self._file) as inside:
                    yield from _read(inside)
            elif magic.startswith(_ZSTD):
                yield from _unzstd(_read(self._file), self.name)
            else:
                yield from _read(self._file)
        except EOFError:
            raise _cut_short(self.name, "gzip") from None
        except zlib.error as error:
            raise Unreadable(f"{self.name} is damaged gzip: {error}") from None
        except OSError as error:
            raise Unreadable(f"{self.name} cannot be read: {error.strerror or error}") from None


@contextmanager
def open_lines(path: Path) -> Iterator[LineFile]:
    """Open a file, or standard input where the path is `-`; raises Unreadable."""
    if str(path) == STDIN:
        yield LineFile("standard input", None, sys.stdin.buffer)
        return
    try:
        file = path.open("rb")
        total_bytes = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise Unreadable(f"{path} cannot be opened: {error.strerror}") from None
    with file:
        yield LineFile(str(path), total_bytes, file)


def _read(file: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    # read1, not read: a pipe gives what it holds instead of waiting until there is more.
    return iter(partial(cast("io.BufferedReader", file).read1, CHUNK_BYTES), b"")


def _unzstd(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    try:
        import zstandard  # noqa: PLC0415 - not every image has it
    except ImportError:
        raise Unreadable(f"{name} is zstd, and the package to read it with is missing: pip install zstandard") from None
    frame = None
    ready = bytearray()
    for chunk in chunks:
        at = 0
        while at < len(chunk):
            if frame is None:
                frame = zstandard.ZstdDecompressor().decompressobj()
            piece = chunk[at : at + _ZSTD_PIECE_BYTES]
            try:
                ready += frame.decompress(piece)
            except zstandard.ZstdError as error:
                raise Unreadable(f"{name} is damaged zstd: {error}") from None
            at += len(piece)
            if frame.eof:
                at -= len(frame.unused_data)
                frame = None
            if len(ready) >= CHUNK_BYTES:
                yield bytes(ready)
                ready.clear()
        if ready:
            yield bytes(ready)
            ready.clear()
    if frame is not None:
        raise _cut_short(name, "zstd")


def _cut_short(name: str, form: str) -> Unreadable:
    return Unreadable(f"{name} ends in the middle of its {form} data: it was cut short")
