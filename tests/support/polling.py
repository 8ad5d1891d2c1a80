"""Wait for a condition instead of sleeping: a test is as fast as what it waits for, and says what did not come."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")


def wait_for(condition: Callable[[], Found], seconds: float, what: str, poll_seconds: float = 0.05) -> Found:
    """Return the first truthy value of `condition`, which may raise until then; fails after `seconds` with `what` and what it saw last."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        last: object
        try:
            found = condition()
        except Exception as error:  # noqa: BLE001 - the thing waited for may not be there yet
            last = error
        else:
            if found:
                return found
            last = found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what} (last: {last!r})")
        pause.wait(poll_seconds)
