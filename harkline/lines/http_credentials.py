"""Credentials as HTTP and URLs carry them: `Authorization`, `Bearer` and `Basic` wherever they stand, `Cookie` and `Set-Cookie`, `//user:password@host`."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from harkline.lines.assigned import ASSIGNED, ASSIGNS, CLOSED, end_of_value, occurrences
from harkline.lines.stand_ins import is_stand_in, looks_random

if TYPE_CHECKING:
    from collections.abc import Iterator

    Span = tuple[int, int]

URL_SCREEN = r""":\\?/\\?/[^\s/?#:@"'<>\[\]]*:[^\s@"'<>]+@"""
AUTHORIZATION_SCREEN = rf"(?i:authorization){CLOSED}{ASSIGNS}|(?i:bearer|basic)[ \t:]{{1,3}}[A-Za-z0-9._~+/=-]{{6}}"
COOKIE_SCREEN = rf"(?i:cookie2?){CLOSED}{ASSIGNS}"

# RFC 3986 section 3.2.1. The second kind holds what a URL's password must not, unless the digits before it are a port.
_URL_PASSWORD = re.compile(
    r""":\\?/\\?/[^\s/?#:@"'<>\[\]]*:(?:(?P<plain>[^\s/?#"'<>\\]+)@|(?![0-9]{1,5}[\\/?#])(?P<odd>[^\s@"'<>]{1,100}+)@)"""
)
_COOKIE = re.compile(rf"cookie2?{ASSIGNED}", re.IGNORECASE)
_PAIRS = re.compile(r"""[^\s;,"'`&|<>{}\[\]\\]++(?:;[ \t]?[^\s;,"'`&|<>{}\[\]\\]++)*+""")
# Switches and load balancers number their rules and flows with cookies too: `cookie=0x273b6cf8e558`.
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{1,16}")
_AUTHORIZATION = re.compile(
    rf"authorization{ASSIGNED}(?:(?P<scheme>[a-z][a-z0-9-]{{1,30}})[ \t]{{1,4}})?"
    r"|(?P<bare>bearer|basic)[ \t:]{1,3}(?P<value>[a-z0-9._~+/=-]{6,})",
    re.IGNORECASE,
)
# Schemes (IANA's registry, and what services use): what follows one is a credential, or in the second kind a list of parameters.
_SCHEMES = frozenset(("bearer", "basic", "token", "apikey", "api-key", "key", "negotiate", "ntlm", "dpop", "gnap"))
_LISTED_SCHEMES = ("digest", "oauth", "hawk", "signature", "aws4", "scram", "hmac", "mutual", "vapid")
_PARAMETER = r"""[\w-]++=(?:\\*"[^"\n]*+"?|[^\s,"\\]++|\\)*+"""
_PARAMETERS = re.compile(rf"{_PARAMETER}(?:(?:,[ \t]*+|[ \t]++){_PARAMETER})*+")


def url_passwords(text: str) -> Iterator[Span]:
    """Yield the passwords in URLs; the user and the host stay."""
    for found in _URL_PASSWORD.finditer(text):
        group = "plain" if found["plain"] is not None else "odd"
        if not is_stand_in(found[group]):
            yield found.span(group)


def cookies(text: str) -> Iterator[Span]:
    """Yield the values of Cookie and Set-Cookie (RFC 6265), all pairs of one as a whole."""
    done = 0
    for at in occurrences(text, ("cookie",)):
        found = _COOKIE.match(text, at) if at >= done else None
        if found is None:
            continue
        start = found.end()
        if found["quote"]:
            end = end_of_value(text, start, found["quote"])
        else:
            pairs = _PAIRS.match(text, start)
            end = pairs.end() if pairs else start
        if is_cookie(text[start:end]):
            yield start, end
            done = end


def authorizations(text: str) -> Iterator[Span]:
    """Yield credentials of HTTP's Authorization (RFC 9110 section 11.6.2), and of Bearer and Basic wherever they stand; the scheme stays."""
    done = 0
    for at in occurrences(text, ("authorization", "bearer", "basic")):
        found = _AUTHORIZATION.match(text, at) if at >= done else None
        if found is None:
            continue
        start, end = _bare(found) if found["bare"] else _assigned(text, found)
        if start < end:
            yield start, end
            done = end


def is_cookie(value: str) -> bool:
    """Return whether a cookie is pairs, or looks like a session's."""
    return "=" in value or (looks_random(value) and not _ADDRESS.fullmatch(value) and not is_stand_in(value))


def _bare(found: re.Match[str]) -> Span:
    value = found["value"]
    good = _is_basic(value) if found["bare"].lower() == "basic" else looks_random(value)
    return found.span("value") if good else (0, 0)


def _assigned(text: str, found: re.Match[str]) -> Span:
    """Return where the credentials are; the same place twice where there are none."""
    scheme = (found["scheme"] or "").lower()
    listed = scheme.startswith(_LISTED_SCHEMES)
    known = listed or scheme in _SCHEMES
    # What is no scheme is the credential itself, or prose.
    start = found.end() if known or not scheme else found.start("scheme")
    if found["quote"]:
        end = end_of_value(text, start, found["quote"])
    elif listed and (parameters := _PARAMETERS.match(text, start)):
        end = parameters.end()
    else:
        end = end_of_value(text, start, None)
    value = text[start:end]
    prose = bool(found["gap"]) and not known
    if is_stand_in(value, prose=prose):
        return start, start
    told = known or found["quote"] or found["closed"] or not prose or looks_random(value)
    return (start, end) if told else (start, start)


def _is_basic(value: str) -> bool:
    """Return whether base64 holds `user:password` (RFC 7617)."""
    try:
        return b":" in base64.b64decode(value.rstrip(".=") + "==", validate=True)
    except binascii.Error:
        return False
