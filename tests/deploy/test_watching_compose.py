"""What watches the platform of the compose file finds all of it: Prometheus its processes, Grafana its dashboards."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.deploy.manifests import Object
from tests.deploy.places import DEPLOY
from tests.deploy.test_rules import promtool

COMPOSE = DEPLOY / "docker/compose.yaml"
PROMETHEUS = DEPLOY / "prometheus/prometheus.yaml"
PROVISIONING = DEPLOY / "grafana/provisioning"


@cache
def services() -> dict[str, Object]:
    """The services of the compose file."""
    found: dict[str, Object] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def jobs() -> dict[str, list[Object]]:
    """The targets of each job of Prometheus, with their labels."""
    configured = yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]
    return {job["job_name"]: job["static_configs"] for job in configured}


def processes() -> Iterator[tuple[str, str, str]]:
    """Address, service and role of each process that stays."""
    for name, service in services().items():
        image, command = service["image"].partition(":")[0], service.get("command", [])
        if image.startswith("forecourt/") and command and command != ["migrate"]:
            yield f"{name}:9100", image.removeprefix("forecourt/"), command[0]


def mounted(service: str) -> dict[str, Path]:
    """The folders and files of the repository that a service finds, by where it finds them."""
    pairs = (volume.split(":")[:2] for volume in services()[service]["volumes"])
    return {target: (COMPOSE.parent / source).resolve() for source, target in pairs if source.startswith(".")}


def provisioned(folder: str) -> Any:
    """What Grafana is told in one of the folders that it reads."""
    [file] = (mounted("grafana")["/etc/grafana/provisioning"] / folder).glob("*.yaml")
    return yaml.safe_load(file.read_text())


def test_every_process_is_scraped() -> None:
    targets = [
        (target, one["labels"]["app"], one["labels"]["role"])
        for one in jobs()["forecourt"]
        for target in one["targets"]
    ]
    assert sorted(targets) == sorted(processes())


def test_the_broker_is_scraped() -> None:
    for job in ("rabbitmq", "rabbitmq-queues"):
        assert [target for one in jobs()[job] for target in one["targets"]] == ["rabbitmq:15692"]
    assert "rabbitmq" in services()


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_prometheus_accepts_its_configuration() -> None:
    """With its rules, which it finds beside it in the repository as in the container."""
    done = promtool("check", "config", PROMETHEUS)
    assert done.returncode == 0, done.stderr
    assert f"{len(list(PROMETHEUS.parent.glob('rules/*.yaml')))} rule files found" in done.stdout
    found = mounted("prometheus")
    assert (found["/etc/prometheus/prometheus.yaml"], found["/etc/prometheus/rules"]) == (
        PROMETHEUS,
        PROMETHEUS.parent / "rules",
    )


def test_grafana_finds_dashboards_and_prometheus() -> None:
    assert mounted("grafana")["/etc/grafana/provisioning"] == PROVISIONING
    for provider in provisioned("dashboards")["providers"]:
        assert list(mounted("grafana")[provider["options"]["path"]].glob("*.json"))
    [source] = provisioned("datasources")["datasources"]
    assert urlsplit(source["url"]).hostname in services()
    for path in (DEPLOY / "grafana/dashboards").glob("*.json"):
        assert f'"uid": "{source["uid"]}"' in path.read_text()
