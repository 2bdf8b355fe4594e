"""Runs pods as their manifests say, without Kubernetes: what a kubelet does, for processes of `tests.deploy.images`.

Arguments, variables, probes and times come from the rendered manifests. What only a cluster has is replaced:
addresses of servers and of the identity provider, ports (all pods are on one machine), and the values of Secrets. The
user is the tests' own, with as little power as the pod's.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlunsplit

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from forecourt.embedded.process import free_port
from forecourt.supervisor import ProcessSpec
from forecourt.testing.probes import poll_async
from tests.deploy.images import Image
from tests.deploy.manifests import Object, get

HOST = "127.0.0.1"
KUBERNETES_GRACE = 30
"""Where a pod says nothing about it."""

FAR = "https://127.0.0.1:9"
"""A provider that nobody plays: what is not to be reached from a test."""


@dataclass
class Pod:
    """One pod of a Deployment or Job."""

    name: str
    spec: Object
    labels: dict[str, str]
    ports: dict[str, int] = field(default_factory=lambda: {"http": free_port(), "grpc": free_port()})

    @cached_property
    def container(self) -> Object:
        """Its only container."""
        (found,) = self.spec["containers"]
        return dict(found)

    @property
    def grace(self) -> float:
        """Seconds from SIGTERM to SIGKILL: what comes before SIGTERM counts too."""
        before = self.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        return float(self.spec.get("terminationGracePeriodSeconds", KUBERNETES_GRACE) - before)

    def address(self, port: str) -> str:
        """Where it listens, by the name of the port."""
        return f"{HOST}:{self.ports[port]}"

    def variables(
        self, objects: list[Object], secrets: Mapping[str, str], image: Image, tmp: Path
    ) -> dict[str, str]:
        """All that its process finds in its environment. Raises `KeyError` for a Secret's value that is missing."""
        found = dict(image.environment)
        for source in self.container["envFrom"]:
            found |= get(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
        for one in self.container.get("env", ()):
            reference = one.get("valueFrom", {}).get("secretKeyRef")
            if reference is None:
                found[one["name"]] = one["value"]
            elif not reference.get("optional") or reference["key"] in secrets:
                found[one["name"]] = secrets[reference["key"]]
        found = {name: image.placed(value, tmp=tmp) for name, value in found.items()}
        found |= {f"{name.upper()}_LISTEN": self.address(name) for name in self.ports}
        # There is no mount at /tmp.
        return {**found, "TMPDIR": str(tmp)}

    def process(self, image: Image, variables: Mapping[str, str], tmp: Path) -> ProcessSpec:
        """How it is started: confined, and with these variables only."""
        command = [
            *confined(),
            *("env", "--ignore-environment", "--chdir", str(tmp)),
            *(f"{name}={value}" for name, value in variables.items()),
            *(image.placed(word, tmp=tmp) for word in image.entrypoint),
            *self.container["args"],
        ]
        return ProcessSpec(self.name, command, grace=self.grace)

    async def started(self) -> None:
        """Wait for the startup probe, for as long as it waits. Raises `TimeoutError`."""
        probe = self.container["startupProbe"]
        seconds = probe["periodSeconds"] * probe["failureThreshold"]
        await poll_async(lambda: self.answers("startupProbe"), seconds, what=f"{self.name} to be started")

    async def answers(self, kind: str) -> bool:
        """Whether a probe is content."""
        probe = self.container[kind]
        if "grpc" in probe:
            [name] = [
                p["name"] for p in self.container["ports"] if p["containerPort"] == probe["grpc"]["port"]
            ]
            return await _is_serving(self.address(name), probe["grpc"].get("service", ""))
        return await self.page(probe["httpGet"]["path"], probe["httpGet"]["port"])

    async def page(self, path: str, port: str) -> bool:
        """Whether a page answers as a kubelet wants it."""
        url = urlunsplit(("http", self.address(port), path, "", ""))
        try:
            async with aiohttp.ClientSession() as http, http.get(url) as response:
                return 200 <= response.status < 400
        except OSError:
            return False


async def _is_serving(address: str, service: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=3)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def confined() -> list[str]:
    """What comes before a command that shall have no more power than in a pod: files' modes bind it, even as root."""
    drop = ["--bounding-set", "-all", "--inh-caps", "-all"] if os.geteuid() == 0 else []
    return ["setpriv", "--no-new-privs", *drop]


def pods(objects: list[Object], kind: str) -> Iterator[Pod]:
    """One pod of each Deployment, or Job, of Forecourt's."""
    for found in objects:
        labels = found["metadata"].get("labels", {})
        if found["kind"] == kind and labels.get("app.kubernetes.io/part-of") == "forecourt":
            yield Pod(found["metadata"]["name"], found["spec"]["template"]["spec"], labels)
