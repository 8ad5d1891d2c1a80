"""Keys and tokens that their makers gave a shape: a fixed prefix and a run of characters after it.

Each shape is one regular expression in the dialect that Python's `re` and the Rust engine of the screen share (`redaction.py`). Prefixes may
follow anything, since what stands around a key is for its writer to choose; only those that end common words (`disk-`, `MSG.`) ask for a boundary.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Span = tuple[int, int]

AWS = r"(?:AKIA|ASIA)[A-Z0-9]{16}"
GITHUB = r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}"
GITLAB = r"gl(?:pat|ptt|dt|rt|cbt|ft|imt|agent|oas|soat)-[A-Za-z0-9_-]{20,}(?:\.[0-9a-z]{2}\.[0-9a-z]{7,9})?"
SLACK = (
    r"xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,}"
    r"|hooks\.slack\.com/(?:services|workflows|triggers)/(?P<secret>[A-Za-z0-9/_-]{16,})"
)
STRIPE = r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{24,}"
GOOGLE = r"AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9_-]{20,}"
NPM = r"npm_[A-Za-z0-9]{36,}"
AI = r"(?:^|[^A-Za-z0-9])(?P<secret>sk-[A-Za-z0-9_-]{20,})"
SENDGRID = r"(?:^|[^A-Za-z0-9])(?P<secret>SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,})"
TWILIO = r"(?:^|[^A-Za-z0-9])(?P<secret>SK[0-9a-fA-F]{32})"

JWT_SCREEN = r"eyJ[A-Za-z0-9_-]{5,}\."
# Takes whatever it looked at, a token or not, so that no character is read twice: a search that fails at every `eyJ` of a long run is quadratic.
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]*+(?:\.[A-Za-z0-9_-]*+)*+")
_JWT_HEADER_CHARS = 8

_DIGIT = re.compile(r"[0-9]")
_CAPITAL = re.compile(r"[A-Z]")


def finder(shape: str) -> Callable[[str], Iterator[Span]]:
    """Return what finds a shape: the whole match, or its group `secret` where that took part."""
    search = re.compile(shape).finditer
    group = "secret" if "(?P<secret>" in shape else 0

    def find(text: str) -> Iterator[Span]:
        for found in search(text):
            yield found.span(group) if found[group] is not None else found.span()

    return find


def ai_keys(text: str) -> Iterator[Span]:
    """Yield the keys of model providers: `sk-` also begins class names and hosts, which lack capitals or digits."""
    for start, end in _find_ai_keys(text):
        if _CAPITAL.search(text, start, end) and _DIGIT.search(text, start, end):
            yield start, end


def jwts(text: str) -> Iterator[Span]:
    """Yield JSON Web Tokens (RFC 7519), encrypted and cut ones too; `eyJ` is how base64 writes an object's `{"`."""
    for found in _JWT.finditer(text):
        header, dot, claims = found[0].partition(".")
        if dot and claims.strip(".") and len(header) >= _JWT_HEADER_CHARS:
            yield found.span()


_find_ai_keys = finder(AI)
