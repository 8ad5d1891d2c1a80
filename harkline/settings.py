"""Every setting, typed, with its unit and one line of documentation; the only reader of the environment.

`HARKLINE_<FIELD>` sets a field. `load_settings()` reports all problems at once as a SettingsError. The README's table is generated from here.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import secrets
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from harkline.errors import SettingsError
from harkline.lines.patterns import chosen

PREFIX = "HARKLINE_"

Port = Annotated[int, Field(ge=1, le=65535)]

# What a label of a Hugging Face checkpoint can mean: one of our levels, or a severity, for a model that only knows two.
LABEL_WORDS = ("debug", "info", "warning", "error", "critical", "not_critical")


def _redis_scheme(value: SecretStr) -> SecretStr:
    if value.get_secret_value() and not value.get_secret_value().startswith(("redis://", "rediss://")):
        raise ValueError("must start with redis:// or rediss://")
    return value


def _none_where_empty(value: object) -> object:
    # An empty variable is how compose files and .env files say "not set".
    return None if value == "" else value


def _known_words(value: str) -> str:
    _label_pairs(value)
    return value


def _known_patterns(value: str) -> str:
    chosen(value)
    return value


def _label_pairs(value: str) -> dict[str, str]:
    """Read `LABEL_0=info,LABEL_1=critical`; the last `=` of a part separates, since a label may hold others. Raises ValueError."""
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        label, separator, word = (piece.strip() for piece in part.rpartition("="))
        if not separator or not label or word not in LABEL_WORDS:
            raise ValueError(f"each part must be LABEL=word, the word one of {', '.join(LABEL_WORDS)}")
        if label in pairs:
            raise ValueError("a label is given twice")
        pairs[label] = word
    return pairs


class Settings(BaseSettings):
    """The settings of all processes of one system; each reads those it needs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    # Where things are
    data_dir: Path = Field(
        Path(".harkline"),
        description="Folder that holds all that is written: Redis' files, metrics, logs, generated secrets.",
    )
    redis_url: Annotated[SecretStr, AfterValidator(_redis_scheme)] = Field(
        SecretStr(""),
        description="Redis, as redis://:password@host:port/db or rediss://. Empty: 127.0.0.1:6379 for single processes, "
        "a private one on a free port for `harkline up`.",
    )
    api_host: str = Field("127.0.0.1", description="Address the API binds to. Anything but loopback requires API keys.")
    api_port: Port = Field(5000, description="Port of the API.")
    metrics_host: str = Field("127.0.0.1", description="Address the worker's metrics bind to.")
    metrics_port: Port = Field(8000, description="Port of the worker's metrics.")
    flower_host: str = Field("127.0.0.1", description="Address Flower binds to.")
    flower_port: Port = Field(5555, description="Port of Flower.")
    flower_auth: SecretStr = Field(
        SecretStr(""),
        description="Flower's login, as user:password. `harkline up` makes one where it is empty; Flower does not start without.",
    )
    prometheus_port: Port = Field(9090, description="Port of Prometheus, where `harkline up` starts it.")
    alertmanager_port: Port = Field(9093, description="Port of Alertmanager, where `harkline up` starts it.")
    grafana_port: Port = Field(3000, description="Port of Grafana, in docker compose.")
    public_url: str = Field(
        "", description="The API that `harkline send`, `tail` and `demo` talk to. Empty: the system on this machine."
    )

    # The front door
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="Keys that senders and readers present, comma-separated. Empty: no key is asked for, on loopback only.",
    )
    api_workers: int = Field(2, ge=1, le=256, description="gunicorn processes of the API.")
    api_threads: int = Field(16, ge=2, le=256, description="Threads per gunicorn process.")
    max_body_bytes: int = Field(16 * 2**20, ge=1024, description="Largest request body, in bytes after decompression.")
    max_line_bytes: int = Field(2**20, ge=64, description="Largest single line, in bytes; longer ones are rejected.")
    kept_line_chars: int = Field(
        8192, ge=256, description="Longer lines are cut to this many characters in all, head and tail."
    )
    max_request_lines: int = Field(50_000, ge=1, description="Most lines in one request.")
    coalesce_ms: float = Field(
        2.0,
        ge=0,
        le=100,
        description="How long a small request may wait for company before it is written, in milliseconds.",
    )
    coalesce_lines: int = Field(
        512, ge=1, description="Most lines in one coalesced ledger entry; larger requests are entries of their own."
    )
    wait_max_seconds: float = Field(30.0, ge=0, description="Longest `?wait=`, in seconds.")
    wait_max_requests: int = Field(
        8,
        ge=0,
        description="Most requests per API process that wait for verdicts at once, never more than half its threads; further ones are answered without.",
    )
    explain_max_lines: int = Field(
        20,
        ge=0,
        description="Most lines in one request with `?explain=true`: each costs a worker as much as some sixty new lines. 0 turns explanations off.",
    )
    stream_max_clients: int = Field(
        4, ge=0, description="Most readers of /stream per API process, never more than a quarter of its threads."
    )
    join_traces: bool = Field(
        False,
        description="Join the continuation lines of stack traces to the line they belong to, for plain lines (`?join=` overrides).",
    )
    redact: Annotated[str, AfterValidator(_known_patterns)] = Field(
        "default",
        description="What is taken out of lines before they reach Redis: `off`, `default`, `all` (e-mail addresses too), or a list of patterns; "
        "`-name` takes one out (docs/redaction.md).",
    )

    # The ledger
    backlog_floor_lines: int = Field(
        200_000, ge=1, description="Backlog bound in lines while nothing drains; it rises with the drain rate."
    )
    backlog_max_lines: int = Field(5_000_000, ge=1, description="Backlog bound in lines that is never exceeded.")
    lag_target_seconds: float = Field(
        300.0, gt=0, description="The backlog bound is what drains within this many seconds."
    )
    redis_maxmemory_mb: int = Field(
        1024, ge=16, description="Memory limit of the Redis that `harkline redis` starts, in MiB."
    )
    redis_timeout_seconds: float = Field(
        2.0, gt=0, le=60, description="How long the API waits for Redis before it answers 503."
    )
    idempotency_seconds: int = Field(600, ge=1, description="How long an Idempotency-Key is remembered.")
    verdicts_seconds: int = Field(300, ge=1, description="How long the verdicts of a waiting request are kept.")
    abandoned_seconds: float = Field(
        10.0, ge=0.1, description="An entry untouched this long belongs to a dead worker and is handed to another."
    )
    max_deliveries: int = Field(
        3, ge=2, description="Deliveries after which an entry is suspected to kill workers and is taken apart."
    )
    critical_kept: int = Field(1000, ge=1, description="Critical lines kept for /stream and `harkline tail`.")
    dead_letters_kept: int = Field(10_000, ge=1, description="Dead letters kept for inspection.")
    retention_seconds: int = Field(
        30 * 86_400,
        ge=60,
        description="Longest that critical lines and dead letters are kept, in seconds; workers enforce it every second.",
    )

    # The workers
    worker_processes: int = Field(0, ge=0, le=256, description="Processes of one CPU worker. 0: as many as cores.")
    model: str = Field(
        "",
        description="The model to serve: a folder (harkline's own or a Hugging Face sequence-classification checkpoint), or a hub id as "
        "`org/name` or `org/name@revision`. Empty: the one chosen with `harkline model`, else the one that ships with harkline.",
    )
    model_dir: Annotated[Path | None, BeforeValidator(_none_where_empty)] = Field(
        None, description="The same for a folder alone, never looked up on a hub; set one of the two."
    )
    model_labels: Annotated[str, AfterValidator(_known_words)] = Field(
        "",
        description="What the labels of a Hugging Face checkpoint mean, as `LABEL_0=info,LABEL_1=critical`; the words are debug, info, warning, error, "
        "critical and not_critical.",
    )
    model_threshold: Annotated[float | None, BeforeValidator(_none_where_empty)] = Field(
        None,
        gt=0,
        lt=1,
        description="Score from which a Hugging Face checkpoint's line is critical, 0.5 where it is empty; harkline's own models carry theirs.",
    )
    backend: Literal["onnx", "torch"] = Field(
        "onnx",
        description="Runtime of harkline's own models: onnx (CPU) or torch (GPU, and CPU reference); a Hugging Face checkpoint runs in transformers, "
        "in one process where this is torch.",
    )
    model_threads: int = Field(1, ge=1, description="Threads of the model in each process.")
    claim_lines: int = Field(
        2048, ge=1, description="Most lines that one claim asks for; a claim adapts to the measured speed."
    )
    cache_lines: int = Field(50_000, ge=0, description="Verdicts cached in each process.")
    shared_cache_slots: int = Field(
        131_072, ge=0, description="Verdicts cached in Redis, shared by all workers; 0 turns it off."
    )
    service_labels_max: int = Field(
        100, ge=1, description="Services that become label values; later ones count as `other`."
    )

    # Alerts
    alert_webhook: SecretStr = Field(
        SecretStr(""), description="URL that receives alerts as Alertmanager's webhook JSON."
    )
    slack_webhook: SecretStr = Field(SecretStr(""), description="Slack incoming-webhook URL that receives alerts.")
    email_to: str = Field("", description="Address that receives alerts by e-mail.")
    email_from: str = Field("", description="Sender of alert e-mails.")
    smtp_host: str = Field("", description="Mail relay for alerts, as host:port.")
    smtp_user: str = Field("", description="User at the mail relay.")
    smtp_password: SecretStr = Field(SecretStr(""), description="Password at the mail relay.")
    smtp_require_tls: bool = Field(True, description="Refuse a mail relay that offers no TLS.")
    watchdog_webhook: SecretStr = Field(
        SecretStr(""),
        description="URL of a dead man's switch outside this system: called every minute, it alarms when we fall silent.",
    )
    monitoring_dir: Path | None = Field(
        None,
        description="Folder of rules and templates of Prometheus and Alertmanager. Empty: the one that ships with harkline.",
    )
    scrape_seconds: int = Field(
        5, ge=1, le=60, description="Scrape and evaluation interval of the Prometheus that `harkline up` starts."
    )

    # Speech
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe event that harkline's own logs show."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json, console, or auto: console on a terminal, json elsewhere."
    )

    @field_validator("model_dir")
    @classmethod
    def _one_model(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("model"):
            raise ValueError("HARKLINE_MODEL names a model already: set one of the two")
        return value

    @property
    def label_words(self) -> dict[str, str]:
        """What the labels of a checkpoint mean: label -> one of LABEL_WORDS."""
        return _label_pairs(self.model_labels)

    @property
    def redis(self) -> str:
        """The Redis URL in force, password included."""
        return self.redis_url.get_secret_value() or "redis://127.0.0.1:6379/0"

    @property
    def is_loopback(self) -> bool:
        """Whether the API binds to this machine alone."""
        try:
            return self.api_host == "localhost" or ipaddress.ip_address(self.api_host).is_loopback
        except ValueError:  # another name, which may mean anything
            return False

    @property
    def api_dial_host(self) -> str:
        """The host under which this machine reaches its own API, ready for a URL: the bound address, or loopback where all are bound."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.api_host, self.api_host)  # noqa: S104 - compared, not bound
        return f"[{host}]" if ":" in host else host

    @property
    def keys(self) -> tuple[str, ...]:
        """The API keys in force."""
        return tuple(key for key in (part.strip() for part in self.api_keys.get_secret_value().split(",")) if key)

    @property
    def processes(self) -> int:
        """Processes of one CPU worker."""
        return self.worker_processes or len(os.sched_getaffinity(0))

    def environment(self) -> dict[str, str]:
        """Return these settings as environment variables: those that differ from the defaults, secrets in clear, for child processes."""
        result = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value != field.default:
                result[PREFIX + name.upper()] = str(value.get_secret_value() if isinstance(value, SecretStr) else value)
        return result

    def shown(self) -> dict[str, str]:
        """Return these settings for a log line or a screen, secrets starred."""
        return {name: str(getattr(self, name)) for name in type(self).model_fields}


def load_settings(**overrides: object) -> Settings:
    """Read the environment; raises SettingsError that names every wrong variable, its problem and nothing of its value."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic validates what mypy cannot see
    except ValidationError as error:
        problems = [
            f"{PREFIX}{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise SettingsError(problems) from None


def unknown_settings() -> list[str]:
    """Return the `HARKLINE_*` variables that set nothing, each with the nearest setting: a typing mistake must not pass in silence."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    return [
        f"{name} is no setting{''.join(f', did you mean {near}?' for near in difflib.get_close_matches(name, known, 1))}"
        for name in unknown
    ]


def worker_metrics_dir(settings: Settings) -> Path:
    """Return the folder of a worker's multiprocess metrics; two workers on one machine differ by their port."""
    return settings.data_dir.resolve() / "metrics" / f"worker-{settings.metrics_port}"


def api_metrics_dir(settings: Settings) -> Path:
    """Return the folder of the API's multiprocess metrics."""
    return settings.data_dir.resolve() / "metrics" / f"api-{settings.api_port}"


def process_environment(**extra: str) -> dict[str, str]:
    """Return this process' environment with `extra` on top, for a program that is about to be started."""
    return {**os.environ, **extra}


def make_secret() -> str:
    """Return a new password: 32 URL-safe characters."""
    return secrets.token_urlsafe(24)


def settings_table() -> str:
    """Return the README's table of settings, in Markdown."""
    rows = ["| setting | default | what it does |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        rows.append(
            f"| `{PREFIX}{name.upper()}` | {f'`{default}`' if default not in ('', None) else ''} | {field.description} |"
        )
    return "\n".join(rows)
