"""The tasks: few and short. A task is a doorbell; the work it starts is in `drain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harkline.contract import TASK_CLASSIFY
from harkline.errors import LedgerUnavailable
from harkline.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from harkline_workers.drain import Drain

log = get_logger(__name__)


def register_tasks(app: Celery, drain: Callable[[], Drain]) -> None:
    """Register the tasks on `app`. `drain` returns the process' drain, building it on first need."""

    @app.task(name=TASK_CLASSIFY, ignore_result=True)
    def classify() -> int:
        """Drain the ledger for one shift; returns the lines counted, which is all that Flower sees of them."""
        try:
            return drain().run()
        except LedgerUnavailable as error:
            # Nothing is lost: what was claimed stays pending, and the sweep rings when Redis is back.
            log.warning("ledger_unavailable", error=str(error))
            return 0
