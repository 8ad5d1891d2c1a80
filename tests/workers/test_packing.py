"""Packing loses no line, mixes no two lines, and never exceeds the row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkline_workers.packing import ROW_TOKENS, pack, shorten

CLS, SEP = 101, 102
LINES = st.lists(st.lists(st.integers(1000, 30000), max_size=300).map(lambda ids: [CLS, *ids, SEP]), max_size=60)


@given(LINES, st.integers(8, 200), st.integers(8, 300))
def test_every_line_comes_out_once_and_unmixed(lines: list[list[int]], row_tokens: int, line_tokens: int) -> None:
    """Unpacking the rows gives back every line, shortened where it had to be, at its own place."""
    found: dict[int, list[int]] = {}
    for row in pack(lines, row_tokens, line_tokens):
        assert row.token_ids.size == row.positions.size == row.line_of_token.size
        assert row.token_ids.size <= row_tokens or (row.lines.size == 1 and row.token_ids.size <= line_tokens)
        for place, line in enumerate(row.lines.tolist()):
            mine = row.line_of_token == place
            assert line not in found
            found[line] = row.token_ids[mine].tolist()
            assert row.positions[mine].tolist() == list(range(int(mine.sum())))
            assert row.first_tokens[place] == np.flatnonzero(mine)[0]
    assert [found[line] for line in range(len(lines))] == [list(shorten(line, line_tokens)) for line in lines]


@given(LINES)
def test_rows_are_full_enough(lines: list[list[int]]) -> None:
    """No two rows could have been one."""
    room = sorted(max(0, ROW_TOKENS - row.token_ids.size) for row in pack(lines))
    assert all(ROW_TOKENS - free > room[-1] for free in room[:-1])


@given(st.lists(st.integers(), min_size=2, max_size=600), st.integers(8, 200))
def test_a_long_line_keeps_head_and_tail(ids: list[int], row_tokens: int) -> None:
    """What is left of a long line is its beginning and its end, the special tokens of both included, and fills the row."""
    kept = list(shorten(ids, row_tokens))
    if len(ids) <= row_tokens:
        assert kept == ids
    else:
        head = next(
            size
            for size in range(row_tokens, 0, -1)
            if kept[:size] == ids[:size] and kept[size:] == ids[len(ids) - (row_tokens - size) :]
        )
        assert len(kept) == row_tokens
        assert 0 < head < row_tokens or kept == ids[:row_tokens]
        assert (kept[0], kept[-1]) == (ids[0], ids[-1])


def test_no_lines_make_no_rows() -> None:
    """Packing nothing is not an error."""
    assert pack([]) == []


def test_a_line_without_tokens_is_refused() -> None:
    """A line of no tokens has no first token to gather; the message names it."""
    with pytest.raises(ValueError, match="line 1 has no tokens"):
        pack([[CLS, SEP], [], [CLS, SEP]])


def test_numpy_lines_pack_like_lists() -> None:
    """Token ids may come as arrays."""
    lines = [[CLS, 5, SEP], [CLS, *range(200), SEP]]
    for mine, other in zip(pack([np.array(line) for line in lines]), pack(lines), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, other, strict=True))
