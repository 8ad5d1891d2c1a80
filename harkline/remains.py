"""What erasing leaves behind in Redis, and how to be rid of it: bytes in the nodes of a stream, and what was written to the append-only file before."""

from __future__ import annotations

import threading
import time
from importlib.resources import files
from typing import Any

import redis

from harkline.errors import HarklineError
from harkline.ledger import asking_redis

_PORTION = 200
# Whoever reads and erases dead letters at the same time makes a copy begin anew.
_MOST_TRIES = 20
_COPY_SECONDS = 600
_POLL_SECONDS = 0.2


def compact(client: redis.Redis, key: str) -> bool:
    """Write a stream without groups anew, so that nothing is left of entries that were deleted; its entries and its readers notice nothing.

    Returns False where entries left it all the while, so that it is as it was.
    """
    script = client.register_script((files("harkline") / "lua" / "compact.lua").read_text())
    tries = 0
    with asking_redis():
        while tries < _MOST_TRIES:
            state = script(keys=[key, f"{key}:copy"], args=[_PORTION, _COPY_SECONDS])
            if state == 1:
                return True
            tries += state == -1
    return False


def rewrite_file(client: redis.Redis, seconds: float) -> str:
    """Have Redis write its append-only file anew, without what is gone, and wait for it; returns one sentence.

    Raises HarklineError where it fails or is not over in time.
    """
    ends = time.monotonic() + seconds
    pause = threading.Event()
    with asking_redis():
        if not _persistence(client)["aof_enabled"]:
            return "Redis keeps no append-only file, so there is nothing to write anew"
        started = False
        while True:
            state = _persistence(client)
            is_busy = state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"]
            if started and not is_busy:
                break
            if not started and not is_busy:  # one that runs already may have begun before the erasure
                try:
                    client.bgrewriteaof()
                    started = True
                except redis.ResponseError as error:
                    if "in progress" not in str(error):  # another began at this moment
                        raise HarklineError(f"Redis refuses to write its append-only file anew: {error}") from error
            if time.monotonic() > ends:
                raise HarklineError(f"Redis was still writing its append-only file anew after {seconds:g} s")
            pause.wait(_POLL_SECONDS)
    if state["aof_last_bgrewrite_status"] != "ok":
        raise HarklineError("Redis could not write its append-only file anew: its log says why (often a full disk)")
    return "Redis wrote its append-only file anew: what was erased is no more in it"


def _persistence(client: redis.Redis) -> dict[str, Any]:
    return client.info("persistence")
