"""A worker's classifier without a worker: no Celery, no Redis, the same model and the same verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from rich.markup import escape

from harkline.errors import HarklineError
from harkline_workers.checkpoint import CheckpointRefused
from harkline_workers.classify import Classifier
from harkline_workers.metrics import WorkerMetrics
from harkline_workers.source import ModelSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from harkline.settings import Settings


def load_classifier(settings: Settings, say: Callable[[str], None]) -> Classifier:
    """Return a classifier like a worker's, without the cache that workers share; says in a sentence where the model cannot be loaded.

    As in a worker, the shipped weights then stand in for an installed model, and else the rules judge alone. Raises CheckpointRefused.
    """
    metrics = WorkerMetrics(CollectorRegistry())
    cache = settings.cache_lines
    source = ModelSource(settings)
    source.prepare()
    try:
        return Classifier(source.load(), "", cache, None, metrics)
    except CheckpointRefused:
        raise
    except Exception as error:  # noqa: BLE001 - a runtime may fail in any way, and lines are judged all the same
        why = str(error) if isinstance(error, HarklineError) else f"{type(error).__name__}: {error}"
    try:
        instead = source.load_shipped()
    except Exception:  # noqa: BLE001 - the same, and `why` says enough
        instead = None
    if instead is not None:
        say(f"[bold yellow]the shipped model judges:[/] {escape(why)}")
        return Classifier(instead, "", cache, None, metrics)
    say(f"[bold yellow]degraded, the rules judge alone:[/] {escape(why)}")
    return Classifier(None, why, cache, None, metrics)
