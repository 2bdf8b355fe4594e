"""The manifests keep the policies, and each policy finds what it is there for."""

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from kurrentdbclient.connection_spec import ConnectionSpec

from forecourt.config import Settings, load_from
from forecourt.discovery import find_services
from forecourt.eventstore import eventstoredb
from forecourt.rpc import wiring
from tests.deploy.manifests import Object, get, objects_of
from tests.deploy.places import ROOT
from tools import deploy_policies as policies

Change = Callable[[list[Object]], Any]

OVERLAYS = ("dev", "single-site", "cluster")
DEPLOYMENT = ROOT / "docs/deployment.md"


@pytest.fixture(autouse=True)
def settings_without_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of the worker's settings belongs to processes on eventlet."""
    monkeypatch.setattr(policies, "variables", _variables)


@cache
def _variables() -> frozenset[str]:
    code = (
        "from forecourt.worker import bridge; bridge.install()\n"
        "from tools.deploy_policies import variables\n"
        "import os, sys; sys.stdout.write(' '.join(variables())); sys.stdout.flush(); os._exit(0)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return frozenset(run.stdout.split())


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("policy", policies.POLICIES, ids=lambda policy: policy.__name__)
def test_manifests_keep_the_policies(policy: policies.Policy, overlay: str) -> None:
    assert list(policy(objects_of(overlay))) == []


def pod(objects: list[Object], name: str = "sales-serve", kind: str = "Deployment") -> Object:
    spec: Object = get(objects, kind, name)["spec"]["template"]["spec"]
    return spec


def container(objects: list[Object], name: str = "sales-serve", kind: str = "Deployment") -> Object:
    found: Object = pod(objects, name, kind)["containers"][0]
    return found


def drop(objects: list[Object], kind: str, name: str) -> None:
    objects.remove(get(objects, kind, name))


def config(objects: list[Object]) -> Object:
    (found,) = [o for o in objects if o["kind"] == "ConfigMap" and "FORECOURT_DRAIN_SECONDS" in o["data"]]
    data: Object = found["data"]
    return data


def secret(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": "b"}}


def same(found: Any, path: str, value: Any) -> None:
    """Set a field; the path is separated by dots."""
    *parts, last = path.split(".")
    for part in parts:
        found = found[int(part)] if isinstance(found, list) else found[part]
    found[int(last) if isinstance(found, list) else last] = value


TAMPERED: list[tuple[policies.Policy, str, Change]] = [
    (
        policies.containers_are_confined,
        "may run as root",
        lambda o: pod(o)["securityContext"].pop("runAsNonRoot"),
    ),
    (
        policies.containers_are_confined,
        "may run as root",
        lambda o: pod(o)["securityContext"].update(runAsUser=0),
    ),
    (policies.containers_are_confined, "seccomp", lambda o: pod(o)["securityContext"].pop("seccompProfile")),
    (
        policies.containers_are_confined,
        "mounts a token",
        lambda o: pod(o).pop("automountServiceAccountToken"),
    ),
    (policies.containers_are_confined, "shares namespaces", lambda o: pod(o).update(hostNetwork=True)),
    (
        policies.containers_are_confined,
        "folder of the node",
        lambda o: pod(o)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    ),
    (
        policies.containers_are_confined,
        "gain privileges",
        lambda o: container(o)["securityContext"].update(allowPrivilegeEscalation=True),
    ),
    (
        policies.containers_are_confined,
        "root file system",
        lambda o: container(o)["securityContext"].pop("readOnlyRootFilesystem"),
    ),
    (
        policies.containers_are_confined,
        "capabilities",
        lambda o: container(o)["securityContext"].pop("capabilities"),
    ),
    (
        policies.volumes_keep_their_modes,
        "StatefulSet/rabbitmq: its files are opened",
        lambda o: pod(o, "rabbitmq", "StatefulSet")["securityContext"].pop("fsGroupChangePolicy"),
    ),
    (
        policies.containers_have_limits,
        "limits of memory",
        lambda o: container(o)["resources"]["limits"].pop("memory"),
    ),
    (
        policies.containers_have_limits,
        "requests of cpu",
        lambda o: container(o, "sales-work").pop("resources"),
    ),
    (
        policies.containers_have_limits,
        "customer-migrate",
        lambda o: container(o, "customer-migrate", "Job").pop("resources"),
    ),
    (policies.containers_have_probes, "no livenessProbe", lambda o: container(o).pop("livenessProbe")),
    (
        policies.containers_have_probes,
        "no startupProbe",
        lambda o: container(o, "notify-relay").pop("startupProbe"),
    ),
    (
        policies.containers_have_probes,
        "by gRPC",
        lambda o: container(o).update(readinessProbe={"httpGet": {"path": "/readyz", "port": "http"}}),
    ),
    (policies.images_are_pinned, "no version", lambda o: container(o).update(image="forecourt/sales:latest")),
    (policies.images_are_pinned, "no version", lambda o: container(o).update(image="forecourt/sales")),
    (policies.secrets_are_references, "do not belong", lambda o: o.append(secret("forecourt"))),
    (
        policies.secrets_are_references,
        "DATABASE_URL is written out",
        lambda o: container(o)["env"].append({"name": "DATABASE_URL", "value": "postgresql://a:b@c/d"}),
    ),
    (
        policies.secrets_are_references,
        "FORECOURT_MASTER_KEY is written out",
        lambda o: config(o).update(FORECOURT_MASTER_KEY="k" * 32),
    ),
    (
        policies.secrets_are_references,
        "NOTIFY_CALLBACK_URL is written out",
        lambda o: config(o).update(NOTIFY_CALLBACK_URL="http://amy:pw@notify"),
    ),
    (
        policies.variables_exist,
        "nothing reads FORECOURT_DRAIN",
        lambda o: config(o).update(FORECOURT_DRAIN="1"),
    ),
    (policies.variables_exist, "is not given FORECOURT_ENV", lambda o: config(o).pop("FORECOURT_ENV")),
    (policies.variables_exist, "is not given DATABASE_URL", lambda o: container(o).update(env=[])),
    (
        policies.variables_exist,
        "no ConfigMap",
        lambda o: container(o).update(envFrom=[{"configMapRef": {"name": "x"}}]),
    ),
    (
        policies.ports_match,
        "readinessProbe asks port",
        lambda o: same(container(o), "readinessProbe.grpc.port", 50052),
    ),
    (policies.ports_match, "GRPC_LISTEN", lambda o: config(o).update(GRPC_LISTEN="0.0.0.0:50052")),
    (
        policies.ports_match,
        "Service/sales-serve: port",
        lambda o: same(get(o, "Service", "sales-serve"), "spec.ports.0.targetPort", "rpc"),
    ),
    (
        policies.ports_match,
        "PodMonitor/forecourt",
        lambda o: same(get(o, "PodMonitor", "forecourt"), "spec.podMetricsEndpoints.0.port", "metrics"),
    ),
    (
        policies.selectors_select,
        "does not select its own",
        lambda o: same(get(o, "Deployment", "sales-work"), "spec.template.metadata.labels.app", "sale"),
    ),
    (
        policies.selectors_select,
        "selects pods of",
        lambda o: get(o, "Deployment", "sales-work")["spec"]["selector"]["matchLabels"].pop("role"),
    ),
    (
        policies.selectors_select,
        "PodDisruptionBudget/sales-work: selects nothing",
        lambda o: same(
            get(o, "PodDisruptionBudget", "sales-work"), "spec.selector.matchLabels.role", "worker"
        ),
    ),
    (
        policies.selectors_select,
        "NetworkPolicy/callers: selects nothing",
        lambda o: same(get(o, "NetworkPolicy", "callers"), "spec.podSelector.matchLabels.role", "server"),
    ),
    (
        policies.selectors_select,
        "twice",
        lambda o: same(pod(o), "topologySpreadConstraints.0.matchLabelKeys", ["app", "role"]),
    ),
    (policies.network_is_closed, "denied by default", lambda o: drop(o, "NetworkPolicy", "default-deny")),
    (
        policies.network_is_closed,
        "denied by default",
        lambda o: same(get(o, "NetworkPolicy", "default-deny"), "spec.policyTypes", ["Ingress"]),
    ),
    (
        policies.network_is_closed,
        "Service/rabbitmq: no policy",
        lambda o: drop(o, "NetworkPolicy", "rabbitmq"),
    ),
    (
        policies.network_is_closed,
        "sales-serve: is not let out to the name server at UDP 53",
        lambda o: drop(o, "NetworkPolicy", "names"),
    ),
    (
        policies.network_is_closed,
        "Deployment/sales-relay: is not let out to StatefulSet/rabbitmq at TCP 5672",
        lambda o: drop(o, "NetworkPolicy", "servers"),
    ),
    (
        policies.network_is_closed,
        "Job/sales-migrate: is not let in to StatefulSet/postgresql at TCP 5432",
        lambda o: same(get(o, "NetworkPolicy", "postgresql"), "spec.ingress.0.ports.0.port", 9999),
    ),
    (
        policies.network_is_closed,
        "a caller: is not let in to Deployment/sales-serve at TCP 50051",
        lambda o: drop(o, "NetworkPolicy", "callers"),
    ),
    (
        policies.network_is_closed,
        "Prometheus: is not let in to Deployment/sales-work at TCP 9100",
        lambda o: drop(o, "NetworkPolicy", "metrics"),
    ),
    (
        policies.network_is_closed,
        "the ingress controller: is not let in to Deployment/notify-serve",
        lambda o: drop(o, "NetworkPolicy", "receipts"),
    ),
    (
        policies.network_is_closed,
        "Deployment/notify-work: is not let out to a provider at TCP 587",
        lambda o: drop(o, "NetworkPolicy", "providers"),
    ),
    (
        policies.network_is_closed,
        "Deployment/sales-serve: is not let out to FORECOURT_JWKS_URL at TCP 443",
        lambda o: drop(o, "NetworkPolicy", "identity"),
    ),
    (
        policies.network_is_closed,
        "Deployment/sales-work: is not let out to OTEL_EXPORTER_OTLP_ENDPOINT at TCP 4318",
        lambda o: config(o).update(OTEL_EXPORTER_OTLP_ENDPOINT="http://collector.monitoring:4318"),
    ),
    (
        policies.network_is_closed,
        "lets everybody in",
        lambda o: get(o, "NetworkPolicy", "callers")["spec"]["ingress"][0].pop("from"),
    ),
    (
        policies.network_is_closed,
        "NetworkPolicy/identity: lets out to anywhere",
        lambda o: get(o, "NetworkPolicy", "identity")["spec"]["egress"][0].pop("to"),
    ),
    (
        policies.metrics_are_served,
        "depth is not recorded with namespace, service",
        lambda o: same(
            get(o, "HorizontalPodAutoscaler", "sales-work"),
            "spec.metrics.0.external.metric.name",
            "depth",
        ),
    ),
    (
        policies.metrics_are_served,
        "the adapter does not serve depth",
        lambda o: same(
            get(o, "HorizontalPodAutoscaler", "sales-work"),
            "spec.metrics.0.external.metric.name",
            "depth",
        ),
    ),
    (
        policies.metrics_are_served,
        "is not recorded with queue",
        lambda o: same(
            get(o, "HorizontalPodAutoscaler", "sales-work"),
            "spec.metrics.0.external.metric.selector.matchLabels.queue",
            "sales",
        ),
    ),
    (
        policies.metrics_are_served,
        "the adapter looks for forecourt_queue_messages_ready with namespace",
        lambda o: same(
            get(o, "PrometheusRule", "forecourt-queue-depth"),
            "spec.groups.0.rules.0.expr",
            "sum by (service) (rabbitmq_queue_messages_ready)",
        ),
    ),
    (
        policies.jobs_have_their_names,
        "does not give its pods one job",
        lambda o: get(o, "PodMonitor", "forecourt")["spec"].pop("jobLabel"),
    ),
    (
        policies.jobs_have_their_names,
        "ForecourtRoleDown: asks for the job forecourt",
        lambda o: same(get(o, "PodMonitor", "forecourt"), "spec.jobLabel", "role"),
    ),
    (
        policies.jobs_have_their_names,
        "operations.json: asks for the job forecourt",
        lambda o: drop(o, "PodMonitor", "forecourt"),
    ),
    (
        policies.jobs_have_their_names,
        "ForecourtBrokerDown: asks for the job rabbitmq",
        lambda o: drop(o, "PodMonitor", "rabbitmq"),
    ),
    (
        policies.jobs_have_their_names,
        "ForecourtBrokerDown: asks for the job rabbitmq",
        lambda o: get(o, "PodMonitor", "rabbitmq")["spec"]["podMetricsEndpoints"].pop(0),
    ),
    (
        policies.jobs_have_their_names,
        "PodMonitor/rabbitmq: two endpoints have one job",
        lambda o: get(o, "PodMonitor", "rabbitmq")["spec"]["podMetricsEndpoints"][1].pop("relabelings"),
    ),
    (
        policies.autoscalers_fit,
        "there is no Deployment sale",
        lambda o: same(get(o, "HorizontalPodAutoscaler", "sales-work"), "spec.scaleTargetRef.name", "sale"),
    ),
    (
        policies.autoscalers_fit,
        "also fixes its replicas",
        lambda o: get(o, "Deployment", "sales-work")["spec"].update(replicas=2),
    ),
    (
        policies.autoscalers_fit,
        "has no autoscaler",
        lambda o: drop(o, "HorizontalPodAutoscaler", "sales-serve"),
    ),
    (
        policies.autoscalers_fit,
        "by the queues of 'any'",
        lambda o: same(
            get(o, "HorizontalPodAutoscaler", "sales-work"),
            "spec.metrics.0.external.metric.selector.matchLabels.service",
            "any",
        ),
    ),
    (
        policies.autoscalers_fit,
        "least is more",
        lambda o: get(o, "HorizontalPodAutoscaler", "sales-work")["spec"].update(minReplicas=99),
    ),
    (
        policies.autoscalers_fit,
        "connections go on for 3600 s",
        lambda o: config(o).pop("FORECOURT_CONNECTION_SECONDS"),
    ),
    (
        policies.connections_suffice,
        "takes 997 connections",
        lambda o: same(get(o, "HorizontalPodAutoscaler", "sales-work"), "spec.maxReplicas", 10),
    ),
    (
        policies.connections_suffice,
        "takes 997 connections",
        lambda o: same(get(o, "Deployment", "sales-relay"), "spec.replicas", 14),
    ),
    (
        policies.connections_suffice,
        "StatefulSet/postgresql: postgresql: takes 497",
        lambda o: same(container(o, "postgresql", "StatefulSet"), "args.2", "max_connections=500"),
    ),
    (policies.roles_are_complete, "sales: has the roles", lambda o: drop(o, "Deployment", "sales-relay")),
    (policies.roles_are_complete, "sales: has the roles", lambda o: drop(o, "Job", "sales-migrate")),
    (
        policies.roles_are_complete,
        "runs ['project']",
        lambda o: container(o, "sales-relay").update(args=["project"]),
    ),
    (
        policies.roles_are_complete,
        "runs the image",
        lambda o: container(o).update(image="forecourt/notify:0.1.0"),
    ),
    (
        policies.roles_are_complete,
        "disruption budget",
        lambda o: drop(o, "PodDisruptionBudget", "sales-relay"),
    ),
    (policies.roles_are_complete, "no account", lambda o: drop(o, "ServiceAccount", "sales-process")),
    (
        policies.roles_are_complete,
        "hands out its token",
        lambda o: get(o, "ServiceAccount", "sales-process").pop("automountServiceAccountToken"),
    ),
    (policies.ends_are_orderly, "is killed after", lambda o: config(o).update(FORECOURT_DRAIN_SECONDS="60")),
    (policies.ends_are_orderly, "is killed after", lambda o: pod(o).update(terminationGracePeriodSeconds=20)),
    (policies.ends_are_orderly, "before its callers", lambda o: container(o).pop("lifecycle")),
    (
        policies.ends_are_orderly,
        "takes processes away",
        lambda o: same(get(o, "Deployment", "sales-work"), "spec.strategy.rollingUpdate.maxUnavailable", 1),
    ),
    (
        policies.custom_resources,
        "no policy knows",
        lambda o: o.append({"apiVersion": "a.example/v1", "kind": "Thing", "metadata": {"name": "x"}}),
    ),
    (
        policies.custom_resources,
        "PodMonitor/forecourt: is of",
        lambda o: get(o, "PodMonitor", "forecourt").update(apiVersion="monitoring.coreos.com/v2"),
    ),
]

INHERITED = {"app": "postgresql"}


def by_inherited_label(objects: list[Object], path: str) -> None:
    """Let the policy of PostgreSQL find pods by what instances inherit, and their Jobs do not."""
    get(objects, "Cluster", "postgresql")["spec"]["inheritedMetadata"] = {"labels": INHERITED}
    same(get(objects, "NetworkPolicy", "postgresql"), f"spec.{path}.matchLabels", INHERITED)


CLUSTER: list[tuple[policies.Policy, str, Change]] = [
    (
        policies.connections_suffice,
        "Cluster/postgresql: takes 497",
        lambda o: same(get(o, "Cluster", "postgresql"), "spec.postgresql.parameters.max_connections", "500"),
    ),
    (
        policies.event_stores_are_trusted,
        "customer-migrate: process: cannot verify EventStoreDB",
        lambda o: pod(o, "customer-migrate", "Job")["volumes"].pop(0),
    ),
    (
        policies.event_stores_are_trusted,
        "sales-serve: process: cannot verify EventStoreDB",
        lambda o: container(o)["volumeMounts"].pop(0),
    ),
    (
        policies.event_stores_are_trusted,
        "is given more of eventstoredb-certificate than ca.crt",
        lambda o: pod(o)["volumes"][0]["secret"].pop("items"),
    ),
    (
        policies.jobs_have_their_names,
        "PodMonitor/rabbitmq: the label 'app'",
        lambda o: same(get(o, "RabbitmqCluster", "rabbitmq"), "metadata.labels", {}),
    ),
    (
        policies.custom_resources,
        "odd number",
        lambda o: same(get(o, "RabbitmqCluster", "rabbitmq"), "spec.replicas", 2),
    ),
    (
        policies.custom_resources,
        "no replica",
        lambda o: same(get(o, "Cluster", "postgresql"), "spec.instances", 1),
    ),
    (
        policies.custom_resources,
        "no storage",
        lambda o: get(o, "Cluster", "postgresql")["spec"].pop("storage"),
    ),
    (
        policies.images_are_pinned,
        "RabbitmqCluster/rabbitmq",
        lambda o: same(get(o, "RabbitmqCluster", "rabbitmq"), "spec.image", "rabbitmq:management"),
    ),
    (
        policies.selectors_select,
        "NetworkPolicy/postgresql: selects nothing",
        lambda o: same(get(o, "NetworkPolicy", "postgresql"), "spec.podSelector.matchLabels", INHERITED),
    ),
    (
        policies.network_is_closed,
        "Cluster/postgresql: initdb: is not let out to the API server at TCP 6443",
        lambda o: by_inherited_label(o, "podSelector"),
    ),
    (
        policies.network_is_closed,
        "Cluster/postgresql: join: is not let out to Cluster/postgresql at TCP 5432",
        lambda o: by_inherited_label(o, "podSelector"),
    ),
    (
        policies.network_is_closed,
        "Cluster/postgresql: join: is not let in to Cluster/postgresql at TCP 5432",
        lambda o: by_inherited_label(o, "ingress.1.from.0.podSelector"),
    ),
]


def _cases() -> Iterator[Any]:
    for overlay, cases in (("single-site", TAMPERED), ("cluster", CLUSTER)):
        for policy, finding, change in cases:
            yield pytest.param(overlay, policy, finding, change, id=f"{policy.__name__}: {finding}")


@pytest.mark.parametrize(("overlay", "policy", "finding", "change"), list(_cases()))
def test_a_tampered_manifest_is_found(
    overlay: str, policy: policies.Policy, finding: str, change: Change
) -> None:
    objects = objects_of(overlay)
    change(objects)
    assert any(finding in problem for problem in policy(objects)), list(policy(objects))


def test_every_policy_is_tried() -> None:
    assert {policy for policy, _, _ in [*TAMPERED, *CLUSTER]} == set(policies.POLICIES)


def test_the_cluster_keeps_events_in_eventstoredb_alone() -> None:
    """A process without the address of EventStoreDB would write to PostgreSQL: there it does not start."""
    for found in policies.of_kind(objects_of("cluster"), "Deployment", "Job"):
        for one in found["spec"]["template"]["spec"]["containers"]:
            (reference,) = [v["valueFrom"] for v in one["env"] if v["name"] == "EVENT_STORE_URL"]
            assert reference["secretKeyRef"]["optional"] is False


def test_the_address_of_eventstoredb_names_the_authority_that_is_mounted(tmp_path: Path) -> None:
    """The one that is documented, as the client reads it: whom it asks, and whom it believes."""
    [address] = re.findall(r"^EVENT_STORE_URL=(esdb:\S+)$", DEPLOYMENT.read_text(), re.MULTILINE)
    assert load_from(Settings, SECRETS | {"EVENT_STORE_URL": address}).store == address
    spec = ConnectionSpec(address)
    nodes = get(objects_of("cluster"), "StatefulSet", "eventstoredb")["spec"]["replicas"]
    assert spec.targets == [f"eventstoredb-{node}.eventstoredb:2113" for node in range(nodes)]
    [mount] = [
        one["mountPath"]
        for one in container(objects_of("cluster"))["volumeMounts"]
        if one["name"] == "event-store-ca"
    ]
    assert (spec.options.tls, spec.options.tls_ca_file) == (True, f"{mount}/ca.crt")
    authority = tmp_path / "ca.crt"
    authority.write_text("what is in it")
    client = eventstoredb._new_client(address.replace(f"{mount}/ca.crt", str(authority)))
    assert client.root_certificates == b"what is in it"


WHOLE_SECRETS = {
    "postgresql-owner": {"username", "password"},
    "eventstoredb-passwords": {"EVENTSTORE_DEFAULT_ADMIN_PASSWORD", "EVENTSTORE_DEFAULT_OPS_PASSWORD"},
    "eventstoredb-certificate": {"tls.crt", "tls.key", "ca.crt"},
}
"""The keys of Secrets that are handed over as a whole, whose readers look for these."""


def secret_keys(found: Any) -> Iterator[tuple[str, str, bool]]:
    """Secret and key of every reference in an object, and whether there is no starting without it."""
    if isinstance(found, list):
        for one in found:
            yield from secret_keys(one)
    elif isinstance(found, dict):
        for field, value in found.items():
            if field == "secretKeyRef":
                yield value["name"], value["key"], not value.get("optional")
            elif field in ("secretRef", "secret"):
                name = value.get("secretName") or value["name"]
                items = {item["key"] for item in value.get("items", ())}
                yield from ((name, key, True) for key in items or WHOLE_SECRETS[name])
            else:
                yield from secret_keys(value)


def test_every_key_of_a_secret_is_documented() -> None:
    """Which overlay needs it, too."""
    row = re.compile(
        r"^\| `([a-z-]+)` \| `([\w.]+)` \| (all|none|`[a-z-]+`(?:, `[a-z-]+`)*) \|", re.MULTILINE
    )
    documented = {
        (secret, key): {"all": OVERLAYS, "none": ()}.get(needed, tuple(re.findall("[a-z-]+", needed)))
        for secret, key, needed in row.findall(DEPLOYMENT.read_text())
    }
    keys = {overlay: set(secret_keys(objects_of(overlay))) for overlay in OVERLAYS}
    assert set(documented) == {(secret, key) for found in keys.values() for secret, key, _ in found}
    for overlay, found in keys.items():
        needed = {(secret, key) for secret, key, required in found if required}
        assert needed == {one for one, overlays in documented.items() if overlay in overlays}, overlay


def test_one_place_gives_labels_to_what_prometheus_selects(tmp_path: Path) -> None:
    """As documented; the pods and what selects them stay as they are."""
    [labels] = re.findall(r"^```yaml\n(labels:.*?)^```", DEPLOYMENT.read_text(), re.MULTILINE | re.DOTALL)
    site = os.path.relpath(ROOT / "deploy/k8s/overlays/single-site", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{site}]\n{labels}")
    given, plain = objects_of(str(tmp_path)), objects_of("single-site")
    for found in given:
        assert found["metadata"]["labels"].pop("release") == "kube-prometheus-stack"
        found["metadata"]["labels"] = found["metadata"]["labels"] or None
    for found in plain:
        found["metadata"]["labels"] = found["metadata"].get("labels")
    assert given == plain


SECRETS = {
    "DATABASE_URL": "postgresql://a:b@postgresql/forecourt",
    "AMQP_URI": "amqp://a:b@rabbitmq/forecourt",
    "FORECOURT_MASTER_KEY": base64.b64encode(bytes(32)).decode(),
    "NOTIFY_SMTP_URLS": "smtp://a:b@mail.example:587",
    "NOTIFY_SMS_GENERIC_KEY": "k" * 32,
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_processes_accept_the_configuration(overlay: str, tmp_path: Path) -> None:
    """With its secrets, what an overlay says is enough for every role, in production too."""
    given: dict[str, str] = {}
    for found in objects_of(overlay):
        if found["kind"] == "ConfigMap" and found["metadata"]["name"].startswith("forecourt"):
            given |= found["data"]
    given |= SECRETS | {"FORECOURT_DATA": str(tmp_path)}
    settings = load_from(Settings, given)
    wiring.check(settings)
    settings.master_key()
    for service in find_services(None):
        if service.settings is not None:
            load_from(service.settings, given)


def test_deploy_check_says_no() -> None:
    """What `make lint` runs: it ends with 1 and names the problem."""
    code = (
        "from tools import deploy_check as check\n"
        "objects = check.render('dev')\n"
        "objects[-1]['spec']['surprise'] = 1\n"
        "compose = check.compose((check.DOCKER / 'compose.yaml').read_text())\n"
        "assert not check.compose_problems(compose)\n"
        "compose['services']['postgres']['imagge'] = 'x'\n"
        "assert 'imagge' in str(check.compose_problems(compose))\n"
        "bad = check.Path('{bad}'); bad.write_text('FROM debian:latest\\nRUN cd /tmp && sudo make\\n')\n"
        "assert check.dockerfile(bad), 'hadolint'\n"
        "print(check.against_schemas(objects, check.KUBERNETES[0]), flush=True)\n"
        "import os; os._exit(0)"
    )
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    code = code.replace("{bad}", str(folder / "Dockerfile.bad"))
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "surprise" in done.stdout
