"""The rules of Prometheus, by promtool: they parse, each alert fires when it should, and only then."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from forecourt.embedded.prometheus import find_or_fetch
from tests.deploy.alert_cases import BROKER, CASES, UP, Case
from tests.deploy.manifests import objects_of
from tests.deploy.places import ROOT
from tests.deploy.pods import pods
from tools import reference_rules

RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yaml"))
SEVERITIES = {rule["alert"]: rule["labels"]["severity"] for rule in reference_rules.alerts()}

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """What promtool says."""
    command = [find_or_fetch("promtool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def alert_test(case: Case, series: dict[str, str], *, fires: bool) -> dict[str, Any]:
    """A test in promtool's words."""
    labels = {"alertname": case.alert, "severity": SEVERITIES[case.alert], **case.labels}
    listed = ", ".join(f'{name}="{value}"' for name, value in {**labels, "alertstate": "firing"}.items())
    expected = [{"labels": f"ALERTS{{{listed}}}", "value": 1}] if fires else []
    expression = f'ALERTS{{alertname="{case.alert}", alertstate="firing"}}'
    test = {
        "name": f"{case.alert} {'fires' if fires else 'is silent'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": case.at, "exp_samples": expected}],
    }
    if fires and case.says:
        test["alert_rule_test"] = [said(case)]
    return test


def said(case: Case) -> dict[str, Any]:
    """What an alert says, in promtool's words."""
    [rule] = [rule for rule in reference_rules.alerts() if rule["alert"] == case.alert]
    alert = {
        "exp_labels": {"severity": SEVERITIES[case.alert], **case.labels},
        "exp_annotations": {**rule["annotations"], "description": case.says},
    }
    return {"eval_time": case.at, "alertname": case.alert, "exp_alerts": [alert]}


def run_tests(
    folder: Path, rules: list[Path], tests: list[dict[str, Any]]
) -> "subprocess.CompletedProcess[str]":
    """Run tests on rules."""
    file = folder / "tests.yaml"
    body = {"rule_files": list(map(str, rules)), "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(body, sort_keys=False))
    return promtool("test", "rules", file)


def test_rules_are_well_formed() -> None:
    done = promtool("check", "rules", *RULES)
    assert done.returncode == 0, done.stderr


def test_every_alert_has_a_case_and_a_runbook() -> None:
    assert {case.alert for case in CASES} == set(SEVERITIES)
    for rule in reference_rules.alerts():
        page = ROOT / rule["annotations"]["runbook_url"]
        assert page.name == f"{rule['alert']}.md"
        for part in ("**Means.**", "**Noticed as.**", "**Find out why.**", "**Do.**"):
            assert part in page.read_text(), f"{page.name}: {part}"


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    tests = [
        test
        for case in CASES
        for test in (
            alert_test(case, case.fires, fires=True),
            alert_test(case, case.silent, fires=False),
        )
    ]
    done = run_tests(tmp_path, RULES, tests)
    assert done.returncode == 0, done.stdout + done.stderr


def within(namespace: str, series: dict[str, str]) -> dict[str, str]:
    """The same series, as the operator labels them."""
    return {
        f'{name.partition("{")[0]}{{namespace="{namespace}", {name.partition("{")[2] or "}"}': values
        for name, values in series.items()
    }


def test_an_installation_that_is_well_hides_no_other(tmp_path: Path) -> None:
    tests = []
    for case in CASES:
        labels = {"namespace": "ill", **case.labels}
        series = {**within("well", case.silent), **within("ill", case.fires)}
        tests.append(alert_test(replace(case, labels=labels), series, fires=True))
    done = run_tests(tmp_path, RULES, tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_broker_is_missed_until_it_is_back(tmp_path: Path) -> None:
    """It fails, then its pod is gone and its series with it, then it answers again."""
    expression = 'count by (instance) (ALERTS{alertname="ForecourtBrokerDown", alertstate="firing"})'
    named = '{instance="rabbitmq:15692"}'
    told = {"4m": [], "10m": [named], "18m": ["{}"], "30m": []}
    test = {
        "interval": "1m",
        "input_series": [
            {"series": BROKER, "values": "1x5 0x5 stale _x9 1x20"},
            {"series": UP % ("relay", "a"), "values": "1x40"},
        ],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": at,
                "exp_samples": [{"labels": labels, "value": 1} for labels in expected],
            }
            for at, expected in told.items()
        ],
    }
    done = run_tests(tmp_path, RULES, [test])
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_role_is_missed_where_nothing_is_scraped(tmp_path: Path) -> None:
    expected = {"labels": "{}", "value": len(reference_rules.processes())}
    test = {
        "interval": "1m",
        "input_series": [],
        "promql_expr_test": [
            {
                "expr": 'count(ALERTS{alertname="ForecourtRoleMissing", alertstate="firing"})',
                "eval_time": "30m",
                "exp_samples": [expected],
            }
        ],
    }
    done = run_tests(tmp_path, RULES, [test])
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_missed_is_what_is_scraped_and_deployed() -> None:
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())["scrape_configs"]
    [ours] = [job for job in jobs if job["job_name"] == "forecourt"]
    scraped = [(one["labels"]["app"], one["labels"]["role"]) for one in ours["static_configs"]]
    assert sorted(scraped) == sorted(reference_rules.processes())
    deployed = [pod.labels for pod in pods(objects_of("single-site"), "Deployment")]
    assert sorted((labels["app"], labels["role"]) for labels in deployed) == sorted(scraped)


def test_the_tests_notice_alerts_that_never_fire(tmp_path: Path) -> None:
    """Every alert is made impossible, and every one is missed."""
    broken = []
    for path in RULES:
        body = yaml.safe_load(path.read_text())
        for group in body["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    rule["expr"] = f"({rule['expr']}) and on() (vector(1) < 0)"
        broken.append(tmp_path / path.name)
        broken[-1].write_text(yaml.safe_dump(body))
    done = run_tests(tmp_path, broken, [alert_test(case, case.fires, fires=True) for case in CASES])
    said = done.stdout + done.stderr
    assert [case.alert for case in CASES if f'alertname="{case.alert}"' not in said] == []
