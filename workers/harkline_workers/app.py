"""The worker's composition root: the one place where settings, Celery, the model and the ledger meet.

`celery -A harkline_workers.app:app worker` starts it; `harkline worker` says exactly that, with the environment it needs. The application is built
when it is asked for by name, so that importing this module reads no environment and opens nothing.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from celery import Celery

from harkline.broker import celery_options
from harkline.settings import load_settings, worker_metrics_dir
from harkline_workers.lifecycle import Lifecycle
from harkline_workers.source import ModelSource
from harkline_workers.tasks import register_tasks

if TYPE_CHECKING:
    from harkline.settings import Settings


def make_app(settings: Settings) -> Celery:
    """Build the Celery application of one worker."""
    app = Celery("harkline", set_as_current=False)
    app.conf.update(celery_options(settings))

    lifecycle = Lifecycle(app, settings, worker_metrics_dir(settings), ModelSource(settings))
    lifecycle.connect_signals()
    register_tasks(app, lifecycle.drain)
    return app


@cache
def _application() -> Celery:
    return make_app(load_settings())


def __getattr__(name: str) -> Celery:
    if name == "app":
        return _application()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
