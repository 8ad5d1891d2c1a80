"""Metrics become alerts, alerts reach people: rules, configuration, dashboards, and the whole path for real."""
