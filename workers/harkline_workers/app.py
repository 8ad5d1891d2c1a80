"""The worker's composition root: the one place where settings, Celery, the model and the ledger meet.

`celery -A harkline_workers.app:app worker` starts it; `harkline worker` says exactly that, with the environment it needs. The application is built
when it is asked for by name, so that importing this module reads no environment and opens nothing.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from celery import Celery

from harkline.broker import celery_options
from harkline.settings import load_settings, worker_metrics_dir
from harkline_workers.lifecycle import Lifecycle
from harkline_workers.tasks import register_tasks

if TYPE_CHECKING:
    from harkline.settings import Settings
    from harkline_workers.classify import Scorer

# The weights that ship with harkline lie beside the package.
SHIPPED_MODEL_DIR = Path(__file__).resolve().parent.parent / "model"


def make_app(settings: Settings) -> Celery:
    """Build the Celery application of one worker."""
    app = Celery("harkline", set_as_current=False)
    app.conf.update(celery_options(settings))

    def load_model() -> Scorer:
        from harkline_workers.model import load_model as load  # noqa: PLC0415 - brings numpy and a runtime: children only

        return load(settings.model_dir or SHIPPED_MODEL_DIR, settings.backend, settings.model_threads)

    lifecycle = Lifecycle(app, settings, worker_metrics_dir(settings), load_model)
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
