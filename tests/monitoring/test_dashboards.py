"""Grafana's files are complete and consistent: every query parses and asks for what exists, every reference leads somewhere."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.monitoring.exported import exported
from tests.monitoring.promql import label_names, series_names
from tests.monitoring.stack import MONITORING
from tests.monitoring.test_rules import ALERTS, RECORDS
from tests.support.servers import require_program

if TYPE_CHECKING:
    from pathlib import Path

GRAFANA = MONITORING / "grafana"
PROVISIONING = GRAFANA / "provisioning"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
BUILT_IN = "__expr__"


def load(name: str) -> Any:
    """Return a provisioning file, parsed."""
    return yaml.safe_load((PROVISIONING / name).read_text())


def data_sources() -> set[str]:
    """Return the uids of the provisioned data sources."""
    return {source["uid"] for source in load("datasources/datasources.yml")["datasources"]}


def queries(dashboard: dict[str, Any]) -> list[str]:
    """Return every PromQL expression of a dashboard, variables and annotations included, Grafana's macros filled in."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    found += [layer["expr"] for layer in dashboard["annotations"]["list"]]
    return [query.replace("$__rate_interval", "1m").replace("$service", ".*") for query in found]


def alert_rules() -> list[dict[str, Any]]:
    """Return Grafana's own alert rules."""
    return [rule for group in load("alerting/rules.yml")["groups"] for rule in group["rules"]]


def check_queries(expressions: list[str], folder: Path) -> None:
    """Let promtool parse the expressions."""
    rules = [{"record": f"query:{number}", "expr": expression} for number, expression in enumerate(expressions)]
    path = folder / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        [require_program("promtool"), "check", "rules", str(path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def assert_known(expression: str) -> None:
    """Fail where the expression asks for a series or a label that nobody exports."""
    known = exported() | {record: {"severity", "service"} for record in RECORDS}
    names = series_names(expression)
    assert names <= set(known)
    assert label_names(expression) <= set().union({"job", "instance", "le"}, *(known[name] for name in names))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_parses_and_asks_for_what_is_exported(path: Path, tmp_path: Path) -> None:
    """promtool parses each, and each series and label is one that the product or its companions export."""
    expressions = queries(json.loads(path.read_text()))
    assert expressions
    check_queries(expressions, tmp_path)
    for expression in expressions:
        assert_known(expression)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Path) -> None:
    """Its uid is its file's name, panels do not overlap, have a title, a reason and a query, and use a provisioned source."""
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == path.stem
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["description"]
        assert panel["targets"]
        used = {panel["datasource"]["uid"]} | {target["datasource"]["uid"] for target in panel["targets"]}
        assert used <= data_sources()
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


def test_the_overview_shows_what_it_must() -> None:
    """The numbers that the first look needs are all there."""
    dashboard = json.loads((GRAFANA / "dashboards" / "harkline-overview.json").read_text())
    shown = set().union(*(series_names(query) for query in queries(dashboard)))
    assert shown >= {
        "log_severity_total",
        "system:harkline_backlog_lines:max",
        "system:harkline_backlog_oldest_seconds:max",
        "harkline_ingest_to_count_seconds_bucket",
        "harkline_model_seconds_bucket",
        "harkline_cache_hits_total",
        "harkline_requests_total",
        "system:harkline_dead_letter_lines:max",
        "harkline_model_degraded",
    }


def test_data_sources_have_fixed_uids_and_reach_the_services_of_compose() -> None:
    """Dashboards and rules name the uids; the URLs are those of the compose network."""
    sources = {source["uid"]: source for source in load("datasources/datasources.yml")["datasources"]}
    assert {uid: source["url"] for uid, source in sources.items()} == {
        "harkline-prometheus": "http://prometheus:9090",
        "harkline-alertmanager": "http://alertmanager:9093",
    }
    assert sources["harkline-alertmanager"]["jsonData"] == {
        "implementation": "prometheus",
        "handleGrafanaManagedAlerts": True,
    }


def test_grafanas_alert_is_prometheus_alert_and_leads_somewhere(tmp_path: Path) -> None:
    """Query, reduce, threshold, in that order; same name, severity and runbook; a dashboard panel that exists."""
    for rule in alert_rules():
        query, reduce, threshold = rule["data"]
        assert [step["datasourceUid"] for step in rule["data"]] == ["harkline-prometheus", BUILT_IN, BUILT_IN]
        assert (reduce["model"]["type"], reduce["model"]["expression"]) == ("reduce", query["refId"])
        assert (threshold["model"]["type"], threshold["model"]["expression"]) == ("threshold", reduce["refId"])
        assert rule["condition"] == threshold["refId"]
        check_queries([query["model"]["expr"]], tmp_path)
        assert_known(query["model"]["expr"])

        original = ALERTS[rule["title"]]
        limit = threshold["model"]["conditions"][0]["evaluator"]
        assert original["expr"] == f"{query['model']['expr']} > {limit['params'][0]}"
        assert limit["type"] == "gt"
        assert rule["labels"] == {"severity": original["labels"]["severity"], "origin": "grafana"}
        assert rule["annotations"]["runbook_url"] == original["annotations"]["runbook_url"]
        dashboard = json.loads((GRAFANA / "dashboards" / f"{rule['dashboardUid']}.json").read_text())
        assert rule["panelId"] in {panel["id"] for panel in dashboard["panels"]}


def test_grafanas_alerts_reach_alertmanager_before_it_forgets_them() -> None:
    """The policy leads to the contact point, which is Alertmanager; it repeats well within the 5 minutes of resolve_timeout."""
    (policy,) = load("alerting/policies.yml")["policies"]
    (contact,) = load("alerting/contact-points.yml")["contactPoints"]
    assert policy["receiver"] == contact["name"]
    (receiver,) = contact["receivers"]
    assert (receiver["type"], receiver["settings"]) == ("prometheus-alertmanager", {"url": "http://alertmanager:9093"})
    assert policy["repeat_interval"] == "1m"
