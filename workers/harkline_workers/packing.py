"""Fill rows of tokens with whole lines, so that the model never spends arithmetic on padding.

Several lines share one row. Positions restart with every line, attention is allowed only where two tokens belong to the same line, and the first
token of every line is known, so that the head can gather one vector a line. Every line comes out exactly as if it had had the row to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROW_TOKENS = 128  # of a row that several lines share: what measured fastest
LINE_TOKENS = 256  # of one line; one that is longer than a row has a row to itself

# Of a line that does not fit, this share keeps the head, which names the event; the rest keeps the tail, which often holds the cause.
_HEAD_SHARE = 0.7


class PackedRow(NamedTuple):
    """One row: T tokens of n lines."""

    token_ids: NDArray[np.int64]  # (T,)
    positions: NDArray[np.int64]  # (T,) restarting at 0 with every line
    line_of_token: NDArray[np.int64]  # (T,) 0..n-1, ascending
    first_tokens: NDArray[np.int64]  # (n,) index into the row of each line's first token
    lines: NDArray[np.int64]  # (n,) index of each line in the sequence that was packed


def shorten(token_ids: Sequence[int], line_tokens: int = LINE_TOKENS) -> Sequence[int]:
    """Return at most `line_tokens` ids: the line's first token and head, then its tail and last token. Short lines come back as they are."""
    if len(token_ids) <= line_tokens:
        return token_ids
    head = max(1, int(line_tokens * _HEAD_SHARE))
    tail = line_tokens - head
    return [*token_ids[:head], *token_ids[len(token_ids) - tail :]]


def pack(
    encodings: Sequence[Sequence[int]], row_tokens: int = ROW_TOKENS, line_tokens: int = LINE_TOKENS
) -> list[PackedRow]:
    """Pack lines into rows as `arrange` says; too long ones are shortened.

    `encodings` holds one sequence of token ids a line, its special tokens included. Raises ValueError for a line of no tokens: it has no first token.
    """
    lengths = np.fromiter(
        (min(len(encoding), line_tokens) for encoding in encodings), dtype=np.int64, count=len(encodings)
    )
    if lengths.size and not lengths.min():
        raise ValueError(
            f"line {int(lengths.argmin())} has no tokens; encode with the special tokens, so that even an empty line has some"
        )
    return [_row(encodings, members, line_tokens) for members in arrange(lengths, row_tokens)]


def arrange(lengths: NDArray[np.int64], row_tokens: int = ROW_TOKENS) -> list[list[int]]:
    """Return which lines share a row: longest first, each into the fullest row that still has room for it. One longer than a row stands alone."""
    rows: list[list[int]] = []
    rows_by_room: list[list[int]] = [[] for _ in range(row_tokens + 1)]
    for line in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[line])
        if length > row_tokens:
            rows.append([line])
            continue
        room = next((room for room in range(length, row_tokens) if rows_by_room[room]), row_tokens)
        if room == row_tokens:
            row = len(rows)
            rows.append([line])
        else:
            row = rows_by_room[room].pop()
            rows[row].append(line)
        rows_by_room[room - length].append(row)
    return rows


def line_of_token(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for lines of these lengths, side by side in one row, the line of each token (T,) and the first token of each line (n,)."""
    first_tokens = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)
    return np.repeat(np.arange(lengths.size, dtype=np.int64), lengths), first_tokens


def _row(encodings: Sequence[Sequence[int]], lines: list[int], line_tokens: int) -> PackedRow:
    pieces = [np.asarray(shorten(encodings[line], line_tokens), dtype=np.int64) for line in lines]
    lengths = np.fromiter((piece.size for piece in pieces), dtype=np.int64, count=len(pieces))
    owners, first_tokens = line_of_token(lengths)
    return PackedRow(
        token_ids=np.concatenate(pieces),
        positions=np.arange(owners.size, dtype=np.int64) - first_tokens[owners],
        line_of_token=owners,
        first_tokens=first_tokens,
        lines=np.asarray(lines, dtype=np.int64),
    )
