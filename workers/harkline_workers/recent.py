"""A memory of bounded size for what was met lately."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The last things met, in two generations: when the young one is full, the old one is dropped. O(1), no bookkeeping per hit.

    Holds between half its capacity and all of it, and nothing where that is below two.
    """

    def __init__(self, capacity: int) -> None:
        self._half = capacity // 2
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Return what was put under a key, or None."""
        known = self._young.get(key)
        if known is None and self._old:
            known = self._old.get(key)
            if known is not None:
                self.put(key, known)
        return known

    def put(self, key: K, value: V) -> None:
        """Keep a value, which is not None."""
        if self._half == 0:
            return
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def clear(self) -> None:
        """Forget all."""
        self._young = {}
        self._old = {}
