"""Watch the ledger for the moment at which each entry leaves it, that is, is counted: a program of its own, so that no other work delays its clock.

Looks every two milliseconds until standard input ends, then prints JSON: when each entry that it saw was gone, and when it looked.
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import cast

import redis

LOOK_SECONDS = 0.002
# Past this many entries the rest is not seen, and not taken for gone either.
_MOST_ENTRIES = 1000
_PRESENT = f"""
local ids = {{}}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', {_MOST_ENTRIES})) do
    ids[#ids + 1] = entry[1]
end
return ids
"""


def main() -> None:
    """Watch the stream named by the second argument on the Redis named by the first."""
    store = redis.Redis.from_url(sys.argv[1])
    present = store.register_script(_PRESENT)
    gone: dict[str, float] = {}
    looks: list[float] = []
    before: set[bytes] = set()
    sys.stdout.write("watching\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        now = cast("list[bytes]", present(keys=[sys.argv[2]]))
        at = time.time()
        seen = set(now)
        for entry in before - seen:
            gone[entry.decode()] = at
        before = seen
        looks.append(at)
    json.dump({"gone": gone, "looks": looks}, sys.stdout)


if __name__ == "__main__":
    main()
