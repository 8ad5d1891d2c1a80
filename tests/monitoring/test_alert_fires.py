"""From one counted line to a person, for real: Prometheus, Alertmanager and the shipped rules, on the shipped intervals."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from harkline.alerting import Receivers
from tests.monitoring.receivers import Webhook, webhook
from tests.monitoring.stack import Stack, Target, stack
from tests.support.polling import wait_for

if TYPE_CHECKING:
    from pathlib import Path

PROMISED_SECONDS = 60
# The window of a minute, keep_firing_for, a flush of Alertmanager, and a scrape and an evaluation at each end.
RESOLVED_SECONDS = 60 + 30 + 10 + 4 * 5
ALERT = "CriticalLogDetected"


def told_within_the_promise(hook: Webhook, since: float) -> str:
    """Wait for the page; returns its description."""
    call = wait_for(lambda: hook.told(ALERT, "firing", since), PROMISED_SECONDS, "the page")[0]
    alert = call.body["alerts"][0]
    assert alert["labels"] == {"alertname": ALERT, "severity": "page", "origin": "prometheus"}
    assert alert["annotations"]["runbook_url"] == "docs/runbook.md#criticallogdetected"
    description: str = alert["annotations"]["description"]
    return description


def scraped_again(target: Target, times: int) -> None:
    """Wait for as many further scrapes, or fail after twice their time."""
    goal = target.scrapes + times
    wait_for(lambda: target.scrapes >= goal, 10 * times + 10, f"{times} more scrapes")


def is_up(made: Stack, job: str, value: str) -> bool:
    """Return whether Prometheus sees the job up (`1`) or down (`0`)."""
    return [sample["value"][1] for sample in made.query(f'up{{job="{job}"}}')] == [value]


@pytest.mark.system
@pytest.mark.timeout(480)
def test_a_critical_line_pages_within_a_minute_and_resolves_again_and_again(tmp_path: Path) -> None:
    """Old totals are no alarm; a line first seen with replaced targets pages and resolves, and so does the next run."""
    with webhook() as hook, stack(tmp_path, Receivers(webhook=hook.url)) as made:
        for target in (made.api, made.worker):
            target.counts(41)
            target.series["harkline_ledger_last_critical_timestamp_seconds"] = time.time() - 3600
            target.start()
        made.worker.series |= {
            'log_severity_total{severity="critical",service="shop"}': 41,
            "harkline_worker_processes_ready": 2,
        }
        scraped_again(made.api, 4)
        assert not hook.told(ALERT, "firing")

        # Every target is replaced, and the first scrape of the new ones already shows the line.
        made.api.stop()
        made.worker.stop()
        for job in ("harkline-api", "harkline-worker"):
            wait_for(lambda job=job: is_up(made, job, "0"), 20, f"{job} down")  # type: ignore[misc]  # bound here
        began = time.time()
        made.worker.counts(42)
        made.worker.series['log_severity_total{severity="critical",service="shop"}'] = 1
        made.worker.start()
        made.api.counts(42)
        made.api.start()
        told_within_the_promise(hook, began)
        wait_for(lambda: hook.told(ALERT, "resolved", began), RESOLVED_SECONDS, "the resolve")

        # The next line comes right after the resolve, of a service never seen; more follow while the alert fires.
        began = time.time()
        made.worker.counts(43)
        made.worker.series['log_severity_total{severity="critical",service="pay"}'] = 1
        made.api.counts(43)
        description = told_within_the_promise(hook, began)
        assert description == "The ledger counted 1 new critical. Services: pay (1)."
        for total in (44, 45, 47):
            scraped_again(made.api, 2)
            made.api.counts(total)
        scraped_again(made.api, 2)
        assert made.query('ALERTS{alertname="CriticalLogDetected",alertstate="firing"}')
        assert not hook.told(ALERT, "resolved", began)
        (new,) = made.query('severity:harkline_ledger_lines:new1m{severity="critical"}')
        assert new["value"][1] == "5"

        # The companion and the heartbeat rang nobody.
        assert not hook.told("CriticalLogsByService", "firing")
        assert not hook.told("Watchdog", "firing")


@pytest.mark.system
def test_a_line_counted_before_the_very_first_scrape_pages(tmp_path: Path) -> None:
    """On a system that has just been started, the first scrape already shows the line: it pages all the same."""
    with webhook() as hook, stack(tmp_path, Receivers(webhook=hook.url)) as made:
        began = time.time()
        made.api.counts(1)
        made.api.series["harkline_ledger_last_critical_timestamp_seconds"] = began
        made.api.start()
        told_within_the_promise(hook, began)
