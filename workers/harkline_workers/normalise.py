"""Turn a raw line into the text that the model reads, once, the same way in training and in serving.

The result is the *complete* model input and therefore the cache key: two lines with the same input are the same line to us. Whatever the model
may use must survive here (is a count zero or not, which class of HTTP status, which order of a percentage, the last attempt or one of several),
and whatever it must not tell apart must not (addresses, ids, times).
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Any change of what `normalise` returns is a change of the model's input: raise this, retrain, and old caches fall away by themselves.
NORMALISER_VERSION = "1"

LEVELS = ("debug", "info", "warning", "error", "critical")

# Levels as systems write them -> our five. Sources: syslog (RFC 5424 section 6.2.1), log4j, klog, Android, PostgreSQL, Windows, Kubernetes events.
_LEVEL_NAMES = {
    "debug": (
        "debug",
        "trace",
        "verbose",
        "finest",
        "finer",
        "fine",
        "dbg",
        "d",
        "v",
        "t",
        "7",
        "debug1",
        "debug2",
        "debug5",
    ),
    "info": (
        "info",
        "information",
        "informational",
        "notice",
        "log",
        "normal",
        "note",
        "hint",
        "statement",
        "i",
        "n",
        "config",
        "5",
        "6",
    ),
    "warning": ("warning", "warn", "w", "4", "wrn"),
    "error": ("error", "err", "severe", "failure", "e", "3", "eror"),
    "critical": ("critical", "crit", "fatal", "alert", "emerg", "emergency", "panic", "f", "c", "0", "1", "2", "a"),
}
_LEVEL_OF = {name: level for level, names in _LEVEL_NAMES.items() for name in names}

# Longer lines keep their head and their tail: the head names the event, the tail often holds the cause. In characters; the tokeniser cuts again.
_HEAD_CHARS = 700
_TAIL_CHARS = 350

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
# C0, DEL, C1, zero-width and bidirectional controls: nothing a model or a terminal should see.
_CONTROLS = dict.fromkeys(
    [
        *range(0x20),
        *range(0x7F, 0xA0),
        0x200B,
        0x200C,
        0x200D,
        0x200E,
        0x200F,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0xFEFF,
    ],
    " ",
)
_HAS_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,:]\d{1,9})?"
_HEADER = re.compile(
    rf"""\s*(?:<\d{{1,3}}>(?:\d\s)?)?(?:-\s)?(?:\d{{9,13}}(?:\.\d+)?\s+)?
    (?:[\[(]?(?:
        \d{{4}}[-/.]\d{{2}}[-/.]\d{{2}}(?:[T\s_-]+{_CLOCK}(?:\s?(?:Z|UTC|GMT|[+-]\d{{2}}:?\d{{2}}))?)?
      | \d{{8}}[-T\s]{_CLOCK}
      | \d{{2}}[/.-]\d{{2}}(?:[/.-]\d{{2,4}})?\s+{_CLOCK}
      | \d{{6}}\s\d{{6}}\b
      | (?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\w*,?\s+)?(?:\d{{1,2}}[\s-])?{_MONTH}[\s-]+\d{{1,2}},?\s+(?:\d{{4}}\s+)?{_CLOCK}
        (?:\s+(?:UTC|GMT|[+-]\d{{4}}))?(?:\s+\d{{4}})?
      | \d{{2}}:\d{{2}}:\d{{2}}(?:[.,]\d+)?\b
    )[\])]?[\s,:|-]*)?""",
    re.VERBOSE,
)

_WORD_LEVELS = (
    r"TRACE|DEBUG\d?|VERBOSE|FINEST|FINER|FINE|INFO|INFORMATION|NOTICE|LOG|WARN|WARNING|ERROR|ERR|SEVERE"
    r"|CRITICAL|CRIT|FATAL|ALERT|EMERG|EMERGENCY|PANIC"
)
_LEVEL = re.compile(
    rf"""
      "(?:log\.level|level|lvl|severity|severityText|levelname|loglevel)"\s*:\s*"(?P<json>[A-Za-z]{{1,13}})",?\s?
    | \b(?:level|lvl|severity|loglevel)=["']?(?P<pair>[A-Za-z]{{1,13}})\b["']?\s?
    | (?:(?<=\s)|(?<=^)|(?<=[|-]))[\[<(]\s*(?:\w+:)?(?P<bracket>(?i:{_WORD_LEVELS}|NOTE|SYSTEM))\s*[\]>)]:?\s?
    | (?:(?<=\s)|(?<=^)|(?<=[|\]-]))(?P<bare>{_WORD_LEVELS})(?=[\s:|,;\]]|-\s)[:|]?\s*
    | ^(?P<start>(?i:{_WORD_LEVELS}|Normal|Info|note))(?:\s*:\s+|\s{{2,}})
    | ^(?P<klog>[IWEF])\d{{4}}\s+{_CLOCK}\s+(?:\d+\s)?
    | ^\d+\s+\d+\s(?P<android>[VDIWEF])\s
    """,
    re.VERBOSE,
)
_LEVEL_ZONE_CHARS = 96

# Numbers. A run of digits joined by . : , / - (an address, a date, a version, a float) is one number.
_MASK = re.compile(
    r"""
      (?P<id>\b0x[0-9a-fA-F]+\b
           | \b(?=[a-fA-F-]*\d)[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*\b)
    | (?P<status>
        (?:HTTP/\d(?:\.\d)?"|(?<![eE]xit\s)\b[sS]tatus(?:[\ _]?[cC]ode)?|\bHTTP|\breturned|\bresponse|\banswered|\bresponded\swith)
        ["']?\s?[=:]?\s?["']?(?P<class>[1-5])\d\d(?![\d.:/-]))
    | (?P<attempt>\b(?P<nth>\d{1,6})(?P<of>\s?/\s?|\s(?:out\s)?of\s)(?P<last>\d{1,6})\b(?![/.:\d-]))
    | (?P<amount>(?<![\w.:/-])\d+(?:\.\d+)?)(?P<unit>\s?(?:%|°?[CF]\b|ms\b|s\b|secs?\b|seconds?\b|mins?\b|minutes?\b|h\b|hours?\b|days?\b))
    | (?P<number>(?:(?<=[_=\s(\[:,])-)?\d+(?:(?:[.:,/-]|(?<=\d\d)T(?=\d\d:))\d+)*(?:(?<=:\d\d)Z\b)?)
    """,
    re.VERBOSE,
)
_SPACES = re.compile(r"\s{2,}")


class Normalised(NamedTuple):
    """What the model reads of one line, and what a person sees of it."""

    model_input: str  # level, then template: the complete input, and the cache key
    template: str  # the message with its variable parts masked as `#`
    level: str  # one of LEVELS as logged, or "" where the line carries none


def canonical_level(name: str) -> str:
    """Map a level as some system writes it (`WARN`, `err`, `F`, syslog's `3`) to one of `LEVELS`, or "" where it is none."""
    return _LEVEL_OF.get(name.strip().lower(), "")


def normalise(message: str, level: str = "") -> Normalised:
    """Return the model's input for one raw message (any length, any characters) and its logged level, which may be empty.

    A level given beside the message wins over one found in its header; the header's token is taken out of the text either way. Never raises.
    """
    text = message
    if len(text) > _HEAD_CHARS + _TAIL_CHARS:
        text = f"{text[:_HEAD_CHARS]} ... {text[-_TAIL_CHARS:]}"
    if _HAS_CONTROLS.search(text):
        text = _ESCAPES.sub("", text).translate(_CONTROLS)
    header = _HEADER.match(text)
    if header is not None:
        text = text[header.end() :]
    found = _LEVEL.search(text, 0, _LEVEL_ZONE_CHARS)
    known = canonical_level(level) if level else ""
    if found is not None:
        token = found.group(found.lastgroup or 0)
        in_text = canonical_level(token)
        if in_text:
            text = text[: found.start()] + text[found.end() :]
            known = known or in_text
    template = _SPACES.sub(" ", _MASK.sub(_mask, text)).strip()
    return Normalised(f"{known or 'none'} | {template}", template, known)


def _mask(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind == "number":
        return "0" if not match.group().strip("0.:,/-TZ") else "#"
    if kind == "id":
        return "#"
    if kind == "unit":
        return _bucket(match["amount"]) + match["unit"]
    if kind == "status":
        return f"{match.group()[:-3]}{match['class']}xx"
    nth, last = int(match["nth"]), int(match["last"])
    if nth == 0:
        return f"0{match['of']}#"
    return f"all{match['of']}#" if nth == last else f"#{match['of']}#"


def _bucket(amount: str) -> str:
    """Round a measured amount to a value that stands for its order: a latency of 7200 s and one of 2 s must differ, 7200 and 7300 need not."""
    value = float(amount)
    if value == 0:
        return "0"
    for bound, stands_for in (
        (1, "0.5"),
        (10, "5"),
        (50, "20"),
        (90, "70"),
        (100, "95"),
        (101, "100"),
        (1000, "300"),
        (10000, "3000"),
    ):
        if value < bound:
            return stands_for
    return "30000"
