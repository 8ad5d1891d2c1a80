"""Read JSON values one by one, out of text that may come in pieces: arrays that hold a bad item, or that are too large to hold at once.

Bytes that are not UTF-8 reach this as surrogates (`surrogateescape`), so that they spoil only the value they are in.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harkline.lines.faults import Undecodable
from harkline.lines.incoming import LENIENT, Bad, item_of_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harkline.lines.incoming import Item

_WHITE = re.compile(r"\s*")
_BRACKET_OR_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def array_items(pieces: Iterator[str], most_chars: int) -> Iterator[Item]:
    """Yield the items of one array; raises Undecodable where it goes wrong or breaks off. No item may exceed `most_chars`."""
    text = _Text(pieces, most_chars)
    text.next_char()  # the bracket by which the caller knows an array
    text.take()
    if text.next_char() == "]":
        return
    index = 0
    while True:
        text.next_char()
        try:
            item = text.item()
        except ValueError:
            raise Undecodable(
                "bad_json", f"item {index} of the array, at character {text.position}, is not JSON"
            ) from None
        yield item
        following = text.next_char()
        if following == ",":
            text.take()
            index += 1
            continue
        place = text.position
        if following == "]":
            text.take()
            if not text.next_char():
                return
        raise Undecodable("bad_json", f"the array breaks off or goes wrong at character {place}, after item {index}")


def concatenated_items(pieces: Iterator[str], most_chars: int) -> Iterator[Item]:
    """Yield JSON values that follow each other with nothing but white space between them, each over as many lines as it likes."""
    text = _Text(pieces, most_chars)
    index = 0
    while text.next_char():
        try:
            item = text.item()
        except ValueError:
            raise Undecodable("bad_json", f"value {index}, at character {text.position}, is not JSON") from None
        yield item
        index += 1


class _Text:
    """A window on text that comes in pieces: what was read is forgotten, what is not complete is read on."""

    def __init__(self, pieces: Iterator[str], most_chars: int) -> None:
        self._pieces = pieces
        self._most_chars = most_chars
        self._text = ""
        self._at = 0
        self._forgotten_chars = 0
        self._ended = False

    @property
    def position(self) -> int:
        """Characters read so far."""
        return self._forgotten_chars + self._at

    def next_char(self) -> str:
        """Skip white space and return the next character, which stays to be read; "" at the end."""
        while True:
            char = self._text[self._at : self._at + 1]
            if char and not char.isspace():
                return char
            self._at = _skip_white(self._text, self._at)
            if self._at == len(self._text) and not self._read_on():
                return ""

    def take(self) -> None:
        """Read the character that `next_char` returned."""
        self._at += 1

    def item(self) -> Item:
        """Read one value; raises ValueError where it is not JSON, or larger than allowed."""
        while True:
            try:
                item, end = _item_at(self._text, self._at)
            except ValueError:
                if not self._read_on():
                    raise
                continue
            # A number that ends where the text does may go on.
            if end == len(self._text) and self._read_on():
                continue
            self._at = end
            return item

    def _read_on(self) -> bool:
        """Fetch the next piece, forgetting what was read; False at the end, and where too much is kept already."""
        if self._ended or len(self._text) - self._at > self._most_chars:
            return False
        piece = next(self._pieces, None)
        if piece is None:
            self._ended = True
            return False
        self._forgotten_chars += self._at
        self._text = self._text[self._at :] + piece
        self._at = 0
        return True


def _item_at(text: str, at: int) -> tuple[Item, int]:
    """Return one value and where it ends; raises ValueError where it is not JSON."""
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


def _skip_white(text: str, at: int) -> int:
    match = _WHITE.match(text, at)
    return match.end() if match else at


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
