"""A process' heartbeat: it tells the ledger every few seconds that the process lives and with which model, and looks whether another model is there.

`/readiness` shows what it tells. A stopped process falls silent; so does one whose interpreter hangs.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec
import redis

from harkline.ledger import WORKERS, WorkerState
from harkline.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

HEARTBEAT_SECONDS = 5.0
LOOK_SECONDS = 1.0


class Heartbeat(threading.Thread):
    """Reports until the process ends or it is stopped. `say` returns model, whether degraded, and why; `look` runs every second, `wake` where it says so."""

    def __init__(
        self,
        client: redis.Redis,
        consumer: str,
        say: Callable[[], tuple[str, bool, str]],
        look: Callable[[], bool],
        wake: Callable[[], None],
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._redis = client
        self._consumer = consumer
        self._say = say
        self._look = look
        self._wake = wake
        self._stopped = threading.Event()

    def run(self) -> None:
        """Report at once where there is news, else every few seconds."""
        said = None
        due = 0.0
        while not self._stopped.is_set():
            if self._look():
                self._wake()
            now = self._say()
            if now != said or time.monotonic() >= due:
                said = now
                due = time.monotonic() + HEARTBEAT_SECONDS
                self._report(WorkerState(*now, time.time()))
            self._stopped.wait(LOOK_SECONDS)

    def stop(self) -> None:
        """Fall silent, within a second; a process that ends needs no call, as the thread is a daemon."""
        self._stopped.set()

    def _report(self, state: WorkerState) -> None:
        try:
            pipe = self._redis.pipeline(transaction=False)
            pipe.hset(WORKERS, self._consumer, msgspec.json.encode(state))
            pipe.expire(WORKERS, 3600)
            pipe.execute()
        except redis.RedisError as error:
            log.debug("heartbeat_failed", error=str(error))
