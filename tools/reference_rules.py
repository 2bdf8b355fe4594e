"""The rules of Prometheus in the other shapes that are needed: a PrometheusRule, and the list of runbooks."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

RULES = Path("deploy/prometheus/rules")
RUNBOOKS = Path("docs/runbooks")

HEAD = """\
# Runbooks

<!-- Made by `make reference` from deploy/prometheus/rules. Change those. -->

One page for each alert: what it means, what customers and staff notice, how to find out why, and what to do.

| alert | severity | says |
|---|---|---|
"""


@cache
def groups() -> tuple[dict[str, Any], ...]:
    """All groups of rules, in the order of their files."""
    found: list[dict[str, Any]] = []
    for path in sorted(RULES.glob("*.yaml")):
        found += yaml.safe_load(path.read_text())["groups"]
    return tuple(found)


def alerts() -> list[dict[str, Any]]:
    """All alerts."""
    return [rule for group in groups() for rule in group["rules"] if "alert" in rule]


def recordings() -> dict[str, str]:
    """The expressions of all recorded series, by name."""
    return {rule["record"]: rule["expr"] for group in groups() for rule in group["rules"] if "record" in rule}


def alerts_using(metric: str) -> list[str]:
    """The alerts whose expression has this metric, directly or by way of recorded series."""
    return [rule["alert"] for rule in alerts() if _uses(rule["expr"], metric)]


def _uses(expression: str, metric: str) -> bool:
    if re.search(rf"(?<![\w:]){re.escape(metric)}(_bucket|_sum|_count)?(?![\w:])", expression):
        return True
    return any(
        _uses(inner, metric)
        for name, inner in recordings().items()
        if re.search(rf"(?<![\w:]){re.escape(name)}(?![\w:])", expression)
    )


def prometheus_rule() -> str:
    """The object of the Prometheus operator with all rules."""
    body = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "forecourt"},
        "spec": {"groups": list(groups())},
    }
    return "# Made by `make reference` from deploy/prometheus/rules. Change those.\n" + yaml.safe_dump(
        body, sort_keys=False, allow_unicode=True, width=10_000
    )


def runbook_list() -> str:
    """The list of runbooks."""
    rows = [
        f"| [{rule['alert']}]({rule['alert']}.md) | {rule['labels']['severity']} | {rule['annotations']['summary']} |\n"
        for rule in alerts()
    ]
    return HEAD + "".join(rows)
