"""E-mail addresses (RFC 5321 section 4.1.2, as people have them): optional, since a line is often about whose address it was."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SCREEN = r"[A-Za-z0-9._%+-]@[A-Za-z0-9-]{1,63}\.[A-Za-z0-9]"
_ADDRESS = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]++@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])"
)


def email_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Yield addresses whose last label is of letters: `sshd@10.0.0.1` is none."""
    for found in _ADDRESS.finditer(text):
        yield found.span()
