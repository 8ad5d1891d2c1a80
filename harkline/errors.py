"""The exception tree, drawn once, so that a caller can catch exactly what it can handle.

HarklineError
 |- SettingsError          a setting is missing or wrong; told at start, all of them at once
 |- ContractError          bytes that are not one of our messages, or of a version we do not speak
 |- Undecodable            a body that is none of the forms we read (harkline.lines)
 |- Unreadable             a file that cannot be read to its end (harkline.lines)
 |- ModelError             the model folder cannot be used; says which file and why
 |- LedgerError
     |- LedgerUnavailable  Redis did not answer in time, refused, or is full: the sender may retry
     |- BacklogFull        the bound in lines is reached: the sender may retry later
     |- KeyConflict        an Idempotency-Key came again with another body: the sender must not retry
"""

from __future__ import annotations


class HarklineError(Exception):
    """Base of every error that harkline raises on purpose."""


class SettingsError(HarklineError):
    """One or more settings are wrong. `problems` holds one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class ContractError(HarklineError):
    """A message on the ledger that this version cannot decode."""


class ModelError(HarklineError):
    """The model folder cannot be used."""


class LedgerError(HarklineError):
    """Base of everything that appending to the ledger can raise."""


class LedgerUnavailable(LedgerError):
    """Redis did not answer in time, refused the connection, or has no memory left. Nothing is promised: retry with the same key."""


class BacklogFull(LedgerError):
    """Accepting these lines would exceed the backlog bound."""

    def __init__(self, backlog_lines: int, bound_lines: int, retry_after_seconds: int) -> None:
        self.backlog_lines = backlog_lines
        self.bound_lines = bound_lines
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{backlog_lines} lines wait, the bound is {bound_lines}; retry in {retry_after_seconds} s")


class KeyConflict(LedgerError):
    """The Idempotency-Key was used within its lifetime for another body."""
