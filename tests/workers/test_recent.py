"""A memory of bounded size keeps what is asked for."""

from __future__ import annotations

from harkline_workers.recent import Recent


def test_it_stays_bounded_and_keeps_what_is_used() -> None:
    """Never more than its capacity; what is asked for survives any number of others."""
    recent: Recent[str, float] = Recent(100)
    recent.put("kept", 0.5)
    for at in range(10_000):
        recent.put(f"other {at}", 0.1)
        assert recent.get("kept") == 0.5
    assert len(recent._young) + len(recent._old) <= 101
    assert recent.get("other 1") is None


def test_a_capacity_of_zero_keeps_nothing() -> None:
    """It can be turned off."""
    recent: Recent[str, float] = Recent(0)
    recent.put("x", 0.5)
    assert recent.get("x") is None


def test_it_forgets_on_request() -> None:
    """Nothing of either generation is left."""
    recent: Recent[str, int] = Recent(2)
    for at in range(3):
        recent.put(str(at), at)
    recent.clear()
    assert [recent.get(str(at)) for at in range(3)] == [None] * 3
