"""`harkline doctor`: say in plain words what is missing or misconfigured, and what to do about it. Changes nothing."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

import redis

from harkline import programs
from harkline.client import Client, Refused
from harkline.errors import HarklineError
from harkline.ledger import connect
from harkline.settings import unknown_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harkline.settings import Settings

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `broken` keeps harkline from doing its work, `note` is worth knowing."""

    state: Literal["good", "note", "broken"]
    what: str


def examine(settings: Settings, *, running: bool) -> Iterator[Finding]:
    """Look at everything `harkline up` needs, and at the running system where there is one."""
    yield from _settings(settings)
    yield from _installed(settings)
    yield from _folder(settings)
    if running:
        yield from _redis(settings)
        yield from _system(settings)
    else:
        yield Finding("note", "no system runs on this data folder; start one with `harkline up`")
        yield from _ports(settings)
    yield from _alerts(settings)


def _settings(settings: Settings) -> Iterator[Finding]:
    for problem in unknown_settings():
        yield Finding("broken", problem)
    if not settings.is_loopback and not settings.keys:
        yield Finding(
            "broken",
            f"the API would listen on {settings.api_host} without keys: set HARKLINE_API_KEYS, or HARKLINE_API_HOST=127.0.0.1",
        )
    elif settings.keys:
        yield Finding("good", f"{len(settings.keys)} API key(s) are set")
    else:
        yield Finding("note", "no API key: anyone on this machine may send and read (fine for trying it out)")
    if any(len(key) < 16 for key in settings.keys):
        yield Finding("broken", "an API key is shorter than 16 characters: make one with `harkline settings --new-key`")


def _installed(settings: Settings) -> Iterator[Finding]:
    yield Finding(
        "good" if sys.version_info >= (3, 11) else "broken",
        f"Python {sys.version.split()[0]} (3.11 or newer is needed)",
    )
    runtime = {"onnx": "onnxruntime", "torch": "torch"}[settings.backend]
    for module, why in (
        ("flask", "the API"),
        ("gunicorn", "the API"),
        ("celery", "the workers"),
        ("tokenizers", "the model"),
        (runtime, f"the {settings.backend} backend"),
        ("flower", "Flower"),
    ):
        if find_spec(module) is None:
            yield Finding("broken", f"the Python package {module} is missing, {why} needs it: `make install`")
    if settings.model:
        for module in ("torch", "transformers"):
            if find_spec(module) is None:
                yield Finding(
                    "broken",
                    f"HARKLINE_MODEL names a Hugging Face checkpoint, which needs the Python package {module}: pip install 'harkline[hf]'",
                )
    try:
        program = programs.find_redis()
    except HarklineError as error:
        yield Finding("broken", str(error))
    else:
        version = ".".join(str(part) for part in programs.redis_version(program))
        yield (
            Finding("good", f"Redis {version} at {program}")
            if programs.redis_version(program) >= (6, 2)
            else Finding("broken", f"Redis {version} at {program} is too old: 6.2 is the least, 7 is better")
        )
    for program, package in (("prometheus", "prometheus"), ("prometheus-alertmanager", "prometheus-alertmanager")):
        found = shutil.which(program) or shutil.which(program.removeprefix("prometheus-"))
        yield (
            Finding("good", f"{program} at {found}")
            if found
            else Finding(
                "note", f"{program} is not installed: no alerts from this machine (Debian: apt-get install {package})"
            )
        )


def _folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir.resolve()
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(parent, os.W_OK):
        yield Finding("broken", f"{parent} cannot be written: set HARKLINE_DATA_DIR to a folder that can")
        return
    free = shutil.disk_usage(parent).free
    needed = settings.redis_maxmemory_mb * 2**20
    # Redis rewrites its append-only file beside the old one.
    yield Finding(
        "good" if free > 3 * needed else "note",
        f"{folder}: {free / 2**30:.0f} GiB free (Redis may need {3 * needed / 2**30:.1f})",
    )


def _ports(settings: Settings) -> Iterator[Finding]:
    for name in ("api_port", "metrics_port", "flower_port", "prometheus_port", "alertmanager_port"):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", getattr(settings, name)))
            except OSError:
                yield Finding(
                    "broken", f"port {getattr(settings, name)} is taken by another program: set HARKLINE_{name.upper()}"
                )


def _redis(settings: Settings) -> Iterator[Finding]:
    url = urlsplit(settings.redis)
    where = f"{url.hostname}:{url.port or 6379}"
    client = connect(settings)
    try:
        client.ping()
        answer = cast("dict[str, Any]", client.config_get("append*"))
        answer |= cast("dict[str, Any]", client.config_get("maxmemory*"))
    except redis.AuthenticationError:
        yield Finding("broken", f"Redis at {where} refuses the password of HARKLINE_REDIS_URL")
        return
    except redis.RedisError as error:
        yield Finding("broken", f"Redis at {where} does not answer: {error}")
        return
    config = {_text(name): _text(value) for name, value in answer.items()}
    yield Finding("good", f"Redis answers at {where}")
    for name, wanted, why in (
        ("appendonly", "yes", "a restart loses lines"),
        ("appendfsync", "always", "a power loss loses answered lines"),
        ("maxmemory-policy", "noeviction", "a full Redis throws lines away"),
    ):
        if config.get(name) != wanted:
            yield Finding("broken", f"Redis has {name}={config.get(name)}, harkline needs {wanted}: {why}")
    if config.get("maxmemory") == "0":
        yield Finding("note", "Redis has no maxmemory: the kernel, not Redis, will say when memory is out")
    if not url.password and url.hostname not in _LOOPBACK:
        yield Finding(
            "broken",
            f"Redis at {where} asks for no password: whoever reaches it reads every line and commands every worker",
        )


def _system(settings: Settings) -> Iterator[Finding]:
    client = Client(
        f"http://{settings.api_dial_host}:{settings.api_port}",
        settings.keys[0] if settings.keys else "",
        timeout_seconds=5,
    )
    try:
        ready = client.get("/readiness")
    except Refused as error:
        yield Finding("broken", f"the API does not answer: {error}")
        return
    yield Finding("good", f"the API answers at {client.url}")
    backlog = ready["backlog"]
    waits = f"{backlog['lines']} lines wait to be counted, the oldest for {backlog['oldest_seconds']:.0f} s; the bound is {backlog['bound_lines']}"
    yield Finding("good" if ready["ready"] else "broken", waits)
    workers = ready["workers"]
    if workers:
        yield Finding("good", f"{len(workers)} worker process(es) report")
    else:
        yield Finding(
            "broken", "no worker process reports: lines are kept, but nobody counts them: read the worker's log"
        )
    for name, state in workers.items():
        if state["degraded"]:
            yield Finding("broken", f"{name} judges by the rules alone: {state['why']}")


def _alerts(settings: Settings) -> Iterator[Finding]:
    receivers = [
        name
        for name, value in (
            ("webhook", settings.alert_webhook.get_secret_value()),
            ("Slack", settings.slack_webhook.get_secret_value()),
            ("e-mail", settings.email_to),
        )
        if value
    ]
    if receivers:
        yield Finding("good", f"alerts go to: {', '.join(receivers)}")
    else:
        yield Finding(
            "note", "alerts reach nobody: set HARKLINE_ALERT_WEBHOOK, HARKLINE_SLACK_WEBHOOK or HARKLINE_EMAIL_TO"
        )
    if settings.email_to and not (settings.smtp_host and settings.email_from):
        yield Finding(
            "broken", "HARKLINE_EMAIL_TO is set, but HARKLINE_SMTP_HOST and HARKLINE_EMAIL_FROM are needed as well"
        )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
