"""What stands where a secret would and is none: nothing, a mask, a variable, a word of prose. It says why something failed, so it must stay."""

from __future__ import annotations

import re
import string

# Longer values are always taken for secrets.
_MOST_CHARS = 80
# Nearly all random text of this length holds a digit, but names of classes reach 30.
_WORD_CHARS = 32
_MASK = re.compile(
    r"""\[redacted:[a-z_]+\]|[*•.#?_-]+|x{3,}|X{3,}
    | [%$]\{?\{?[A-Z_][A-Z0-9_.]*\}?\}?|\$\{[^{}]*\}?|%[a-z]|%\([a-z_]+\)s|\{[a-z_.]*\}?|\{\{.*|<[A-Za-z_ .:-]*>?|\$\([^()]*\)?|\{SHA[0-9]*\}[0-9a-f]*""",
    re.VERBOSE,
)
# What may be around a word: the whole value is `yes,` or `(null)`; `expired2024!` is a password.
_AROUND = string.punctuation + " "
_SENTENCE = re.compile(r"[A-Za-z',.;:() -]{9,}")
_NOTHING = re.compile(
    r"""
    auth | censored | denied | disabled | empty | enabled | expired | false | filtered | hidden | incorrect | invalid | masked | mismatch | missing |
    nil | no | none | null | obfuscated | omitted | redacted | rejected | removed | required | sanitized | scrubbed | session | true | undefined |
    unknown | unset | wrong | yes
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PROSE = re.compile(
    r"""
    a | accepted | access | account | after | already | an | and | any | are | at | attempt | authentication | bad | be | because | been | before |
    but | by | can | cannot | changed | check | connection | could | credentials | did | do | does | enter | error | fail | failed | failure | field |
    for | from | get | given | good | had | has | have | if | in | insufficient | is | it | its | key | length | login | logon | lookup | may | must |
    need | never | new | not | of | ok | on | only | or | permission | please | policy | prompt | provided | received | request | reset | revoked |
    sent | server | set | should | success | successful | successfully | that | the | there | they | this | to | too | unable | unauthorized |
    unexpected | update | updated | use | used | user | username | using | validation | value | verification | was | were | when | while | will | with
    | you | your
    """,
    re.VERBOSE | re.IGNORECASE,
)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
# Kubernetes' names, with a namespace or without.
_NAME = re.compile(r"[a-z0-9.]*(?:[-/][a-z0-9.]+)+")
# An object as Java, Rust and Kotlin print it: `Token{4ee5ea2 ...`, `BinderProxy@2bd79ce`.
_OBJECT = re.compile(r"[A-Za-z_.$]+(?:[{(]|@[0-9a-f]{1,16}$)")


def is_stand_in(value: str, *, prose: bool = False) -> bool:
    """Return whether a value is no secret wherever it stands; `prose` says that a sentence may stand there, or go on."""
    if len(value) > _MOST_CHARS:
        return False
    if not value or _MASK.fullmatch(value):
        return True
    first = value.strip(_AROUND)
    if " " in first:
        if not prose or not _SENTENCE.fullmatch(value):
            return False
        first = first.split(" ", 1)[0].rstrip(_AROUND)
    return _NOTHING.fullmatch(first) is not None or (prose and _PROSE.fullmatch(first) is not None)


def is_token_stand_in(value: str) -> bool:
    """Return whether a value is not what tokens and keys are: a small number, a parser's sign, an object."""
    if len(value) > _MOST_CHARS:
        return False
    return (
        len(value) < 3
        or (value.isdecimal() and len(value) <= 6)
        or not any(char.isalnum() for char in value)
        or _OBJECT.match(value) is not None
    )


def is_name(value: str) -> bool:
    """Return whether a value may be the name of a secret rather than the secret: Kubernetes' are words with dashes, at times with a namespace."""
    return len(value) <= _MOST_CHARS and _NAME.fullmatch(value) is not None and not _UUID.fullmatch(value)


def looks_random(value: str) -> bool:
    """Return whether a value looks made by a machine rather than chosen as a word."""
    if len(value) > _MOST_CHARS:
        return True
    has_letter = any(char.isalpha() for char in value)
    if len(value) >= 8 and has_letter and any(char.isdigit() for char in value):
        return True
    return len(value) >= _WORD_CHARS and has_letter and "." not in value
