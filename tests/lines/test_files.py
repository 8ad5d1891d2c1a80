"""Files and pipes: compressed ones are told by their first bytes, and one that is cut short says so."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from harkline.lines.files import Unreadable, open_lines

TEXT = b"".join(b"line %d of a log that repeats itself\n" % number for number in range(50_000))
HALF = len(TEXT) // 2


def zstd(text: bytes) -> bytes:
    """Compress as the command line tool does: with a checksum."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(text)


def read(path: Path) -> bytes:
    """Return what a file holds."""
    with open_lines(path) as source:
        return b"".join(source.chunks())


FORMS = {
    "as it is": TEXT,
    "gzip": gzip.compress(TEXT, 1),
    "gzip, several members": gzip.compress(TEXT[:HALF], 1) + gzip.compress(TEXT[HALF:], 1),
    "zstd": zstd(TEXT),
    "zstd, several frames": zstd(TEXT[:HALF]) + zstd(TEXT[HALF:]),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_compressed_is_decompressed(tmp_path: Path, form: str) -> None:
    """Whatever its name, a file gives its text, and tells how much of it was read."""
    path = tmp_path / "app.log"
    path.write_bytes(FORMS[form])
    with open_lines(path) as source:
        assert b"".join(source.chunks()) == TEXT
        assert source.total_bytes == source.position() == len(FORMS[form])


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_what_was_cut_short_is_read_as_far_as_it_goes(tmp_path: Path, form: str) -> None:
    """A compressed file without its end gives its beginning and then an error, never a silent half."""
    path = tmp_path / "app.log"
    path.write_bytes(FORMS[form][:-20])
    chunks: list[bytes] = []
    with open_lines(path) as source, pytest.raises(Unreadable, match="cut short"):
        chunks.extend(source.chunks())
    assert len(b"".join(chunks)) > HALF
    assert TEXT.startswith(b"".join(chunks))


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_damage_is_told(tmp_path: Path, form: str) -> None:
    """Damaged data is an error that names the file."""
    path = tmp_path / "app.log"
    damaged = bytearray(FORMS[form])
    damaged[len(damaged) // 2 : len(damaged) // 2 + 40] = b"\xff" * 40
    path.write_bytes(damaged)
    with pytest.raises(Unreadable, match=r"app\.log"):
        read(path)


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    """A missing file and a folder are one sentence each."""
    with pytest.raises(Unreadable, match="No such file"):
        read(tmp_path / "missing.log")
    with pytest.raises(Unreadable, match="Is a directory"):
        read(tmp_path)
