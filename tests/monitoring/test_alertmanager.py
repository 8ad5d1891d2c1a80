"""Alertmanager's configuration is valid for every choice of receivers, and what reaches a person is readable and harmless."""

from __future__ import annotations

import itertools
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from harkline.alerting import Receivers
from harkline.errors import SettingsError
from tests.monitoring.receivers import mail_relay, webhook
from tests.monitoring.stack import alertmanager, alertmanager_config, post_alerts
from tests.support.polling import wait_for
from tests.support.servers import require_program

if TYPE_CHECKING:
    from pathlib import Path

CHOICES = {
    "webhook": {"webhook": "https://ops.example.com/hook?token=a%20b&x='\"$HOME"},
    "slack": {"slack_webhook": "https://hooks.example.com/services/T0/B0/xyz"},
    "email": {
        "email_to": "oncall@example.com",
        "email_from": "harkline@example.com",
        "smtp_host": "mail.example.com:587",
    },
    "login": {"smtp_user": "harkline", "smtp_password": "p'a\"s\\s: {w}$ord\n#😀"},
    "watchdog": {"watchdog_webhook": "https://heartbeat.example.com/ping"},
}
COMBINATIONS = [names for size in range(len(CHOICES) + 1) for names in itertools.combinations(CHOICES, size)]


def chosen(names: tuple[str, ...]) -> Receivers:
    """Return the receivers of these choices."""
    fields: dict[str, str] = {}
    for name in names:
        fields |= CHOICES[name]
    return Receivers(**fields)  # type: ignore[arg-type]  # all of them are strings


@pytest.mark.parametrize("names", COMBINATIONS, ids=lambda names: "+".join(names) or "none")
def test_every_combination_of_receivers_is_valid(names: tuple[str, ...], tmp_path: Path) -> None:
    """amtool accepts the file, and each receiver is there if and only if it was asked for, its secrets unharmed."""
    config = tmp_path / "alertmanager.yml"
    config.write_text(alertmanager_config(chosen(names)))
    checked = subprocess.run(
        [require_program("amtool"), "check-config", str(config)], check=False, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "1 templates" in checked.stdout

    team, watchdog = yaml.safe_load(config.read_text())["receivers"]
    assert [hook["url"] for hook in team["webhook_configs"]] == (
        [CHOICES["webhook"]["webhook"]] if "webhook" in names else []
    )
    assert len(team["slack_configs"]) == ("slack" in names)
    assert len(team["email_configs"]) == ("email" in names)
    assert len(watchdog["webhook_configs"]) == ("watchdog" in names)
    for email in team["email_configs"]:
        assert email.get("auth_password") == (CHOICES["login"]["smtp_password"] if "login" in names else None)
    ways = [way for receiver in (team, watchdog) for key, value in receiver.items() if key != "name" for way in value]
    assert all(way["send_resolved"] for way in ways)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"webhook": "ops.example.com"}, "HARKLINE_ALERT_WEBHOOK: must start with http:// or https://"),
        ({"slack_webhook": "xoxb-1"}, "HARKLINE_SLACK_WEBHOOK: must start with http:// or https://"),
        (
            {"email_to": "a@example.com", "email_from": "b@example.com"},
            "HARKLINE_SMTP_HOST: must be host:port, as mail.example.com:587, where HARKLINE_EMAIL_TO is set",
        ),
        (
            {"email_to": "a@example.com", "email_from": "b@example.com", "smtp_host": "mail.example.com"},
            "HARKLINE_SMTP_HOST: must be host:port, as mail.example.com:587, where HARKLINE_EMAIL_TO is set",
        ),
        (
            {"email_to": "a@example.com", "smtp_host": "mail.example.com:25"},
            "HARKLINE_EMAIL_FROM: must be set where HARKLINE_EMAIL_TO is set",
        ),
        (
            {"email_to": "a@e.com", "email_from": "b@e.com", "smtp_host": "m.e.com:25", "smtp_user": "harkline"},
            "HARKLINE_SMTP_USER and HARKLINE_SMTP_PASSWORD: set both or none",
        ),
    ],
)
def test_a_receiver_that_cannot_work_is_refused_by_name(fields: dict[str, str], problem: str) -> None:
    """What is missing is said when the file is rendered, not when the first alert is lost."""
    with pytest.raises(SettingsError) as caught:
        alertmanager_config(Receivers(**fields))  # type: ignore[arg-type]  # all of them are strings
    assert caught.value.problems == [problem]


HOSTILE = "pay <!channel> & <http://evil.example|click> *bold* \u202egnp.exe\u202c \x1b[31mred\x07"


@pytest.mark.system
def test_what_a_person_reads_is_readable_and_inert(tmp_path: Path) -> None:
    """A page goes out by webhook, Slack and mail at once; hostile text arrives without markup, escapes or turned letters."""
    with webhook() as hook, webhook() as slack, mail_relay() as box:
        receivers = Receivers(
            webhook=hook.url,
            slack_webhook=slack.url,
            email_to="oncall@example.com",
            email_from="harkline@example.com",
            smtp_host=box.address,
            smtp_require_tls=False,
        )
        with alertmanager(tmp_path, receivers) as url:
            labels = {"alertname": "CriticalIncident", "severity": "page", "service": "pay", "fingerprint": "f1"}
            annotations = {"summary": f"{HOSTILE}\nsecond", "description": HOSTILE, "sample": HOSTILE}
            post_alerts(url, [{"labels": labels, "annotations": annotations}])
            call = wait_for(lambda: hook.told("CriticalIncident", "firing"), 10, "the webhook")[0]
            message = wait_for(lambda: slack.calls, 10, "Slack's message")[0].body["attachments"][0]
            mail = wait_for(lambda: box.mails, 10, "the mail")[0]

    # The webhook is for programs: it carries the text as it is.
    assert call.body["alerts"][0]["annotations"]["description"] == HOSTILE
    inert = "pay &lt;!channel&gt; &amp; &lt;http://evil.example|click&gt; *bold* gnp.exe [31mred"
    assert message["title"] == f"[PAGE] {inert} second"
    assert message["fallback"] == message["title"]
    assert message["text"].strip() == f"FIRING: {inert}\nsecond\n{inert}\nservice: pay\nsample: {inert}"
    assert message["mrkdwn_in"] == ["pretext"]

    plain = "pay <!channel> & <http://evil.example|click> *bold* gnp.exe [31mred"
    assert mail["subject"] == "[PAGE] pay <!channel> & <http://evil.example|click> *bold* gnp.exe [31mred second"
    assert mail.get_body(("html",)) is None
    body = mail.get_body(("plain",))
    assert body is not None
    text = body.get_content().replace("\r\n", "\n")
    assert text.startswith(f"FIRING: {plain}\nsecond\n{plain}\nsince 2")
    assert f"\nsample: {plain}\n" in text


@pytest.mark.system
def test_one_event_pages_once(tmp_path: Path) -> None:
    """An incident page silences the backstop, the backstop silences its companion and Grafana's copy of itself."""
    with webhook() as hook, alertmanager(tmp_path, Receivers(webhook=hook.url)) as url:
        incident = {"alertname": "CriticalIncident", "severity": "page", "service": "pay"}
        post_alerts(url, [{"labels": incident, "annotations": {"summary": "pay: out of memory"}}])
        wait_for(lambda: hook.told("CriticalIncident", "firing"), 10, "the incident's page")
        backstop = {"alertname": "CriticalLogDetected", "severity": "page"}
        post_alerts(
            url,
            [
                {"labels": backstop | {"origin": "prometheus"}},
                {"labels": backstop | {"origin": "grafana", "grafana_folder": "harkline"}},
                {"labels": {"alertname": "CriticalLogsByService", "severity": "info", "service": "pay"}},
                {"labels": {"alertname": "LedgerUnreachable", "severity": "page", "job": "harkline-api"}},
            ],
        )
        wait_for(lambda: hook.told("LedgerUnreachable", "firing"), 10, "an alert that nothing inhibits")
        # This one waits as long as the companion would have: then all of them have had their turn.
        post_alerts(url, [{"labels": {"alertname": "Other", "severity": "info"}, "annotations": {"summary": "other"}}])
        wait_for(lambda: hook.told("Other", "firing"), 45, "an alert of the companion's route")
        told = {alert["labels"]["alertname"] for call in hook.calls for alert in call.body["alerts"]}
    assert told == {"CriticalIncident", "LedgerUnreachable", "Other"}
