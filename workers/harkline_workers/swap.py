"""Replace a process' model while it works: notice that another is there, load it between two claims, and only then let go of the old one.

Two threads meet here. The heartbeat looks (a few stat calls a second) and wakes; the process' main thread loads. What is noticed must look the same
twice, so that a folder that is still being copied is left alone until it is whole.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from harkline.errors import ModelError
from harkline.logs import get_logger
from harkline_workers.classify import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable

    from harkline_workers.cache import SharedCache
    from harkline_workers.classify import Classifier
    from harkline_workers.metrics import WorkerMetrics
    from harkline_workers.source import Fingerprint

log = get_logger(__name__)


class Loaded(Scorer, Protocol):
    """What a swap needs of a model, beyond scoring."""

    backend: str

    def close(self) -> None:
        """Let go of the weights."""


class Source(Protocol):
    """Where models come from."""

    def fingerprint(self) -> Fingerprint:
        """Return what changes when the model does; quick, never raises."""

    def load(self) -> Loaded:
        """Load the model of this moment; may raise anything."""

    def load_shipped(self) -> Loaded | None:
        """Load what can stand in for an installed model at the start, or None; may raise anything."""


class ModelSwap:
    """The model in service in one process, and its succession."""

    def __init__(
        self,
        source: Source,
        classifier: Classifier,
        shared_cache: Callable[[str], SharedCache],
        metrics: WorkerMetrics,
    ) -> None:
        self._source = source
        self._classifier = classifier
        self._shared_cache = shared_cache
        self._metrics = metrics
        self._model: Loaded | None = None
        self._tried: Fingerprint = ()
        self._seen: Fingerprint = ()
        self._is_due = False
        self.why = ""  # what is wrong with the model, "" where nothing is

    @property
    def version(self) -> str:
        """The version in service, "" without one."""
        return self._model.version if self._model is not None else ""

    def begin(self) -> None:
        """Load the first model. Where there is none the rules judge, until one appears."""
        self._tried = self._seen = self._source.fingerprint()
        model, why = _attempt(self._source.load)
        if model is None:
            instead, _ = _attempt(self._source.load_shipped)
            if instead is not None:
                self._serve(instead)
            self._say_failed(why)
        else:
            self._serve(model)

    def look(self) -> bool:
        """Tell whether another model waits to be loaded. For the heartbeat's thread; costs a few stat calls."""
        found = self._source.fingerprint()
        is_still = found == self._seen
        self._seen = found
        self._is_due = is_still and found != self._tried
        return self._is_due

    def renew(self) -> None:
        """Load the model that was noticed and put it into service; blocks for seconds, but does nothing where none was.

        For the main thread, between claims. Never raises: where the new one cannot be loaded the old one stays, and files that change are tried again.
        """
        if not self._is_due:
            return
        self._is_due = False
        self._tried = self._source.fingerprint()
        model, why = _attempt(self._source.load)
        if model is None:
            self._metrics.model_swap_failures.inc()
            self._say_failed(why)
        else:
            self._serve(model)

    def _serve(self, model: Loaded) -> None:
        old = self._model
        self._model = model
        self._classifier.serve(model, self._shared_cache(model.version))
        self.why = ""
        self._metrics.model_degraded.set(0)
        self._metrics.model_outdated.set(0)
        if old is not None:
            self._metrics.model_loaded.labels(old.version, old.backend).set(0)
            old.close()
        self._metrics.model_loaded.labels(model.version, model.backend).set(1)
        log.info(
            "model_loaded",
            version=model.version,
            backend=model.backend,
            instead_of=old.version if old is not None else "",
        )

    def _say_failed(self, why: str) -> None:
        if self._model is not None:
            self.why = f"another model cannot be loaded, {self._model.version} serves: {why}"
            self._metrics.model_outdated.set(1)
            log.error("model_not_replaced", why=why, consequence=f"{self._model.version} serves")
        else:
            self.why = why
            self._classifier.do_without(why)
            self._metrics.model_degraded.set(1)
            log.error(
                "model_not_loaded", why=why, consequence="lines are judged by the rules alone, and marked degraded"
            )


def _attempt(load: Callable[[], Loaded | None]) -> tuple[Loaded | None, str]:
    """Return a loaded model, or None and why there is none."""
    started = time.perf_counter()
    try:
        model = load()
    except ModelError as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - a runtime that cannot be imported or started must not stop the counting
        return None, f"{type(error).__name__}: {error}"
    log.debug("model_read", seconds=round(time.perf_counter() - started, 2))
    return model, ""
