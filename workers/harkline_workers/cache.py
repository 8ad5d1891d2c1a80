"""What the model said before, for all workers: a cache in Redis, of bounded size, keyed by the complete model input.

A cached judgement is the model's on exactly that input, so it needs no expiry; another model version is another cache. Rules and overrides are
applied after it and never stored. Each process remembers finished verdicts on top of it (`classify.py`).
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple, cast

import redis

from harkline.ledger import TAG
from harkline.logs import get_logger
from harkline_workers.normalise import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

log = get_logger(__name__)

# A shared cache that no worker wrote to for this long belongs to a model that is gone.
_SHARED_LIFETIME_SECONDS = 7 * 86_400
_SLOT = struct.Struct("<12sfB")  # digest, score, index of the level


class Judgement(NamedTuple):
    """What the model said of one input: the calibrated probability that it is critical, and the likeliest level."""

    score: float
    level: str


class SharedCache:
    """The judgements of all workers, as one Redis hash of a fixed number of slots: an input's digest picks its slot, the last one in stays.

    So it can never outgrow its slots (about 90 bytes each), whatever is sent. Where Redis does not answer, it knows nothing.
    """

    def __init__(self, client: redis.Redis, model_version: str, slots: int) -> None:
        self._redis = client
        self._key = f"{TAG}:judgements:{model_version}"
        self._slots = slots

    def get_many(self, inputs: Iterable[str]) -> dict[str, Judgement]:
        """Return what is known of `inputs`, in one round trip."""
        wanted = [(model_input, *self._place(model_input)) for model_input in inputs]
        if not wanted or not self._slots:
            return {}
        try:
            values = cast("list[bytes | None]", self._redis.hmget(self._key, [slot for _, slot, _ in wanted]))
        except redis.RedisError as error:
            log.warning("shared_cache_unread", error=str(error))
            return {}
        known = {}
        for (model_input, _, digest), value in zip(wanted, values, strict=True):
            if value is not None and len(value) == _SLOT.size and value.startswith(digest):
                _, score, level = _SLOT.unpack(value)
                known[model_input] = Judgement(score, LEVELS[level])
        return known

    def put_many(self, judgements: Mapping[str, Judgement]) -> None:
        """Keep judgements, in one round trip."""
        if not judgements or not self._slots:
            return
        slots = {}
        for model_input, judgement in judgements.items():
            slot, digest = self._place(model_input)
            slots[slot] = _SLOT.pack(digest, judgement.score, LEVELS.index(judgement.level))
        try:
            pipe = self._redis.pipeline(transaction=False)
            pipe.hset(self._key, mapping=slots)  # type: ignore[arg-type]  # redis-py's stub wants str values, bytes are what it sends
            pipe.expire(self._key, _SHARED_LIFETIME_SECONDS)
            pipe.execute()
        except redis.RedisError as error:
            log.warning("shared_cache_unwritten", error=str(error))

    def _place(self, model_input: str) -> tuple[int, bytes]:
        digest = hashlib.blake2b(model_input.encode(errors="surrogatepass"), digest_size=12).digest()
        return int.from_bytes(digest[:4], "little") % max(1, self._slots), digest
