"""Fill the configuration of Prometheus and Alertmanager, so that a port, a receiver or a password is set in one place.

The templates are YAML for people to read; what is filled in is JSON, which YAML contains, so no value can break out of
its place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING, Any

from harkline.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scraped:
    """Where Prometheus finds everything, on one machine."""

    api_port: int
    metrics_port: int
    flower_port: int
    prometheus_port: int
    alertmanager_port: int
    rules_dir: Path
    scrape_seconds: int = 5
    grafana_url: str = "http://127.0.0.1:3000"
    api_host: str = "127.0.0.1"  # as it stands in a URL
    api_key: str = ""  # what the API asks for, its /metrics included


@dataclass(frozen=True, slots=True)
class Receivers:
    """Who is told; empty fields are not configured. The rendered file holds the secrets: let only its owner read it."""

    webhook: str = ""  # URL that takes Alertmanager's webhook JSON
    slack_webhook: str = ""  # Slack incoming-webhook URL
    email_to: str = ""
    email_from: str = ""
    smtp_host: str = ""  # host:port
    smtp_user: str = ""
    smtp_password: str = ""
    smtp_require_tls: bool = True
    watchdog_webhook: str = ""  # URL of a dead man's switch outside this system, called every minute


def render_prometheus(template: str, scraped: Scraped) -> str:
    """Return the text of prometheus.yml for `scraped`."""
    return Template(template).substitute(
        api_host=scraped.api_host,
        api_port=scraped.api_port,
        metrics_port=scraped.metrics_port,
        flower_port=scraped.flower_port,
        prometheus_port=scraped.prometheus_port,
        alertmanager_port=scraped.alertmanager_port,
        rule_files=_json(str(scraped.rules_dir.absolute() / "*.yml")),
        scrape_seconds=scraped.scrape_seconds,
        # A target that does not answer in time must not delay the next scrape.
        scrape_timeout_seconds=max(1, scraped.scrape_seconds - 1),
        api_access=f"authorization: {_json({'credentials': scraped.api_key})}" if scraped.api_key else "",
        grafana_url=_json(scraped.grafana_url.rstrip("/")),
    )


def render_alertmanager(template: str, receivers: Receivers, texts_dir: Path) -> str:
    """Return the text of alertmanager.yml; `texts_dir` holds harkline.tmpl. Raises SettingsError with every misfit."""
    problems = _problems(receivers)
    if problems:
        raise SettingsError(problems)
    return Template(template).substitute(
        templates=_json(str(texts_dir.absolute() / "*.tmpl")),
        webhook_configs=_listed(_webhook(receivers.webhook)),
        slack_configs=_listed(_slack(receivers)),
        email_configs=_listed(_email(receivers)),
        watchdog_configs=_listed(_webhook(receivers.watchdog_webhook)),
    )


def _problems(receivers: Receivers) -> list[str]:
    problems = []
    urls = {
        "HARKLINE_ALERT_WEBHOOK": receivers.webhook,
        "HARKLINE_SLACK_WEBHOOK": receivers.slack_webhook,
        "HARKLINE_WATCHDOG_WEBHOOK": receivers.watchdog_webhook,
    }
    for name, url in urls.items():
        if url and not url.startswith(("http://", "https://")):
            problems.append(f"{name}: must start with http:// or https://")
    if receivers.email_to:
        host, _, port = receivers.smtp_host.rpartition(":")
        if not host or not port.isdigit():
            problems.append(
                "HARKLINE_SMTP_HOST: must be host:port, as mail.example.com:587, where HARKLINE_EMAIL_TO is set"
            )
        if not receivers.email_from:
            problems.append("HARKLINE_EMAIL_FROM: must be set where HARKLINE_EMAIL_TO is set")
        if bool(receivers.smtp_user) != bool(receivers.smtp_password):
            problems.append("HARKLINE_SMTP_USER and HARKLINE_SMTP_PASSWORD: set both or none")
    return problems


def _json(value: object) -> str:
    # ASCII escapes of characters beyond the first plane are pairs in JSON, and YAML does not join them.
    return json.dumps(value, ensure_ascii=False)


def _listed(config: dict[str, Any] | None) -> str:
    return _json([] if config is None else [config])


def _webhook(url: str) -> dict[str, Any] | None:
    return {"url": url, "send_resolved": True} if url else None


def _slack(receivers: Receivers) -> dict[str, Any] | None:
    if not receivers.slack_webhook:
        return None
    return {
        "api_url": receivers.slack_webhook,
        "send_resolved": True,
        "title": '{{ template "harkline.slack.title" . }}',
        "fallback": '{{ template "harkline.slack.title" . }}',
        "text": '{{ template "harkline.slack.text" . }}',
        # Without this Slack reads *, _ and ` in the text of a log line as its own markup.
        "mrkdwn_in": ["pretext"],
    }


def _email(receivers: Receivers) -> dict[str, Any] | None:
    if not receivers.email_to:
        return None
    config: dict[str, Any] = {
        "to": receivers.email_to,
        "from": receivers.email_from,
        "smarthost": receivers.smtp_host,
        "require_tls": receivers.smtp_require_tls,
        "send_resolved": True,
        "headers": {"Subject": '{{ template "harkline.subject" . }}'},
        # Plain text alone: nothing in a log line can become a link or a picture in a mail reader.
        "html": "",
        "text": '{{ template "harkline.text" . }}',
    }
    if receivers.smtp_user:
        config |= {"auth_username": receivers.smtp_user, "auth_password": receivers.smtp_password}
    return config
