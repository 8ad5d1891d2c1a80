"""Points in time as the world's loggers write them."""

from __future__ import annotations

import pytest

from harkline.lines.timestamps import epoch_seconds

MOMENT = 1795335139.443

KNOWN = {
    "2026-11-22T08:12:19.443Z": MOMENT,
    "2026-11-22T08:12:19.443+00:00": MOMENT,
    "2026-11-22T09:12:19.443+01:00": MOMENT,
    "2026-11-22t08:12:19.443z": MOMENT,
    "2026-11-22 08:12:19.443": MOMENT,
    "2026-11-22 08:12:19,443": MOMENT,
    "2026-11-22T08:12:19.443000001Z": MOMENT,
    "2026-11-22": 1795305600.0,
    "2016-12-31T23:59:60Z": 1483228799.0,
    "1795335139.443": MOMENT,
    "1795335139443": MOMENT,
    "1795335139443000000": MOMENT,
    "1712011210203": 1712011210.203,
    1795335139.443: MOMENT,
    1795335139443: MOMENT,
    1795335139443000: MOMENT,
    1795335139443000000: MOMENT,
    0: 0.0,
    "1969-12-31T23:59:59Z": -1.0,
    "9999-12-31T23:59:59Z": 253402300799.0,
}
UNKNOWN = [
    "soon",
    "2026-13-01T00:00:00Z",
    "2026-11-22T25:00:00Z",
    "2026-11-22T08:60:60Z",
    "2026-11-22T08:12:60Z0",
    "12:30:00",
    "1.2.3",
    "",
    "1" * 41,
    "\u0661\u0662\u0663",
    "9999-12-31T23:59:59-14:00x",
    -1,
    float("nan"),
    float("inf"),
    10**21,
    10**4000,
]


@pytest.mark.parametrize("value", KNOWN)
def test_known_forms(value: str | float) -> None:
    """RFC 3339 in its dialects, and epochs told apart by magnitude, give the same second."""
    assert epoch_seconds(value) == pytest.approx(KNOWN[value], abs=1e-3)


@pytest.mark.parametrize("value", UNKNOWN, ids=lambda value: str(value)[:30])
def test_anything_else_is_no_point_in_time(value: str | float) -> None:
    """Nonsense gives None, never an exception and never a made-up time."""
    found = epoch_seconds(value)
    assert found is None
