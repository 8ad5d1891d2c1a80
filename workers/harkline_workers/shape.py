"""The plan of a line: everything about it that does not depend on the values of its numbers.

A line's shape is the line with every run of digits replaced by one `0`. Lines of one template share it, whatever their numbers, so headers, levels
and the places of numbers are looked for once per shape, with slow and readable patterns, and what is found is kept as a plan: pieces of text, and
between them which runs of digits to read and how. Nothing here sees a value; that is what makes a remembered plan as good as a fresh one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from harkline_workers.levels import REDIS_MARKS, canonical_level

_CLOCK = r"0:0(?::0)?(?:[.,:]0)?"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_WEEKDAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\w*,?\s+"
_WORD_LEVELS = (
    r"TRACE|DEBUG0?|VERBOSE|FINEST|FINER|FINE|INFO|INFORMATION|NOTICE|LOG|WARN|WARNING|ERROR|ERR|SEVERE"
    r"|CRITICAL|CRIT|FATAL|ALERT|EMERG|EMERGENCY|PANIC"
)
_HEADER = re.compile(
    rf"""\s*(?:<(?P<priority>0)>(?:0\s)?)?(?:-\s)?(?P<redis>0:[A-Z]\s)?
    (?:0(?:\.0)?\s+0\.0\.0\s+|0(?:\.0)?\s+(?=0[-/]0|{_MONTH}\s))?
    (?:[\[(]?(?:
        (?P<iso>0[-/.]0[-/.]0[T\s_-]+{_CLOCK}(?:\s?(?:Z|UTC|GMT|[+-]0(?::?0)?))?)
      | 0-0-0(?![-.\w])
      | 0[-T]{_CLOCK}
      | 0[/.-]0\s+{_CLOCK}
      | (?P<syslog>(?:{_WEEKDAY})?(?:0[\s-])?{_MONTH}[\s-]+0,?\s+(?:0\s+)?{_CLOCK}(?:\s+(?:UTC|GMT|[+-]0))?(?:\s+0)?)
      | 0\s{_MONTH}\s0\s+{_CLOCK}
      | 0/{_MONTH}/0:{_CLOCK}(?:\s[+-]0)?
      | 0:0:0(?:[.,]0)?\b
      | 0\s0(?:\s0)?(?=\s(?:{_WORD_LEVELS})\b)
    )(?:(?<=0)|(?<=[A-Z]))[\])]?(?:[\s,:|-]*))?""",
    re.VERBOSE,
)
# `host tag[pid]:` after a syslog time: the host says nothing about the line. The kernel's own clock goes with it.
_HOST = re.compile(rf"(?!(?i:{_WORD_LEVELS})\b)[\w.:-]+\s+(?=[\w./()@+-]+(?:\[0\])?:\s)")
_KERNEL_CLOCK = re.compile(r"(kernel:\s)?\[\s*0\.0\]\s*")
_NGINX_PROCESS = re.compile(r"0#0:\s(?:\*0\s)?")
_REDIS_MARK = re.compile(r"([.*#-])\s")
_LEVEL = re.compile(
    rf"""
      "(?:log\.level|level|lvl|severity|severityText|levelname|loglevel)"\s*:\s*"(?P<json>[A-Za-z]{{1,13}})",?\s?
    | "level"\s*:\s*(?P<numbered>0),?\s?
    | \b(?:level|lvl|severity|loglevel)=["']?(?P<pair>[A-Za-z]{{1,13}})\b["']?\s?
    | (?:(?<=\s)|(?<=^)|(?<=[|-]))[\[<(]\s*(?:\w+:)?(?P<bracket>(?i:{_WORD_LEVELS}|NOTE|SYSTEM))\s*[\]>)]:?\s?
    | (?:(?<=\s)|(?<=^)|(?<=[|\]-]))(?P<bare>{_WORD_LEVELS})(?=[\s:|,;\]]|-\s)[:|]?\s*
    | ^(?P<start>(?i:{_WORD_LEVELS}|Normal|Info|note))(?:\s*:\s+|\s{{2,}})
    | ^(?P<klog>[IWEF])0\s+{_CLOCK}\s+(?:0\s)?
    | ^0\s+0\s(?P<android>[VDIWEF])\s
    """,
    re.VERBOSE,
)
_LEVEL_ZONE_CHARS = 96

_SPACES = re.compile(r"\s{2,}")
# Runs joined by . : , / - (an address, a date, a version, a float) are one number.
_NUMBER = re.compile(
    rf"""
      (?<![\w:])(?=\S*0)(?:[0a-fA-F]{{0,4}}:){{3,}}[0a-fA-F]{{1,4}}(?![\w:])
    | (?<![A-Za-z0-9])(?:0x[a-fA-F]+|0[a-fA-F]{{5,}}|[a-fA-F]{{6,}}0)(?![A-Za-z0-9])
    | 0(?:[-/]0[-/]|/{_MONTH}/)0[T:\ ]{_CLOCK}(?:Z|\ ?[+-]0(?::0)?)?
    | (?P<ratio>(?<![\w.:/-])0(?:\s?/\s?|\s(?:out\s)?of\s)0\b(?![/.:-]))
    | (?P<amount>(?<![\w.:/-])0(?:\.0)?)(?=\s?(?P<unit>%|°?[CF]\b|(?:ms|s|secs?|seconds?|mins?|minutes?|h|hours?|days?)\b))
    | (?P<plain>(?<![A-Za-z0-9_./])(?<![\w)\]]-)0(?:\.0)?(?!(?:[.:,/-]|T)0))
    | 0(?:(?:[.:,/-]|T(?=0:))0)*(?:(?<=:0)Z\b)?
    """,
    re.VERBOSE,
)
_QUOTE_OR_SIGN = r"""["']?\s?[=:]?\s?["']?$"""
_STATUS_BEFORE = re.compile(
    rf"""(?:HTTP/0(?:\.0)?"|(?<!exit\ )(?<!with\ )(?<!exit_)\b(?:http[_ ]?)?(?:status(?:[ _]?code)?|code)|\bHTTP|\breturned|\bresponse(?:[ _]?code)?
    |\banswered(?:\ with)?|\bresponded(?:\ with)?|\bgot|\b(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)\ \S+){_QUOTE_OR_SIGN}""",
    re.VERBOSE | re.IGNORECASE,
)
_EXIT_BEFORE = re.compile(
    r"""(?:\bexit(?:ed|s|ing)?(?:[ _]?(?:code|status))?|\bexited\ with|\bexit(?:ed|s|ing)?(?:\ with)?(?:\ (?:an?\ )?(?:error\ )?(?:code|status|signal))?
    |\bsignal|\bsig|\berrno|\brc|\bret(?:code|val)?|\breturn[ _]?(?:code|value)|\bstatus|\bcode|\berror)\s?(?:code\s)?["']?\s?[=:(]?\s?["']?-?$""",
    re.VERBOSE | re.IGNORECASE,
)
# What stands before a number whose size is the news, though no unit follows it.
_AMOUNT_BEFORE = re.compile(
    r"""(?:lag|behind|delay(?:ed)?|latency|took|elapsed|duration|age|waited|silent|overdue|pending|backlog|depth)
    (?:_?(?:ms|s|secs?|seconds|millis|lines|messages|records|count|by|for|of))?["']?\s?[=:]?\s?["']?$""",
    re.VERBOSE | re.IGNORECASE,
)
_SHARE_BEFORE = re.compile(
    r"""(?:\btemp(?:erature)?(?:_?c(?:elsius)?)?|pct|percent(?:age)?|\butil(?:i[sz]ation)?|\bused?%|\busage)["']?\s?[=:]\s?["']?$""",
    re.IGNORECASE,
)
_BEFORE_CHARS = 80


class Read(NamedTuple):
    """Runs of digits that carry meaning: what kind of meaning, and which runs (`first` and, for ratios and decimals, `second`; -1 for none)."""

    kind: str  # zero | amount | share | status | exit | ratio
    first: int
    second: int


class Plan(NamedTuple):
    """How to turn any line of one shape into its template: `pieces` with the values of `reads` between them."""

    pieces: tuple[str, ...]  # one more than reads
    reads: tuple[Read, ...]
    level: str  # that the line shows in words, or ""
    numbered_level: int  # the run that shows it as a JSON logger's number, or -1
    priority: int  # the run that is a syslog priority, or -1


def plan(shape: str) -> Plan:
    """Return the plan of a shape. Never raises; costs some tens of microseconds."""
    text, runs = shape, _runs(shape)
    priority = -1
    header = _HEADER.match(text)
    level = ""
    if header is not None and header.end():
        if header["priority"]:
            priority = 0
        text, runs = _cut(text, runs, 0, header.end())
        if header["syslog"] or header["iso"]:
            text, runs = _cut_match(text, runs, _HOST.match(text))
        if header["redis"] and (mark := _REDIS_MARK.match(text)) is not None:
            level = REDIS_MARKS[mark[1]]
            text, runs = _cut_match(text, runs, mark)
    numbered = -1
    found = None if level else _LEVEL.search(text, 0, _LEVEL_ZONE_CHARS)
    if found is not None and found.lastgroup is not None:
        if found.lastgroup == "numbered":
            numbered = runs[text.count("0", 0, found.start("numbered"))]
            text, runs = _cut_match(text, runs, found)
        elif in_text := canonical_level(found[found.lastgroup].rstrip("0")):
            level = in_text
            text, runs = _cut_match(text, runs, found)
    clock = _KERNEL_CLOCK.match(text)
    if clock is not None:
        text, runs = _cut(text, runs, clock.end(1) if clock[1] else 0, clock.end())
    text, runs = _cut_match(text, runs, _NGINX_PROCESS.match(text))
    pieces, reads = _numbers(text, runs)
    return Plan(pieces, reads, level, numbered, priority)


def _runs(shape: str) -> list[int]:
    return list(range(shape.count("0")))


def _cut(text: str, runs: list[int], start: int, end: int) -> tuple[str, list[int]]:
    before = text.count("0", 0, start)
    within = text.count("0", start, end)
    return text[:start] + text[end:], runs[:before] + runs[before + within :]


def _cut_match(text: str, runs: list[int], match: re.Match[str] | None) -> tuple[str, list[int]]:
    return (text, runs) if match is None else _cut(text, runs, match.start(), match.end())


def _numbers(text: str, runs: list[int]) -> tuple[tuple[str, ...], tuple[Read, ...]]:
    pieces: list[str] = []
    reads: list[Read] = []
    piece: list[str] = []
    at = seen = 0
    for match in _NUMBER.finditer(text):
        piece.append(text[at : match.start()])
        at = match.end()
        held = runs[seen : seen + match.group().count("0")]
        seen += len(held)
        kind = _kind(text, match, len(held))
        if not kind:
            piece.append("#")
            continue
        pieces.append("".join(piece))
        piece = []
        reads.append(Read(kind, held[0], held[1] if len(held) > 1 else -1))
        if kind == "ratio":
            # Between the two values stands what joins them, as it is written.
            pieces.append(match.group()[1:-1])
            reads.append(Read("last", held[1], -1))
    piece.append(text[at:])
    pieces.append("".join(piece))
    return _tidy(pieces), tuple(reads)


def _kind(text: str, match: re.Match[str], runs: int) -> str:
    if match["ratio"]:
        return "ratio"
    if match["amount"]:
        return "share" if match["unit"] == "%" or match["unit"][-1] in "CF" else "amount"
    if not match["plain"]:
        return ""
    before = text[max(0, match.start() - _BEFORE_CHARS) : match.start()]
    if runs == 1 and _STATUS_BEFORE.search(before):
        return "status"
    if runs == 1 and _EXIT_BEFORE.search(before):
        return "exit"
    if _SHARE_BEFORE.search(before):
        return "share"
    return "amount" if _AMOUNT_BEFORE.search(before) else "zero"


def _tidy(pieces: list[str]) -> tuple[str, ...]:
    """Collapse spaces, and take them off both ends of the whole."""
    pieces = [_SPACES.sub(" ", piece.replace("\n", " ").replace("\t", " ")) for piece in pieces]
    pieces[0] = pieces[0].lstrip()
    pieces[-1] = pieces[-1].rstrip()
    return tuple(pieces)
