"""Celery's options: what must never be switched back by accident."""

from __future__ import annotations

from celery import Celery

from harkline.broker import celery_options, ring
from harkline.settings import Settings


def test_doorbells_are_json_early_acked_and_never_hoarded(settings: Settings) -> None:
    """The options that exactly-once, security and latency rest on."""
    options = celery_options(settings)
    assert options["accept_content"] == ["json"]
    assert options["task_acks_late"] is False
    assert options["worker_disable_prefetch"] is True
    assert options["result_backend"] is None


def test_a_doorbell_carries_no_text(settings: Settings) -> None:
    """What Celery stores for a doorbell has neither arguments nor a line in it."""
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_options(settings))
    ring(app)
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue("classify").get(timeout=5)
        assert message.payload[:2] == [[], {}]
        message.ack()


def test_a_bell_that_cannot_be_rung_raises_nothing() -> None:
    """Redis away: the caller goes on, the sweep will ring."""
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_options(Settings(redis_timeout_seconds=0.5)) | {"broker_url": "redis://127.0.0.1:1/0"})
    ring(app)
