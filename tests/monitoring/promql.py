"""Which series a PromQL expression asks for: a rule on a name that nobody exports never fires, and nothing says so."""

from __future__ import annotations

import re

_STRING = re.compile(r'"(?:\\.|[^"\\])*"|' + r"'(?:\\.|[^'\\])*'")
_MATCHERS = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"\[[^\]]*\]")
_LABEL_LIST = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_OFFSET = re.compile(r"\boffset\s+-?\w+")
_NAME = re.compile(r"(?<![\w:$.])[a-zA-Z_:][\w:]*")
_KEYWORDS = {
    "and",
    "or",
    "unless",
    "bool",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "inf",
    "nan",
}


def _bare(expression: str) -> str:
    """Return the expression without strings, label matchers, ranges, label lists and offsets."""
    bare = _STRING.sub('""', expression)
    for noise in (_MATCHERS, _RANGE, _LABEL_LIST, _OFFSET):
        bare = noise.sub(" ", bare)
    return bare


def series_names(expression: str) -> set[str]:
    """Return the names of all series that the expression selects."""
    bare = _bare(expression)
    found = set()
    for match in _NAME.finditer(bare):
        is_function = bare[match.end() :].lstrip().startswith("(")
        if not is_function and match.group().lower() not in _KEYWORDS:
            found.add(match.group())
    return found


def label_names(expression: str) -> set[str]:
    """Return the names of all labels that the expression matches or groups by."""
    plain = _STRING.sub('""', expression)
    found = set()
    for matchers in _MATCHERS.findall(plain):
        found |= set(re.findall(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)", matchers))
    for _, labels in _LABEL_LIST.findall(plain):
        found |= {label.strip() for label in labels.split(",") if label.strip()}
    return found
