"""What crosses the ledger: lines, batches, verdicts, and the names both sides use. Versioned, so that old and new processes can overlap.

Encoding is msgpack through msgspec: a batch of n lines is one array, a line is an array in field order, so adding a field at the end keeps
old readers working and removing or reordering one means a new `VERSION`.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from harkline.errors import ContractError

VERSION = 1

T = TypeVar("T")

TASK_CLASSIFY = "harkline.classify"
QUEUE_CLASSIFY = "classify"

Severity = Literal["critical", "not_critical"]
SEVERITIES: tuple[Severity, ...] = ("critical", "not_critical")
Source = Literal["model", "cache", "rule", "override"]
SOURCES: tuple[Source, ...] = ("model", "cache", "rule", "override")

# The label value for services past the bound, and for lines that name none.
SERVICE_OTHER = "other"
SERVICE_UNKNOWN = "unknown"


class LogLine(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One log message. Only `message` is required; empty strings and None mean that the sender did not say."""

    message: str
    service: str = ""
    environment: str = ""
    timestamp: float | None = None  # seconds since the epoch, as the sender says
    level: str = ""  # as the sender wrote it
    id: str = ""
    labels: dict[str, str] | None = None


class LogBatch(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The lines of one request, in its order."""

    lines: list[LogLine]
    keep_verdicts: bool = False  # the sender waits for them, or will ask
    explain: bool = False  # and wants to know why


class WordEffect(msgspec.Struct, frozen=True, gc=False):
    """A word of a line, and how far it moved the log-odds of critical, in nats; None where a rule decided, and this is what it went by."""

    word: str
    effect: float | None


class Neighbour(msgspec.Struct, frozen=True, gc=False):
    """An example of the corpus, what it was labelled, and how like it a line is to the model, 0..1."""

    template: str
    level: str
    system: str
    similarity: float


class Explanation(msgspec.Struct, frozen=True, gc=False):
    """Why a verdict is what it is: the words that moved it, the most telling first, and what the line is like."""

    words: list[WordEffect]
    nearest: list[Neighbour]
    said_by: str  # "model", or the rule or override that decided, in its own words


class Verdict(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What was decided of one line. `score` is the calibrated probability of `critical`, or 1 or 0 where a rule or an override decided.

    `omit_defaults`: whoever did not ask for an explanation finds no trace of it.
    """

    severity: Severity
    score: float
    level: str
    template: str
    source: Source
    why: str
    degraded: bool
    model: str
    explanation: Explanation | None = None  # only where the sender asked for it


class CriticalLine(msgspec.Struct, frozen=True, gc=False):
    """A critical line as it is shown to people: what `/stream` sends and `harkline tail` prints."""

    batch: str
    accepted_at: float  # seconds since the epoch, Redis' clock
    line: LogLine
    verdict: Verdict


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A line that kept killing or raising: counted by the rules, set aside for a person."""

    batch: str
    position: int  # of the line in its batch
    reason: str
    line: LogLine


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    version: int
    batch: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_envelope_decoder = msgspec.msgpack.Decoder(_Envelope)
_batch_decoder = msgspec.msgpack.Decoder(LogBatch)
_verdicts_decoder = msgspec.msgpack.Decoder(list[Verdict])
_critical_decoder = msgspec.msgpack.Decoder(CriticalLine)
_dead_letter_decoder = msgspec.msgpack.Decoder(DeadLetter)


def encode_batch(batch: LogBatch) -> bytes:
    """Return the ledger's form of a batch."""
    return _encoder.encode((VERSION, batch))


def decode_batch(data: bytes) -> LogBatch:
    """Return the batch that `encode_batch` wrote; raises ContractError for anything else, naming the version it met."""
    try:
        envelope = _envelope_decoder.decode(data)
        if envelope.version != VERSION:
            raise ContractError(
                f"batch of version {envelope.version}, this process reads {VERSION}: upgrade the workers before the API"
            )
        return _batch_decoder.decode(envelope.batch)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ContractError(f"not a batch: {error}") from error


def encode_verdicts(verdicts: list[Verdict]) -> bytes:
    """Return the stored form of a batch's verdicts."""
    return _encoder.encode(verdicts)


def decode_verdicts(data: bytes) -> list[Verdict]:
    """Return the verdicts that `encode_verdicts` wrote."""
    return _decode(_verdicts_decoder, data)


def encode_critical(critical: CriticalLine) -> bytes:
    """Return the stored form of a critical line."""
    return _encoder.encode(critical)


def decode_critical(data: bytes) -> CriticalLine:
    """Return the critical line that `encode_critical` wrote."""
    return _decode(_critical_decoder, data)


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """Return the stored form of a dead letter."""
    return _encoder.encode(letter)


def decode_dead_letter(data: bytes) -> DeadLetter:
    """Return the dead letter that `encode_dead_letter` wrote."""
    return _decode(_dead_letter_decoder, data)


def _decode(decoder: msgspec.msgpack.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ContractError(str(error)) from error


def batch_id(entry_id: str, position: int) -> str:
    """Name the batch at `position` of a ledger entry: `1795335139443-0-3`. The id alone tells its place, so nothing is stored per batch."""
    return f"{entry_id}-{position}"


def parse_batch_id(value: str) -> tuple[str, int] | None:
    """Return (entry id, position) of a batch id, or None where it is none of ours."""
    parts = value.split("-")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
        return None
    return f"{parts[0]}-{parts[1]}", int(parts[2])
