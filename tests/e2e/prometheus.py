"""A real Prometheus beside a running platform, as operations would have it, but impatient."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from forecourt.embedded.prometheus import EmbeddedPrometheus
from tests.deploy.places import DEPLOY
from tests.e2e.house import House

SECONDS = "1s"
"""Between two scrapes, and between two evaluations."""


@dataclass
class Watch:
    """What Prometheus knows."""

    url: str
    http: aiohttp.ClientSession

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """The result of an instant query. Fails where Prometheus refuses it."""
        async with self.http.get(f"{self.url}/api/v1/query", params={"query": query}) as response:
            body = await response.json()
        assert body["status"] == "success", f"{query}: {body}"
        found: list[dict[str, Any]] = body["data"]["result"]
        return found

    async def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire: name, and role where it has one."""
        found = await self.ask('ALERTS{alertstate="firing"}')
        return {(one["metric"]["alertname"], one["metric"].get("role", "")) for one in found}


def impatient(folder: Path) -> Path:
    """The alerts with their very expressions, but firing at once: a folder of rules."""
    copies = folder / "rules"
    copies.mkdir()
    for path in (DEPLOY / "prometheus/rules").glob("*.yaml"):
        body = yaml.safe_load(path.read_text())
        for group in body["groups"]:
            group["interval"] = SECONDS
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = "2s"
        (copies / path.name).write_text(yaml.safe_dump(body))
    return copies


def configuration(folder: Path, house: House) -> Path:
    """Scrape every process of the platform, with the labels that production gives them."""
    targets = [
        {"targets": [address], "labels": labels(name)}
        for name, address in house.platform.addresses.items()
        if name in house.platform.supervisor.children and name != "notify-sandbox"
    ]
    body = {
        "global": {"scrape_interval": SECONDS, "evaluation_interval": SECONDS},
        "rule_files": [str(impatient(folder) / "*.yaml")],
        "scrape_configs": [{"job_name": "forecourt", "static_configs": targets}],
    }
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(body))
    return file


def labels(process: str) -> dict[str, str]:
    """The labels of a process of a laptop's platform."""
    role, _, service = process.partition("-")
    return {"app": service or "all", "role": role}


def with_ranges(query: str) -> str:
    """A query of a dashboard with what Grafana puts in for its variables."""
    return re.sub(r"\$__(range|rate_interval)", "10m", query)


@asynccontextmanager
async def watching(house: House, folder: Path) -> AsyncIterator[Watch]:
    """Prometheus on the platform, for as long as the context lasts."""
    prometheus = EmbeddedPrometheus(folder / "prometheus", configuration(folder, house))
    url = await asyncio.to_thread(prometheus.start)
    try:
        yield Watch(url, house.http)
    finally:
        await asyncio.to_thread(prometheus.stop)
