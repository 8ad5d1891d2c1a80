"""The few rules around the model, each one predictable by a person: floors that fluent text cannot talk down, and the judgement without a model.

Floors are applied after the cache and are never cached. A line that says of itself that it is a drill or a test has no floor: the model decides.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from harkline_workers.normalise import Normalised

_DRILL = re.compile(
    r"\b(?:drill|simulat\w+|dry[ -]?run|chaos (?:test|experiment)|game ?day|test(?:ing|ed)?|PASSED|mock)\b",
    re.IGNORECASE,
)


class Ruling(NamedTuple):
    """A rule's judgement and the sentence that explains it."""

    level: str
    why: str
    words: str = ""  # of the line, by which the rule knew; "" where it was the level, or nothing


# (what must stand in the line, the level it cannot fall below, why). Words that also occur in settings or reports are left to the model.
_FLOORS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    # At the start or after a tag: a search for "kernel panic", or an article of that title, is no panic.
    (
        re.compile(
            r"(?:^|[:\]] )(?:kernel )?panic(?= - |:)|(?:^|: )kernel panic\b|\bgoroutine \S+ \[running\]", re.IGNORECASE
        ),
        "critical",
        "floor: panic",
    ),
    # Not a counter or a flag that says zero, not a setting, not the reason of a state that is over.
    (
        re.compile(
            r"\bout of memory: kill|\binvoked oom-killer\b|\boom[-_ ]killed\b(?!\W{0,4}(?:false|0|no)\b)"
            r"|\boom_kill_process\b|\boom_kill[ =:]+#|# oom_kill event|\boom-kill(?::|')|\boom kill in\b"
            r"|(?<!last state: terminated \| reason: )\bOOMKilled\b(?!\W{0,4}(?:false|0)\b| /)|java\.lang\.OutOfMemoryError",
            re.IGNORECASE,
        ),
        "critical",
        "floor: out of memory kill",
    ),
    (
        re.compile(
            r"(?<!no )(?<!without )(?<!zero )(?<!avoid )(?<!prevent )\bdata (?:loss|lost)\b(?! prevention)(?!: (?:0|no|none|false)\b)",
            re.IGNORECASE,
        ),
        "critical",
        "floor: data loss",
    ),
)
# One look that finds most lines free of all floors.
_ANY_FLOOR = re.compile(r"panic|goroutine|out of memory|oom|OutOfMemory|data los", re.IGNORECASE)

_ALARMING = re.compile(
    r"\b(?:fatal|panic|emerg(?:ency)?|segfault|oops|corrupt(?:ed|ion)?|unrecoverable|crash(?:ed|loop\w*)?|core dump(?:ed)?"
    r"|out of memory|oom|deadlock|exception|traceback|fail(?:ed|ure|s|ing)?|error|unreachable|refused|denied|timed? ?out"
    r"|timeout|down|lost|dead|expired|abort(?:ed|ing)?|no space left|unable|cannot|could not|5xx)\b",
    re.IGNORECASE,
)
_CALMING = re.compile(
    r"\b(?:no|0|without|zero) (?:\w+ )?(?:errors?|failures?|exceptions?|failed|problems?)\b"
    r"|\b(?:recovered|restored|resolved|retry(?:ing)?|will retry|again|passed|success\w*|succeeded|completed)\b",
    re.IGNORECASE,
)


def floor(line: Normalised) -> Ruling | None:
    """Return the floor under a line, or None. The level the line carries counts: nothing talks a FATAL down."""
    if line.level == "critical":
        return Ruling("critical", "floor: logged as fatal or worse")
    if _ANY_FLOOR.search(line.template) is None or _DRILL.search(line.template) is not None:
        return None
    for pattern, level, why in _FLOORS:
        found = pattern.search(line.template)
        if found is not None:
            return Ruling(level, why, found.group())
    return None


def judge(line: Normalised) -> Ruling:
    """Judge a line by the rules alone: its floor, else the level it carries, else its words. What runs while there is no model."""
    ruling = floor(line)
    if ruling is not None:
        return ruling
    if line.level:
        return Ruling(line.level, f"rules: logged as {line.level}")
    alarming = _ALARMING.search(line.template)
    if alarming is not None and _CALMING.search(line.template) is None and _DRILL.search(line.template) is None:
        return Ruling("error", f"rules: says {alarming.group().lower()!r}", alarming.group())
    return Ruling("info", "rules: nothing alarming")
