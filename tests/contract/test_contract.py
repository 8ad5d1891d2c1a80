"""What crosses the ledger comes back as it was, or is refused by name."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkline import contract
from harkline.contract import CriticalLine, DeadLetter, LogBatch, LogLine, Verdict
from harkline.errors import ContractError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
LINES = st.builds(
    LogLine,
    message=TEXT,
    service=TEXT,
    environment=TEXT,
    timestamp=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    level=TEXT,
    id=TEXT,
    labels=st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
)
VERDICTS = st.builds(
    Verdict,
    severity=st.sampled_from(contract.SEVERITIES),
    score=st.floats(0, 1),
    level=TEXT,
    template=TEXT,
    source=st.sampled_from(contract.SOURCES),
    why=TEXT,
    degraded=st.booleans(),
    model=TEXT,
)


@given(st.builds(LogBatch, lines=st.lists(LINES, max_size=5), keep_verdicts=st.booleans()))
def test_a_batch_survives_the_ledger(batch: LogBatch) -> None:
    """decode(encode(batch)) is the batch, whatever its text."""
    assert contract.decode_batch(contract.encode_batch(batch)) == batch


@given(st.lists(VERDICTS, max_size=4), LINES)
def test_verdicts_critical_lines_and_dead_letters_survive(verdicts: list[Verdict], line: LogLine) -> None:
    """The other stored forms come back as they were."""
    assert contract.decode_verdicts(contract.encode_verdicts(verdicts)) == verdicts
    letter = DeadLetter("1-0-0", 3, "why", line)
    assert contract.decode_dead_letter(contract.encode_dead_letter(letter)) == letter
    for verdict in verdicts:
        critical = CriticalLine("1-0-0", 1.5, line, verdict)
        assert contract.decode_critical(contract.encode_critical(critical)) == critical


@given(st.binary(max_size=40))
def test_bytes_that_are_no_batch_are_refused_by_name(data: bytes) -> None:
    """Whatever lies on the ledger, the reader raises ContractError and nothing else."""
    with pytest.raises(ContractError):
        contract.decode_batch(data)


def test_another_version_is_told_from_junk() -> None:
    """A newer API's batch says which version it is, so that a person knows what to upgrade."""
    data = msgspec.msgpack.encode((contract.VERSION + 1, LogBatch([])))
    with pytest.raises(ContractError, match=f"version {contract.VERSION + 1}"):
        contract.decode_batch(data)


def test_a_field_added_at_the_end_keeps_old_readers_working() -> None:
    """Forward compatibility within a version: a longer line array decodes, its extra field ignored."""
    data = msgspec.msgpack.encode(
        (contract.VERSION, ([("text", "svc", "", None, "", "", None, "a later field")], False))
    )
    assert contract.decode_batch(data).lines == [LogLine("text", "svc")]


@given(st.integers(0, 10**15), st.integers(0, 10**6), st.integers(0, 600))
def test_a_batch_id_names_its_place(milliseconds: int, sequence: int, position: int) -> None:
    """parse(batch_id(entry, position)) is (entry, position)."""
    entry = f"{milliseconds}-{sequence}"
    assert contract.parse_batch_id(contract.batch_id(entry, position)) == (entry, position)
