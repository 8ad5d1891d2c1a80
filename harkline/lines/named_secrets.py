"""Secrets that are told by the name they are given to: `db_password=...`, `"token": "..."`, `<secret>...</secret>`, `--api-key ...`, `PASSWORD '...'`.

What only stands in a secret's place is left (`stand_ins.py`). Every value that is looked at and not taken is short, so no text makes the search
quadratic.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harkline.lines.assigned import ASSIGNED, ASSIGNS, CLOSED, end_of_value, occurrences
from harkline.lines.stand_ins import is_name, is_stand_in, is_token_stand_in, looks_random

if TYPE_CHECKING:
    from collections.abc import Iterator

    Span = tuple[int, int]

_PASSWORD = r"passw(?:or)?d(?:[_-]?(?:confirm(?:ation)?|again|hash|value|[0-9]))?|passphrase|passcode|pwd|(?<=[_-])pass"  # noqa: S105 - a pattern
_KEY = r"(?:api|access|secret|private|account|signing|encryption|master|auth)[ _.-]?key"
_OTHERWISE = r"(?:[ \t][^<>\n]{0,100})?>|[ \t]{1,4}'|[ \t]"

# Looser than what is searched: another engine, which knows no lookbehind.
_WORD = _PASSWORD.replace("(?<=[_-])", "[_-]") + f"|secret|token|{_KEY}"
SCREEN = (
    rf"(?i:{_WORD})(?:{CLOSED}{ASSIGNS}|(?:[ \t][^<>\n]{{0,100}})?>)|(?i:passw(?:or)?d|identified[ \t]by)[ \t]{{1,4}}'"
    rf"|--[A-Za-z0-9_-]{{0,40}}(?i:{_WORD})[ \t]"
)

# Where to look: each name holds one of these.
_STEMS = ("pass", "pwd", "secret", "token", "key", "identified")
# At a stem: the rest of the name, and how the value is given. Besides assignments: an XML element, SQL, an option of a command line.
_GIVEN = re.compile(
    rf"""(?:(?P<password>{_PASSWORD})|(?P<secret>(?<![a-z0-9_-])secret)|(?P<token>secret|token)|(?P<key>key)|identified[ \t]by)
    (?:{ASSIGNED}
      | (?:[ \t][^<>\n]{{0,100}})?>(?P<element>[^<>\n]{{1,1024}})</
      | [ \t]{{1,4}}'(?P<sql>[^'\n]{{1,1024}})
      | [ \t]{{1,4}}(?P<option>[^\s'"-][^\s'"]*)
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_BEFORE_KEY = re.compile(rf"{_KEY.removesuffix('key')}$", re.IGNORECASE)
_OPTION = re.compile(r"--[A-Za-z0-9_-]*$")
_BEFORE_CHARS = 42
_LABEL = re.compile(rf"(?:{_PASSWORD}|secret|token|{_KEY})$", re.IGNORECASE)
_NEXT_NAME = re.compile(r"[A-Za-z_][\w.-]*[=:]")
_NAME_CHARS = 64
_PATH_CHARS = 1024


def secret_values(text: str) -> Iterator[Span]:
    """Yield what passwords, secrets, tokens and keys are set to; their names stay."""
    done = 0
    for at in occurrences(text, _STEMS):
        found = _GIVEN.match(text, at) if at >= done else None
        if found is None:
            continue
        before = text[max(0, at - _BEFORE_CHARS) : at]
        if found["key"] and not _BEFORE_KEY.search(before):
            continue
        start, end = _value(text, found, before)
        if start < end:
            yield start, end
            done = end


def is_secret_label(name: str, value: str) -> bool:
    """Return whether a label's value is a secret because of the label's name."""
    return _LABEL.search(name) is not None and not is_stand_in(value) and not is_token_stand_in(value)


def _value(text: str, found: re.Match[str], before: str) -> Span:
    """Return where the secret is; the same place twice where there is none."""
    if found["assigns"]:
        start, end = found.end(), end_of_value(text, found.end(), found["quote"])
        return (start, end) if _is_secret(found, text[start:end]) else (start, start)
    given = found.lastgroup or 0
    fits = {
        "element": True,
        "sql": not found["key"] and not found["token"] and not found["secret"],
        "option": _OPTION.search(before) is not None,
    }
    return found.span(given) if fits.get(str(given)) and not is_stand_in(found[given]) else (0, 0)


def _is_secret(found: re.Match[str], value: str) -> bool:
    """Tell a secret from what stands where one would: nothing, another name, a word of prose."""
    prose = ":" in found["assigns"] and bool(found["gap"]) and not found["closed"]
    if is_stand_in(value, prose=bool(found["quote"]) if " " in value else prose and not found["quote"]):
        return False
    if found["gap"] and not found["quote"] and _is_next_name(found["assigns"], value):
        return False
    if found["password"]:
        name = found["password"].lower()
        is_path = name == "pwd" and len(value) <= _PATH_CHARS and value.startswith(("/", "~", "\\", "C:"))
        is_count = value.isdecimal() and (name == "pass" or (prose and len(value) < 4))
        return not (is_path or is_count)
    # Kubernetes' name of a secret, not what is in it.
    is_its_name = found["secret"] and is_name(value) and (prose or not any(char.isdigit() for char in value))
    if is_its_name or is_token_stand_in(value):
        return False
    a_parser_may_speak = prose and (not found["quote"] or (found["token"] or "").lower() == "token")
    return looks_random(value) if a_parser_may_speak else True


def _is_next_name(assigns: str, value: str) -> bool:
    """Return whether the value was left empty, and what follows is the next name: `password= user=bob`, `stream/token: activity/45: stale`."""
    return len(value) <= _NAME_CHARS and (value[-1] == ":" or ("=" in assigns and _NEXT_NAME.match(value) is not None))
