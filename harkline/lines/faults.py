"""What can be wrong with a line or with what holds it: short codes, the same wherever lines are read."""

from __future__ import annotations

import msgspec

from harkline.errors import HarklineError

# What each code of a line says to a person.
LINE_FAULTS: dict[str, str] = {
    "bad_json": "the line is not JSON",
    "bad_utf8": "the JSON is not UTF-8",
    "too_deep": "the JSON is nested too deep",
    "not_an_object": "neither a JSON object nor a JSON string",
    "missing_message": "no message, or an empty one",
    "bad_message": "the message is not a string",
    "bad_service": "the service is not a string of at most 256 characters",
    "bad_environment": "the environment is not a string of at most 256 characters",
    "bad_timestamp": "the timestamp is neither RFC 3339 nor seconds, ms, us or ns since the epoch",
    "bad_level": "the level is neither a string of at most 256 characters nor an integer",
    "bad_id": "the id is neither a string of at most 256 characters nor an integer",
    "bad_labels": "the labels are not an object of at most 64 short strings",
    "line_too_long": "the line is longer than HARKLINE_MAX_LINE_BYTES",
}


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """One line that was not accepted: its place among the lines it came with, from 0, and why."""

    index: int
    error: str


class Undecodable(HarklineError):
    """What holds the lines is wrong, not one of them: a JSON array that breaks off, or more lines than allowed."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")
