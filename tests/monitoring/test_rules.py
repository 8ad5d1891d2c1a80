"""Prometheus' rules parse, do what their unit tests say, ask only for what exists, and outlive Alertmanager's flushes."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from harkline.alerting import Receivers, Scraped
from tests.monitoring.exported import declared, exported
from tests.monitoring.promql import label_names, series_names
from tests.monitoring.stack import MONITORING, RULES, alertmanager_config, prometheus_config
from tests.support.servers import require_program

if TYPE_CHECKING:
    from pathlib import Path

PROMETHEUS = MONITORING / "prometheus"
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
RUNBOOK = MONITORING.parent / "docs" / "runbook.md"

# Pushed by harkline itself, not by a rule.
PUSHED_ALERTS = {"CriticalIncident"}


def load(path: Path) -> Any:
    """Return the parsed YAML file."""
    return yaml.safe_load(path.read_text())


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Return all rules of a kind (`alert` or `record`) by name."""
    groups = [group for path in sorted(RULES.glob("*.yml")) for group in load(path)["groups"]]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


ALERTS, RECORDS = rules("alert"), rules("record")


def promtool(*arguments: str) -> str:
    """Run promtool; fails with what it said."""
    done = subprocess.run([require_program("promtool"), *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def seconds(duration: str) -> int:
    """Return a Prometheus duration (`1m30s`) in seconds."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smhd])", duration))


def test_the_configuration_for_compose_is_valid() -> None:
    """promtool accepts it, and it finds the rules. The key it names exists in its container only: promtool must not look for it."""
    config = PROMETHEUS / "prometheus.yml"
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", str(config))
    assert len([path for pattern in load(config)["rule_files"] for path in PROMETHEUS.glob(pattern)]) == 3


def test_the_configuration_for_one_machine_is_valid(tmp_path: Path) -> None:
    """promtool accepts the rendered file, wherever the rules lie, and every port and interval is in its place."""
    folder = tmp_path / 'rules of "Zoë" $1'
    folder.mkdir()
    for path in RULES.glob("*.yml"):
        (folder / path.name).write_text(path.read_text())
    config = tmp_path / "prometheus.yml"
    config.write_text(
        prometheus_config(Scraped(5001, 8001, 5551, 9091, 9094, folder, 7, "https://grafana.example.com/x/"))
    )
    assert "3 rule files found" in promtool("check", "config", str(config))
    parsed = load(config)
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in parsed["scrape_configs"]}
    assert targets == {
        "harkline-api": ["127.0.0.1:5001"],
        "harkline-worker": ["127.0.0.1:8001"],
        "flower": ["127.0.0.1:5551"],
        "prometheus": ["127.0.0.1:9091"],
        "alertmanager": ["127.0.0.1:9094"],
    }
    assert parsed["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["127.0.0.1:9094"]
    assert (parsed["global"]["scrape_interval"], parsed["global"]["evaluation_interval"]) == ("7s", "7s")
    assert parsed["global"]["external_labels"] == {"grafana_url": "https://grafana.example.com/x"}


def test_the_apis_key_reaches_prometheus_unharmed(tmp_path: Path) -> None:
    """Where the API asks for a key, Prometheus presents it to the API and to nobody else."""
    key = "k'e\"y: $x #1"
    config = tmp_path / "prometheus.yml"
    config.write_text(prometheus_config(Scraped(1, 2, 3, 4, 5, RULES, api_key=key)))
    promtool("check", "config", str(config))
    presented = {
        job["job_name"]: job["authorization"] for job in load(config)["scrape_configs"] if "authorization" in job
    }
    assert presented == {"harkline-api": {"credentials": key}}


def test_both_configurations_scrape_the_same_jobs() -> None:
    """A rule that works on one machine works under compose: the job names it asks for are the same."""
    local = yaml.safe_load(prometheus_config(Scraped(1, 2, 3, 4, 5, RULES)))
    compose = load(PROMETHEUS / "prometheus.yml")
    jobs = [[job["job_name"] for job in config["scrape_configs"]] for config in (local, compose)]
    assert jobs[0] == jobs[1]
    expressions = [rule["expr"] for rule in (*ALERTS.values(), *RECORDS.values())]
    asked = {job for expression in expressions for job in re.findall(r'job="([^"]+)"', expression)}
    assert asked <= set(jobs[0])


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_unit_tests_of_the_rules_pass(path: Path) -> None:
    """promtool plays the series of each case and compares alerts and annotations."""
    assert "SUCCESS" in promtool("test", "rules", str(path))


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_unit_test_with_its_annotations(name: str) -> None:
    """Each alert is seen firing with all its annotations, and each but the heartbeat is seen not firing."""
    cases = [case for path in UNIT_TESTS for test in load(path)["tests"] for case in test.get("alert_rule_test", [])]
    expected = [case["exp_alerts"] for case in cases if case["alertname"] == name]
    firing = [alert for alerts in expected for alert in alerts]
    assert firing
    assert all(set(alert["exp_annotations"]) == set(ALERTS[name]["annotations"]) for alert in firing)
    assert name == "Watchdog" or [] in expected


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_who_is_woken_and_what_to_do(name: str) -> None:
    """Severity and origin route it; a summary, a description, a section of the runbook and a dashboard help the person."""
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"page", "ticket", "info", "none"}
    assert alert["labels"]["origin"] == "prometheus"
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    assert alert["annotations"]["dashboard_url"].startswith("{{ $externalLabels.grafana_url }}/d/harkline-overview")
    section = RUNBOOK.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert all(f"**{part}**" in section for part in ("Means", "Look first", "Do"))


def test_the_runbook_has_no_section_without_an_alert() -> None:
    """An alert that was renamed or dropped takes its section along."""
    assert set(re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("name", sorted({*ALERTS, *RECORDS}))
def test_every_rule_asks_only_for_what_is_exported(name: str) -> None:
    """A rule on a series or a label that nobody exports never fires, and nothing says so."""
    known = exported() | {record: {"severity", "service"} for record in RECORDS}
    rule = ALERTS.get(name) or RECORDS[name]
    names = series_names(rule["expr"])
    assert names or name == "Watchdog"
    assert names <= set(known)
    labels = set().union({"job", "instance"}, *(known[series] for series in names))
    assert label_names(rule["expr"]) <= labels


def test_the_tables_of_exported_names_tell_the_truth() -> None:
    """What the modules say they export is what their registries hold."""
    held = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported()}
    assert declared() <= held


def test_every_alert_fires_for_longer_than_a_flush_of_its_route() -> None:
    """An alert shorter than group_interval plus scrape and evaluation can come and go between two flushes, unheard."""
    routes = yaml.safe_load(alertmanager_config(Receivers()))["route"]
    by_severity = {
        matcher.removeprefix('severity="').removesuffix('"'): route
        for route in routes["routes"]
        for matcher in route["matchers"]
        if matcher.startswith("severity=")
    }
    config = load(PROMETHEUS / "prometheus.yml")["global"]
    one_round = seconds(config["scrape_interval"]) + seconds(config["evaluation_interval"])
    for name, alert in ALERTS.items():
        route = by_severity.get(alert["labels"]["severity"], routes)
        held = seconds(alert.get("keep_firing_for", "0s"))
        # These two hold by themselves: a minute's window (inhibited beside its page, so it must not outlive it), and for ever.
        if name not in {"CriticalLogsByService", "Watchdog"}:
            assert held > seconds(route["group_interval"]) + one_round, name


def test_inhibitions_name_alerts_that_exist() -> None:
    """A renamed alert would silently stop to inhibit, or to be inhibited."""
    inhibitions = yaml.safe_load(alertmanager_config(Receivers()))["inhibit_rules"]
    matchers = [
        matcher for rule in inhibitions for side in ("source_matchers", "target_matchers") for matcher in rule[side]
    ]
    named = {name for matcher in matchers for name in re.findall(r'alertname=~?"([^"]+)"', matcher)}
    assert {name for group in named for name in group.split("|")} <= set(ALERTS) | PUSHED_ALERTS
