"""Celery's options as one plain function of the settings, and how a doorbell is rung. Used by the API (to ring) and the workers (to be rung).

Celery carries doorbells only: no argument, no log text, so a lost or doubled message costs nothing, nothing private shows in Flower, and every
option below may favour speed and simplicity over delivery guarantees. Those are the ledger's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harkline.contract import QUEUE_CLASSIFY, TASK_CLASSIFY
from harkline.logs import get_logger

if TYPE_CHECKING:
    from celery import Celery

    from harkline.settings import Settings

log = get_logger(__name__)

# A doorbell that waited longer than this for a worker says nothing that the sweep does not know.
BELL_EXPIRES_SECONDS = 60


def celery_options(settings: Settings) -> dict[str, Any]:
    """Return the configuration of every Celery application of harkline."""
    timeout = settings.redis_timeout_seconds
    return {
        "broker_url": settings.redis,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "socket_timeout": timeout + 3,
            "socket_connect_timeout": timeout,
            "max_retries": 1,
            "global_keyprefix": "{harkline}:celery:",
        },
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": QUEUE_CLASSIFY,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "result_backend": None,
        # Early acknowledgement on purpose: an unacknowledged doorbell only brings kombu's restore machinery, and with it the parent's death
        # on a Redis disconnect (docs/adr/0001).
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,  # else a busy worker hoards the bell: 1.4 s instead of 7 ms
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        "worker_proc_alive_timeout": 60.0,  # children load the model before they say that they are up
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_enable_remote_control": True,  # Flower's view of workers needs it
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_soft_shutdown_timeout": 0.0,
        "enable_utc": True,
    }


def ring(app: Celery) -> None:
    """Publish one doorbell. Never raises: where the publish fails, the sweep rings within a second of Redis' return."""
    try:
        app.send_task(
            TASK_CLASSIFY, queue=QUEUE_CLASSIFY, retry=False, expires=BELL_EXPIRES_SECONDS, ignore_result=True
        )
    except Exception as error:  # noqa: BLE001 - the edge to kombu, which raises what its transports raise
        log.warning("doorbell_not_rung", error=str(error))
