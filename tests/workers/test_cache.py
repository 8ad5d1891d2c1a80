"""The shared cache: bounded whatever is sent, exact in what it returns."""

from __future__ import annotations

import pytest

from harkline.ledger import Ledger, connect
from harkline.settings import Settings
from harkline_workers.cache import Judgement, SharedCache
from tests.support.redis_server import RedisServer


def test_the_shared_cache_never_outgrows_its_slots(ledger: Ledger) -> None:
    """Twenty thousand inputs in 64 slots: at most 64 fields, and never another input's judgement."""
    cache = SharedCache(ledger.redis, "m", 64)
    judgements = {f"input {at}": Judgement((at % 100) / 100, "error") for at in range(20_000)}
    cache.put_many(judgements)
    known = cache.get_many(judgements)
    assert 0 < len(known) <= 64
    for model_input, judgement in known.items():
        assert judgement.score == pytest.approx(judgements[model_input].score, abs=1e-6)
        assert judgement.level == "error"


def test_models_do_not_share_judgements(ledger: Ledger) -> None:
    """A new model version starts with an empty cache."""
    SharedCache(ledger.redis, "old", 64).put_many({"x": Judgement(1.0, "error")})
    assert SharedCache(ledger.redis, "new", 64).get_many(["x"]) == {}


def test_a_dead_redis_knows_nothing_and_raises_nothing(settings: Settings, empty_redis: RedisServer) -> None:
    """The cache is a convenience: without Redis every input is a miss."""
    cache = SharedCache(connect(settings, url="redis://127.0.0.1:1/0"), "m", 64)
    cache.put_many({"x": Judgement(1.0, "error")})
    assert cache.get_many(["x"]) == {}
