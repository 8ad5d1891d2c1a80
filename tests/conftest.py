"""Fixtures that every room of tests may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings as hypothesis_settings
from pydantic import SecretStr

from harkline.ledger import Ledger, connect
from harkline.settings import Settings
from tests.support.redis_server import RedisServer, redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# How long an example takes says something of the machine's other work, and nothing of the code.
hypothesis_settings.register_profile("harkline", deadline=None)
hypothesis_settings.load_profile("harkline")


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One redis-server for all tests that only need an empty one."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def empty_redis(shared_redis: RedisServer) -> RedisServer:
    """A running, empty redis-server."""
    with shared_redis.client() as client:
        client.flushall()
        client.config_set("maxmemory", "512mb")
    return shared_redis


@pytest.fixture
def settings(empty_redis: RedisServer, tmp_path: Path) -> Settings:
    """Settings on the empty redis-server and a folder of the test's own."""
    return Settings(redis_url=SecretStr(empty_redis.url), data_dir=tmp_path)


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    """An open, empty ledger."""
    client = connect(settings)
    ledger = Ledger(client, settings)
    ledger.open()
    yield ledger
    client.close()
