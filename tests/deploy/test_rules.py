"""The rules of Prometheus, by promtool: they parse, each alert fires when it should, and only then."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from forecourt.embedded.prometheus import find_or_fetch
from tests.deploy.alert_cases import CASES, Case
from tests.deploy.places import ROOT
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
    return {
        "name": f"{case.alert} {'fires' if fires else 'is silent'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": case.at, "exp_samples": expected}],
    }


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
    assert sorted(case.alert for case in CASES) == sorted(SEVERITIES)
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
