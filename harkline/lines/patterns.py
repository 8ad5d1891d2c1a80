"""The table of what is redacted: one row a pattern, in the order in which they are applied, so that the one that knows most names what it found.

`screen` is a necessary condition in the syntax of Rust's regex crate: where it finds nothing in a text, `find` would not either. It may find too much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harkline.lines import checked_numbers, credentials, email_addresses, http_credentials, named_secrets, private_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Pattern(NamedTuple):
    """One kind of secret: what it is called in marks, metrics and settings, and how it is found."""

    name: str
    screen: str
    find: Callable[[str], Iterator[tuple[int, int]]]  # spans of what is to be replaced, in any order


def _shaped(name: str, shape: str) -> Pattern:
    return Pattern(name, shape, credentials.finder(shape))


PATTERNS: tuple[Pattern, ...] = (
    Pattern("private_key", private_keys.SCREEN, private_keys.private_keys),
    Pattern("jwt", credentials.JWT_SCREEN, credentials.jwts),
    _shaped("aws_key", credentials.AWS),
    _shaped("github_token", credentials.GITHUB),
    _shaped("gitlab_token", credentials.GITLAB),
    _shaped("slack_token", credentials.SLACK),
    _shaped("stripe_key", credentials.STRIPE),
    _shaped("google_key", credentials.GOOGLE),
    _shaped("npm_token", credentials.NPM),
    Pattern("ai_key", credentials.AI, credentials.ai_keys),
    _shaped("sendgrid_key", credentials.SENDGRID),
    _shaped("twilio_key", credentials.TWILIO),
    Pattern("url_password", http_credentials.URL_SCREEN, http_credentials.url_passwords),
    Pattern("authorization", http_credentials.AUTHORIZATION_SCREEN, http_credentials.authorizations),
    Pattern("cookie", http_credentials.COOKIE_SCREEN, http_credentials.cookies),
    Pattern("secret_value", named_secrets.SCREEN, named_secrets.secret_values),
    Pattern("card", checked_numbers.CARD_SCREEN, checked_numbers.cards),
    Pattern("iban", checked_numbers.IBAN_SCREEN, checked_numbers.ibans),
    Pattern("us_ssn", checked_numbers.SSN_SCREEN, checked_numbers.social_security_numbers),
    Pattern("email", email_addresses.SCREEN, email_addresses.email_addresses),
)
NAMES: tuple[str, ...] = tuple(pattern.name for pattern in PATTERNS)
# Whose address it was is often what a line is about, and support asks for it.
OPTIONAL = ("email",)
DEFAULT: tuple[str, ...] = tuple(name for name in NAMES if name not in OPTIONAL)
_GROUPS = {"all": NAMES, "default": DEFAULT}


def chosen(said: str) -> tuple[str, ...]:
    """Return the names that a setting means, in the table's order.

    `off`, or a list of names and of the groups `default` and `all`; `-name` takes one out again; nothing is `default`. Raises ValueError, which
    names what is not known and lists what is.
    """
    parts = [part.strip().lower() for part in said.split(",") if part.strip()] or ["default"]
    if parts == ["off"]:
        return ()
    taken: set[str] = set()
    for part in parts:
        name = part.removeprefix("-")
        members = _GROUPS.get(name, (name,))
        if not set(members) <= set(NAMES):
            raise ValueError(
                f"unknown pattern {part!r}: say off, default, all, or a list of {', '.join(NAMES)}; -name takes one out"
            )
        taken = taken.difference(members) if part.startswith("-") else taken.union(members)
    return tuple(name for name in NAMES if name in taken)
