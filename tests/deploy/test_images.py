"""The images of all services, built by the Dockerfile's own lines and run as the manifests say: without Docker, and
without a cluster, but on real servers, and with nothing of the repository within reach."""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from forecourt.supervisor import Supervisor
from forecourt.testing.probes import poll_async
from forecourt.testing.servers import PostgresServer, RabbitMQServer
from forecourt.testing.token_keys import Signer, jwk_set
from tests.deploy.images import Image, build_image, build_shared
from tests.deploy.manifests import Object, objects_of
from tests.deploy.places import ROOT
from tests.deploy.pods import FAR, Pod, confined, pods
from tests.e2e import stories
from tests.e2e.client import Client
from tests.staff import Hats

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

SERVICES = ("audit", "customer", "notify", "sales", "service-desk")
"""The folders below services/ that images are made of."""

SECONDS = 60.0
OVERLAY = "single-site"
ISSUER = "https://login.forecourt.example"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Image]]:
    """The image of every service, which nobody can write into."""
    folder = tmp_path_factory.mktemp("images")
    try:
        build_shared(folder / "shared")
        built = {name: build_image(name, folder / "shared", folder / name) for name in SERVICES}
        for image in built.values():
            image.make_readonly()
        yield built
        for image in built.values():
            image.remove()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Site:
    """The pods of a site, running."""

    folder: Path
    supervisor: Supervisor
    pods: dict[str, Pod]
    variables: dict[str, dict[str, str]]
    channels: dict[str, grpc.aio.Channel]
    signer: Signer
    installed: dict[str, dict[str, tuple[int, int]]]
    """The files of each image before anything ran from it."""

    def client(self, app: str, actor: str) -> Client:
        """Somebody who calls a service."""

        def token(role: str) -> str:
            claims = {"sub": actor, "roles": [role], "dealers": ["D001"], "brands": ["hongtong"]}
            known = {"iss": ISSUER, "aud": "forecourt", "exp": time.time() + 3600}
            return self.signer.sign({**claims, **known})

        return Client(self.channels[app], Hats(token))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    images: dict[str, Image],
    postgres_server: PostgresServer,
    rabbitmq_server: RabbitMQServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Site]:
    """All pods of all services, after their migrations."""
    database_url, amqp_uri = postgres_server.create_database(), rabbitmq_server.create_vhost()
    secrets = {
        "DATABASE_URL": database_url,
        "AMQP_URI": amqp_uri,
        "FORECOURT_MASTER_KEY": base64.b64encode(os.urandom(32)).decode(),
        "NOTIFY_SMTP_URLS": "smtp://127.0.0.1:9",
        "NOTIFY_SMS_GENERIC_KEY": "none",
    }
    objects, signer = objects_of(OVERLAY), Signer()
    try:
        async with AsyncExitStack() as stack:
            folder = tmp_path_factory.mktemp("pods")
            supervisor = await stack.enter_async_context(Supervisor(folder / "logs", restart=False))
            installed = {service: contents(image.root) for service, image in images.items()}
            opened = Site(folder, supervisor, {}, {}, {}, signer, installed)
            jobs = list(pods(objects, "Job"))
            for job in jobs:
                await start(opened, job, images, objects, secrets)
                await ended(opened, job.name, SECONDS)
            assert {job.labels["app"] for job in jobs} == set(SERVICES)
            for pod in pods(objects, "Deployment"):
                await start(opened, pod, images, objects, secrets)
                opened.pods[pod.name] = pod
            await asyncio.gather(*(pod.started() for pod in opened.pods.values()))
            for app in SERVICES:
                address = opened.pods[f"{app}-serve"].address("grpc")
                opened.channels[app] = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            yield opened
    finally:
        postgres_server.drop_database(database_url)
        rabbitmq_server.delete_vhost(amqp_uri)


async def start(
    site: Site, pod: Pod, images: dict[str, Image], objects: list[Object], secrets: dict[str, str]
) -> None:
    """Start a pod's process."""
    image = images[pod.labels["app"]]
    tmp = site.folder / pod.name
    tmp.mkdir(mode=0o700)
    variables = pod.variables(objects, secrets, image, tmp)
    # The identity provider's keys come from a file, and no provider is written to.
    assert variables["FORECOURT_ENV"] == "production"
    del variables["FORECOURT_JWKS_URL"]
    keys = site.folder / "keys.json"
    keys.write_text(jwk_set(site.signer))
    variables |= {"FORECOURT_JWKS_FILE": str(keys), "NOTIFY_SMS_GENERIC_URL": FAR}
    site.variables[pod.name] = variables
    await site.supervisor.start(pod.process(image, variables, tmp))


async def ended(site: Site, name: str, seconds: float) -> None:
    """Wait until a pod's process ends, as it should, within so many seconds."""
    child = site.supervisor.children[name]
    assert child.process is not None
    assert await asyncio.wait_for(child.process.wait(), seconds) == 0, f"{name}: {child.last_words()}"


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    found = {path: path.lstat() for path in folder.rglob("*")}
    return {str(path): (status.st_size, status.st_mtime_ns) for path, status in found.items()}


LOOK = """
import importlib.metadata, json, os, sys
import forecourt, trade, crm.common.v1.common_pb2
names = {found.metadata["Name"] for found in importlib.metadata.distributions()}
print(json.dumps({
    "files": [module.__file__ for module in (forecourt, trade, crm.common.v1.common_pb2)],
    "path": [folder for folder in sys.path if folder],
    "names": sorted(names),
    "prefixes": [sys.prefix, sys.base_prefix],
    "writable": [folder for folder, _, _ in os.walk(sys.prefix) if os.access(folder, os.W_OK)],
}))
"""


@pytest.mark.parametrize("service", SERVICES)
async def test_an_image_holds_one_service_and_nothing_of_the_repository(
    images: dict[str, Image], service: str
) -> None:
    image = images[service]
    command = [*confined(), str(image.installed / "bin/python"), "-c", LOOK]
    environment = {name: image.placed(text, tmp=image.root) for name, text in image.environment.items()}
    run = partial(subprocess.run, env=environment, cwd=image.root, capture_output=True, check=True)
    done = await asyncio.to_thread(run, command)
    found = json.loads(done.stdout)
    prefix, base = found["prefixes"]
    assert prefix == str(image.installed)
    assert all(path.startswith(prefix) for path in found["files"]), found
    assert all(path.startswith((prefix, base)) for path in found["path"]), found
    assert not any(path.startswith(str(ROOT)) for path in found["path"]), found
    ours = {name for name in found["names"] if name.startswith("crm-") or name == "forecourt"}
    assert ours == {"forecourt", "crm-proto", "crm-trade", f"crm-{service}"}
    assert found["writable"] == []
    assert {"pip", "setuptools", "pytest", "ruff"}.isdisjoint(found["names"])


async def test_every_pod_passes_its_probes(site: Site) -> None:
    roles = {(pod.labels["app"], pod.labels["role"]) for pod in site.pods.values()}
    every = {(app, role) for app in SERVICES for role in ("serve", "project", "relay", "work")}
    assert roles == every - {("audit", "work")}
    for pod in site.pods.values():
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            await poll_async(partial(pod.answers, kind), SECONDS, what=f"{pod.name}: {kind}")
        assert await pod.page("/readyz", "http"), pod.name


async def test_the_images_own_health_check_passes(site: Site, images: dict[str, Image]) -> None:
    """The one that Docker Compose goes by."""
    for name in ("notify-serve", "notify-work"):
        pod, variables = site.pods[name], site.variables[name]
        command = [
            word.replace("127.0.0.1:9100", pod.address("http")) for word in images["notify"].healthcheck
        ]
        program = shutil.which(command[0], path=variables["PATH"])
        assert program is not None
        await asyncio.to_thread(subprocess.run, [program, *command[1:]], env=variables, check=True)


async def test_the_services_work_together(site: Site) -> None:
    """A command of each service that takes any, seen in its read model; what follows in the others by the broker."""
    seller = {app: site.client(app, "seller") for app in SERVICES}
    customer_id = await stories.register(seller["customer"])
    customer = await seller["customer"].ask("customer.GetCustomer", customer_id=customer_id)
    assert customer.customer_id == customer_id
    vin = next(stories.VINS)
    await stories.receive_car(seller["sales"], vin)
    vehicle = await seller["sales"].ask("sales.GetVehicle", vin=vin)
    assert vehicle.vin == vin
    complaint_id = await stories.complain(seller["service-desk"], customer_id)
    complaint = await seller["service-desk"].ask("service_desk.GetComplaint", complaint_id=complaint_id)
    assert complaint.complaint_id == complaint_id

    async def notified() -> bool:
        found = await seller["notify"]("notify.ListNotifications", customer_id=customer_id)
        return bool(found.notifications)

    await poll_async(notified, SECONDS, what="a message to the customer")
    auditor = site.client("audit", "auditor")
    position = max(client.position for client in seller.values())
    found = await auditor.ask("audit.ListEntries", after=position, subject=customer_id)
    assert "customer.RegisterCustomer" in {entry.rpc for entry in found.entries}


async def test_a_pod_that_is_told_to_end_does_so_in_time(site: Site, images: dict[str, Image]) -> None:
    """And no process has written anywhere but to its own ``/tmp``."""
    for name in site.pods:
        site.supervisor.children[name].send(signal.SIGTERM)
    await asyncio.gather(*(ended(site, name, pod.grace) for name, pod in site.pods.items()))
    assert {service: contents(image.root) for service, image in images.items()} == site.installed
