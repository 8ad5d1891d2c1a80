"""What crosses the ledger comes back as it was, or is refused by name."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkline import contract
from harkline.contract import (
    CriticalLine,
    DeadLetter,
    Explanation,
    LogBatch,
    LogLine,
    Neighbour,
    Verdict,
    WordEffect,
)
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
EXPLANATIONS = st.builds(
    Explanation,
    words=st.lists(st.builds(WordEffect, word=TEXT, effect=st.none() | st.floats(-30, 30)), max_size=2),
    nearest=st.lists(
        st.builds(Neighbour, template=TEXT, level=TEXT, system=TEXT, similarity=st.floats(0, 1)), max_size=2
    ),
    said_by=TEXT,
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
    explanation=st.none() | EXPLANATIONS,
)


@given(st.builds(LogBatch, lines=st.lists(LINES, max_size=5), keep_verdicts=st.booleans(), explain=st.booleans()))
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


def test_a_batch_of_before_explanations_is_read() -> None:
    """An API of the last version writes two fields, and nobody asked it for explanations; its readers pass over the third of ours."""
    assert contract.decode_batch(msgspec.msgpack.encode((contract.VERSION, ([("text",)], True)))) == LogBatch(
        [LogLine("text")], keep_verdicts=True
    )

    class OldBatch(msgspec.Struct, array_like=True):
        lines: list[LogLine]
        keep_verdicts: bool = False

    _, batch = msgspec.msgpack.decode(
        contract.encode_batch(LogBatch([LogLine("text")], keep_verdicts=True, explain=True)), type=tuple[int, OldBatch]
    )
    assert (batch.lines, batch.keep_verdicts) == ([LogLine("text")], True)


def test_a_verdict_shows_no_explanation_that_nobody_asked_for() -> None:
    """Its eight fields stand in their order, in JSON and for readers of the last version, and a ninth only where it was asked for."""
    plain = Verdict("critical", 1.0, "error", "t", "rule", "why", degraded=False, model="m")
    fields = ["severity", "score", "level", "template", "source", "why", "degraded", "model"]
    assert list(msgspec.json.decode(msgspec.json.encode(plain))) == fields
    explained = msgspec.structs.replace(plain, explanation=Explanation([], [], "why"))
    assert list(msgspec.json.decode(msgspec.json.encode(explained))) == [*fields, "explanation"]


@given(st.integers(0, 10**15), st.integers(0, 10**6), st.integers(0, 600))
def test_a_batch_id_names_its_place(milliseconds: int, sequence: int, position: int) -> None:
    """parse(batch_id(entry, position)) is (entry, position)."""
    entry = f"{milliseconds}-{sequence}"
    assert contract.parse_batch_id(contract.batch_id(entry, position)) == (entry, position)
