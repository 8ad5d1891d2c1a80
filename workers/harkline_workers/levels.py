"""The five levels, and what systems call them."""

from __future__ import annotations

LEVELS = ("debug", "info", "warning", "error", "critical")

# Levels as systems write them -> our five. Sources: syslog (RFC 5424 section 6.2.1), log4j, klog, Android, PostgreSQL, Windows, Kubernetes events.
_NAMES = {
    "debug": "debug trace verbose finest finer fine dbg d v t 7 debug1 debug2 debug3 debug4 debug5",
    "info": "info information informational notice log normal note hint statement i n config 5 6",
    "warning": "warning warn w 4 wrn",
    "error": "error err severe failure e 3 eror",
    "critical": "critical crit fatal alert emerg emergency panic f c 0 1 2 a",
}
_LEVEL_OF = {name: level for level, names in _NAMES.items() for name in names.split()}

# What Redis prints between the time and the message (redis.conf, loglevel), and the numbers of pino and bunyan.
REDIS_MARKS = {".": "debug", "-": "info", "*": "info", "#": "warning"}
_NUMBERED = {"10": "debug", "20": "debug", "30": "info", "40": "warning", "50": "error", "60": "critical"}
# RFC 5424 section 6.2.1: the priority's remainder by eight.
_SYSLOG = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")


def canonical_level(name: str) -> str:
    """Map a level as some system writes it (`WARN`, `err`, `F`, syslog's `3`) to one of `LEVELS`, or "" where it is none."""
    return _LEVEL_OF.get(name.strip().lower(), "")


def level_of_number(digits: str) -> str:
    """Map a level that JSON loggers write as a number (30 is info), or "" where it is none of theirs."""
    return _NUMBERED.get(digits, "")


def level_of_priority(digits: str) -> str:
    """Map the priority in front of a syslog line (`<34>`) to its severity, or "" where it is out of range."""
    return _SYSLOG[int(digits) % 8] if len(digits) < 4 and int(digits) < 192 else ""
