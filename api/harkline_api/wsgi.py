"""What gunicorn runs: `harkline_api.wsgi:application()`. The API's composition root, called once in each process after its fork."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from celery import Celery

from harkline.broker import celery_options, ring
from harkline.ledger import Ledger, connect
from harkline.settings import api_metrics_dir, load_settings
from harkline_api.app import create_app
from harkline_api.metrics import is_multiprocess

if TYPE_CHECKING:
    from flask import Flask


def application() -> Flask:
    """Return the API on the real Redis and the real broker, as the environment sets them. Connects to neither yet."""
    settings = load_settings()
    celery = Celery("harkline_api", set_as_current=False)
    celery.conf.update(celery_options(settings))
    metrics_dir = api_metrics_dir(settings) if is_multiprocess() else None
    return create_app(settings, Ledger(connect(settings), settings), partial(ring, celery), metrics_dir)
