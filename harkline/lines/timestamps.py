"""When a line says that it happened: RFC 3339 (section 5.6) in its common dialects, or a number since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime

# A number is seconds below the first bound (the year 5138), milliseconds below the second, then microseconds, then nanoseconds.
_SECONDS_BELOW = 1e11
_MILLISECONDS_BELOW = 1e14
_MICROSECONDS_BELOW = 1e17
# The last second of the year 9999.
LAST_SECOND = 253_402_300_799
_LAST_NANOSECOND = LAST_SECOND * 10**9


def epoch_seconds(value: str | float) -> float | None:
    """Return seconds since the epoch, or None where `value` is no point in time. A time without a zone is UTC."""
    if not isinstance(value, str):
        return _by_magnitude(value)
    # Only the extended form of ISO 8601: the digits of an epoch could pass for its basic form (1712011210203 is not in 1712).
    if value[4:5] != "-":
        return _from_digits(value)
    try:
        return _since_epoch(datetime.fromisoformat(value))
    except ValueError:
        return _from_odd_text(value)


def _since_epoch(moment: datetime) -> float | None:
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):  # the years 1 and 9999, moved out of range by their zone
        return None


def _by_magnitude(value: float) -> float | None:
    if not (0 <= value <= _LAST_NANOSECOND):  # NaN neither
        return None
    if value < _SECONDS_BELOW:
        return float(value)
    if value < _MILLISECONDS_BELOW:
        return value / 1e3
    if value < _MICROSECONDS_BELOW:
        return value / 1e6
    return value / 1e9


def _from_odd_text(text: str) -> float | None:
    """RFC 3339 allows a small t and z, and leap seconds; these have no place in POSIX time and are counted as the second before."""
    text = text.upper()
    if text[17:19] == "60":
        text = text[:17] + "59" + text[19:]
    try:
        return _since_epoch(datetime.fromisoformat(text))
    except ValueError:
        return None


def _from_digits(text: str) -> float | None:
    if len(text) > 40 or not text or text.strip("0123456789.") or not text.isascii():
        return None
    try:
        return _by_magnitude(float(text))
    except ValueError:
        return None
