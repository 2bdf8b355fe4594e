"""The rules of Prometheus in the other shapes that are needed: a PrometheusRule, and the list of runbooks.

The rules on roles that are missing are made here too, from the services that are installed.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from forecourt.discovery import find_services
from forecourt.roles import ROLES

RULES = Path("deploy/prometheus/rules")
ROLES_FILE = RULES / "roles.yaml"
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
    for path in sorted({*RULES.glob("*.yaml"), ROLES_FILE}):
        text = roles() if path == ROLES_FILE else path.read_text()
        found += yaml.safe_load(text)["groups"]
    return tuple(found)


def processes() -> list[tuple[str, str]]:
    """What runs of each service, by the labels that its targets have: app (its folder) and role."""
    return [
        (service.name.replace("_", "-"), role)
        for service in find_services()
        for role in (*ROLES, *(["work"] if service.workers else []))
    ]


def roles() -> str:
    """The rules that miss processes which Prometheus does not even know of, one for each role of each service."""
    rules = [_missing(app, role) for app, role in processes()]
    body = {"groups": [{"name": "roles", "rules": rules}]}
    return "# Made by `make reference` from the services that are installed.\n" + yaml.safe_dump(
        body, sort_keys=False, width=10_000
    )


def _missing(app: str, role: str) -> dict[str, Any]:
    ours = 'job="forecourt"'
    # Within each namespace where anything runs: a complete installation must not stand for one that lacks something.
    somewhere = f"(group by (namespace) (up{{{ours}}}) or absent(up{{{ours}}}))"
    return {
        "alert": "ForecourtRoleMissing",
        "expr": f'{somewhere} unless group by (namespace) (up{{{ours}, app="{app}", role="{role}"}})',
        "for": "5m",
        "labels": {"severity": "critical", "app": app, "role": role},
        "annotations": {
            "summary": "A role of a service is not scraped at all",
            "description": f"Prometheus knows no {role} process of {app}.",
            "runbook_url": "docs/runbooks/ForecourtRoleMissing.md",
        },
    }


def alerts() -> list[dict[str, Any]]:
    """All alerts, each once though it may be in several rules."""
    rules = (rule for group in groups() for rule in group["rules"] if "alert" in rule)
    return list({rule["alert"]: rule for rule in rules}.values())


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
