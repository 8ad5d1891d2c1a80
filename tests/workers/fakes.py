"""A model with a memory one can assert on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from harkline.contract import Neighbour
from harkline_workers.normalise import LEVELS


class FakeModel:
    """Says `error` of inputs that contain "bad", `info` of others; raises on those that contain "poison", or on all when broken."""

    version = "fake-1"
    threshold = 0.5
    call_lines = 64

    def __init__(self, before_scoring: Callable[[Sequence[str]], None] = lambda _: None) -> None:
        self._before_scoring = before_scoring
        self.calls: list[list[str]] = []
        self.exact_calls: list[list[str]] = []  # those of explanations
        self.compared: list[str] = []
        self.broken = False

    @property
    def scored(self) -> list[str]:
        """Every input scored, in order."""
        return [model_input for call in self.calls for model_input in call]

    def predict(self, inputs: Sequence[str], *, exactly: bool = False) -> NDArray[np.float32]:
        """Return (n, 5) probabilities."""
        self._before_scoring(inputs)
        if self.broken or any("poison" in model_input for model_input in inputs):
            raise RuntimeError("the fake model was told to raise")
        (self.exact_calls if exactly else self.calls).append(list(inputs))
        result = np.zeros((len(inputs), len(LEVELS)), dtype=np.float32)
        for at, model_input in enumerate(inputs):
            result[at, LEVELS.index("error" if "bad" in model_input else "info")] = 1.0
        return result

    def nearest(self, inputs: Sequence[str], most: int) -> list[list[Neighbour]]:
        """Return for each input one example, which is the input itself."""
        self.compared += inputs
        return [[Neighbour(model_input, "error", "fakes", 1.0)][:most] for model_input in inputs]
