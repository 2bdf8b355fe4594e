"""What the autoscalers of workers go by, from RabbitMQ's own exporter through a real Prometheus: the recording rule of
the manifests, and the query that the adapter makes of an autoscaler's selector."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import yaml
from kombu import Connection

from forecourt.embedded import EmbeddedRabbitMQ
from forecourt.embedded.prometheus import EmbeddedPrometheus
from forecourt.testing.probes import poll_async
from tests.deploy.manifests import Object, get, objects_of
from tests.deploy.places import DEPLOY
from tests.e2e.prometheus import Watch

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SECONDS = 60.0
OVERLAY, NAMESPACE = "single-site", "forecourt"
WAITING = {
    "sales.plan_return_visit": 7,
    "sales.note_order": 2,
    "sales.note_order.parked": 40,
    "sales.note_order.retry": 40,
    "service_desk.care": 3,
    "foreign": 40,
}


def configuration(folder: Path, rabbitmq: EmbeddedRabbitMQ) -> Path:
    """Scrape the broker as the PodMonitor says, evaluate what the PrometheusRule says, both often."""
    objects = objects_of(OVERLAY)
    rules = get(objects, "PrometheusRule", "forecourt-queue-depth")["spec"]
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    endpoints = get(objects, "PodMonitor", "rabbitmq")["spec"]["podMetricsEndpoints"]
    address = urlsplit(rabbitmq.metrics_url).netloc
    body = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": [scrape(endpoint, address) for endpoint in endpoints],
    }
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(body))
    return file


def scrape(endpoint: Object, address: str) -> Object:
    """What the operator makes of an endpoint: the job by the pods' label, and then what the endpoint says of it."""
    relabelings = [{"targetLabel": "job", "replacement": "rabbitmq"}, *endpoint.get("relabelings", ())]
    return {
        "job_name": endpoint["path"],
        "metrics_path": endpoint["path"],
        "params": endpoint.get("params", {}),
        "relabel_configs": [
            {"target_label": one["targetLabel"], "replacement": one["replacement"]} for one in relabelings
        ],
        "static_configs": [{"targets": [address], "labels": {"namespace": NAMESPACE}}],
    }


def fill(uri: str) -> None:
    """Queues with so many messages that nobody takes."""
    with Connection(uri) as connection:
        channel = connection.channel()
        for queue, count in WAITING.items():
            kind = {"x-queue-type": "quorum"}
            channel.queue_declare(queue, durable=True, auto_delete=False, arguments=kind)
            for _ in range(count):
                connection.Producer().publish(b"{}", routing_key=queue, exchange="")


def asked(autoscaler: str, namespace: str) -> str:
    """What the adapter asks Prometheus for an autoscaler: its template, filled in as the adapter does."""
    [metric] = get(objects_of(OVERLAY), "HorizontalPodAutoscaler", autoscaler)["spec"]["metrics"]
    wanted = metric["external"]["metric"]
    values = yaml.safe_load((DEPLOY / "k8s/prometheus-adapter/values.yaml").read_text())
    [rule] = [
        one for one in values["rules"]["external"] if one["seriesQuery"].startswith(f"{wanted['name']}{{")
    ]
    [label] = [name for name, of in rule["resources"]["overrides"].items() if of == {"resource": "namespace"}]
    matchers = wanted["selector"]["matchLabels"] | {label: namespace}
    matching = ",".join(f'{name}="{value}"' for name, value in matchers.items())
    query: str = rule["metricsQuery"]
    return query.replace("<<.Series>>", wanted["name"]).replace("<<.LabelMatchers>>", matching)


async def test_an_autoscaler_sees_what_waits_for_its_service(tmp_path: Path) -> None:
    with EmbeddedRabbitMQ(tmp_path / "rabbitmq") as rabbitmq:
        await asyncio.to_thread(fill, rabbitmq.uri)
        prometheus = EmbeddedPrometheus(tmp_path / "prometheus", configuration(tmp_path, rabbitmq))
        url = await asyncio.to_thread(prometheus.start)
        try:
            async with aiohttp.ClientSession() as http:
                await _compare(Watch(url, http))
        finally:
            await asyncio.to_thread(prometheus.stop)


async def _compare(watch: Watch) -> None:
    async def value(autoscaler: str, namespace: str = NAMESPACE) -> list[float]:
        found: list[dict[str, Any]] = await watch.ask(asked(autoscaler, namespace))
        return [float(one["value"][1]) for one in found]

    async def all_counted() -> bool:
        return await value("sales-work") == [9.0]

    await poll_async(all_counted, SECONDS, what="what waits for sales")
    assert await value("service-desk-work") == [3.0]
    assert await value("sales-work", "elsewhere") == []
    assert await value("customer-work") == []

    async def endpoints_are_apart() -> bool:
        return {one["metric"]["job"] for one in await watch.ask("up")} == {"rabbitmq", "rabbitmq-queues"}

    await poll_async(endpoints_are_apart, SECONDS, what="a series up for each endpoint")
