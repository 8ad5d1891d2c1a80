"""The real application on a real Redis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from harkline.ledger import Ledger, connect
from harkline_api.app import EXTENSION, Parts, create_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask

    from harkline.settings import Settings


@dataclass
class Api:
    """One application, its parts, and how often it rang."""

    app: Flask
    client: Any  # FlaskClient, whose answers' json mypy takes for None
    ledger: Ledger
    parts: Parts
    rings: list[int]

    def sender(self) -> Any:
        """Return a client of its own, for a thread of its own."""
        return self.app.test_client()

    def metric(self, name: str, **labels: str) -> float:
        """Return a value from the registry, 0 where it does not exist yet."""
        return self.parts.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def make_api(settings: Settings) -> Iterator[Callable[..., Api]]:
    """Make applications, with settings of the test's choice."""
    made: list[Api] = []

    def make(ring: Callable[[], None] | None = None, **overrides: Any) -> Api:
        changed = settings.model_copy(update=overrides)
        ledger = Ledger(connect(changed), changed)
        ledger.open()
        rings: list[int] = []
        app = create_app(changed, ledger, ring or (lambda: rings.append(1)))
        made.append(Api(app, app.test_client(), ledger, app.extensions[EXTENSION], rings))
        return made[-1]

    yield make
    for api in made:
        api.parts.close()
        api.ledger.redis.close()


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """The application with default settings."""
    return make_api()
