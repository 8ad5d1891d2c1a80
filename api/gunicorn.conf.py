"""gunicorn for the API: `gunicorn --config api/gunicorn.conf.py` is all there is to start it. Every number is a setting of harkline's."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path
from typing import Any

from harkline.errors import SettingsError
from harkline.logs import configure_logs
from harkline.settings import api_metrics_dir, load_settings

try:
    _settings = load_settings()
except SettingsError as error:
    raise SystemExit(f"harkline api: {error}") from None


if not _settings.keys and not _settings.is_loopback:
    raise SystemExit(
        f"harkline api: HARKLINE_API_HOST={_settings.api_host} is open to others, so keys are needed: set HARKLINE_API_KEYS"
    )
_metrics_dir = api_metrics_dir(_settings)
_host = f"[{_settings.api_host}]" if ":" in _settings.api_host else _settings.api_host

wsgi_app = "harkline_api.wsgi:application()"
bind = [f"{_host}:{_settings.api_port}"]
workers = _settings.api_workers
worker_class = "gthread"
threads = _settings.api_threads
preload_app = False  # threads and connections must not cross a fork
# Before prometheus_client is imported anywhere: it looks once.
raw_env = [f"PROMETHEUS_MULTIPROC_DIR={_metrics_dir}"]

# Longer than load balancers keep idle connections (60 s is common): whoever closes first must not be us.
keepalive = 75
timeout = 30  # a worker whose main loop stands still this long is killed; requests run on threads and may take longer
graceful_timeout = 8
# The longest request line gunicorn allows: /log/<message> holds a log line.
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190
# The heartbeat file: on a disk, a slow write would look like a hung worker.
if Path("/dev/shm").is_dir():  # noqa: S108 - gunicorn makes a private, unlinked file there
    worker_tmp_dir = "/dev/shm"  # noqa: S108 - the same
control_socket_disable = True
# Paths hold log lines, so there is no access log; requests are counted in /metrics.
accesslog = None
errorlog = "-"
loglevel = _settings.log_level


def on_starting(server: Any) -> None:  # noqa: ARG001 - gunicorn passes it
    """In the master, once, before any worker: configure logs, and begin with no metrics of an earlier run."""
    configure_logs(_settings, "api")
    _use_our_logs()
    shutil.rmtree(_metrics_dir, ignore_errors=True)
    _metrics_dir.mkdir(parents=True, exist_ok=True)


def post_worker_init(worker: Any) -> None:
    """In each worker, with the application loaded: end streams and waiting requests as soon as the worker is told to stop."""
    configure_logs(_settings, "api")
    _use_our_logs()
    parts = worker.wsgi.extensions["harkline"]
    threading.Thread(target=_stop_with, args=(worker, parts), name="stop-watch", daemon=True).start()


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn passes it
    """In each worker, last thing: write what is queued. May take as long as Redis' timeout."""
    application = getattr(worker, "wsgi", None)
    if application is not None:  # it failed before its application was made
        application.extensions["harkline"].close()


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn passes it
    """In the master, after a worker is gone: its gauges go, its counters stay."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - not before raw_env is in force

    mark_process_dead(worker.pid, str(_metrics_dir))  # type: ignore[no-untyped-call]


def _stop_with(worker: Any, parts: Any) -> None:
    pause = threading.Event()
    while worker.alive:
        pause.wait(0.2)
    parts.stop_waiting()


def _use_our_logs() -> None:

    for name in ("gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.filters[:] = [_without_quotes]


def _without_quotes(record: logging.LogRecord) -> bool:
    """Cut what gunicorn quotes of a malformed request: a request line or a header may hold a secret, and has not been redacted."""
    if isinstance(record.msg, str) and record.msg.startswith("Invalid request from ip="):
        record.msg = record.msg.partition(": ")[0]
    return True
