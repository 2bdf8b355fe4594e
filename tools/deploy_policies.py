"""What the schemas of Kubernetes do not say about our manifests.

Each policy takes all objects of an overlay, and answers what is wrong, one line a finding. `POLICIES` lists them.

For custom resources, whose schemas come with their operators, `custom_resources` checks kind, version and the fields
that we rely on.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from forecourt.config import ServiceSettings, Settings
from forecourt.discovery import find_services
from tools.deploy_network import NEEDED, OURS, SERVE, Edge, End, Object, called, refused, selects, tcp

Policy = Callable[[list[Object]], Iterator[str]]

PODS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
CUSTOM = {
    "PodMonitor": ("monitoring.coreos.com/v1", ("selector", "podMetricsEndpoints")),
    "PrometheusRule": ("monitoring.coreos.com/v1", ("groups",)),
    "RabbitmqCluster": ("rabbitmq.com/v1beta1", ("replicas", "persistence", "resources", "image")),
    "Cluster": ("postgresql.cnpg.io/v1", ("instances", "storage", "resources", "imageName")),
}
SECRET_NAME = re.compile(
    r"PASSWORD|PASS$|SECRET|TOKEN$|_KEY$|_URI$|DATABASE_URL|STORE_URL|SMTP_URLS|ACCOUNT_SID"
)
FILES = re.compile(r"_FILE$|_PATH$")
DEPLOY = Path(__file__).parents[1] / "deploy"
ADAPTER = DEPLOY / "k8s/prometheus-adapter/values.yaml"
DASHBOARDS = DEPLOY / "grafana/dashboards"
JOB = re.compile(r'\bjob=~?\\?"(?P<jobs>[^"\\]+)')
SERIES = re.compile(r"(?P<name>[a-z_:]+)\{(?P<labels>[^}]*)\}")
GROUPED = re.compile(r"by \((?P<labels>[a-z_, ]+)\)")
ASKED = {"FORECOURT_JWKS_URL": SERVE, "OTEL_EXPORTER_OTLP_ENDPOINT": OURS}
"""Settings with the address of something elsewhere, and who asks there."""

CONNECTIONS = {"serve": 11, "work": 16, "project": 13, "relay": 12, "migrate": 4}
"""The connections to PostgreSQL that a process of one service holds at most: docs/operating.md, Leases and failover."""

STANDBY_CONNECTIONS = 9
"""The same for a `project` or `relay` that waits for the lease."""

RESERVED_CONNECTIONS = 3
"""What PostgreSQL keeps back for its superuser."""

CONNECTION_SECONDS = 600
"""What a connection may live at most where `serve` is scaled: its client looks for new processes when it ends."""

CLOSING_SECONDS = 5
"""What a process takes to close its connections after it has drained."""


def _name(found: Object) -> str:
    return f"{found['kind']}/{found['metadata']['name']}"


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """The objects of these kinds."""
    return [found for found in objects if found["kind"] in kinds]


def _pod(found: Object) -> Object:
    spec: Object = found["spec"]["template"]["spec"]
    return spec


def _labels(found: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = found["spec"]["template"]["metadata"].get("labels", {})
    return labels


def _containers(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    for found in of_kind(objects, *PODS):
        pod = _pod(found)
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            yield f"{_name(found)}: {container['name']}", found, container


def _ours(found: Object) -> bool:
    return _labels(found).get("app.kubernetes.io/part-of") == "forecourt"


def containers_are_confined(objects: list[Object]) -> Iterator[str]:
    """Non-root, read-only, without capabilities, without a token."""
    for found in of_kind(objects, *PODS):
        pod = _pod(found)
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{_name(found)}: may run as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{_name(found)}: has no seccomp profile"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{_name(found)}: mounts a token"
        if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{_name(found)}: shares namespaces with the node"
        if any("hostPath" in volume for volume in pod.get("volumes", ())):
            yield f"{_name(found)}: mounts a folder of the node"
    for where, _, container in _containers(objects):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{where}: may gain privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{where}: writes to its root file system"
        if context.get("capabilities", {}).get("drop") != ["ALL"] or context["capabilities"].get("add"):
            yield f"{where}: has capabilities"


def volumes_keep_their_modes(objects: list[Object]) -> Iterator[str]:
    """What a server has written stays as it left it: the kubelet changes a volume once, before anything is in it."""
    for found in of_kind(objects, "StatefulSet"):
        context = _pod(found).get("securityContext", {})
        if "fsGroup" in context and context.get("fsGroupChangePolicy") != "OnRootMismatch":
            yield f"{_name(found)}: its files are opened to the group at each mount"


def containers_have_limits(objects: list[Object]) -> Iterator[str]:
    """Requests and limits for processor and memory."""
    for where, _, container in _containers(objects):
        for side in ("requests", "limits"):
            for resource in ("cpu", "memory"):
                if resource not in container.get("resources", {}).get(side, {}):
                    yield f"{where}: has no {side} of {resource}"


def containers_have_probes(objects: list[Object]) -> Iterator[str]:
    """Ready and alive for what stays; a startup probe for our own processes; gRPC where gRPC is served."""
    for where, found, container in _containers(objects):
        if found["kind"] == "Job":
            continue
        wanted = ["readinessProbe", "livenessProbe"] + (["startupProbe"] if _ours(found) else [])
        for probe in wanted:
            if probe not in container:
                yield f"{where}: has no {probe}"
        if container.get("args") == ["serve"] and "grpc" not in container.get("readinessProbe", {}):
            yield f"{where}: is not asked by gRPC whether it is ready"


def images_are_pinned(objects: list[Object]) -> Iterator[str]:
    """A tag that is a version, or a digest."""
    images = [(where, container.get("image", "")) for where, _, container in _containers(objects)]
    kept = of_kind(objects, "RabbitmqCluster", "Cluster")
    images += [
        (_name(found), found["spec"].get("image") or found["spec"].get("imageName") or "") for found in kept
    ]
    for where, image in images:
        tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        if "@sha256:" not in image and not re.match(r"v?\d+\.\d+", tag):
            yield f"{where}: the image {image!r} names no version"


def secrets_are_references(objects: list[Object]) -> Iterator[str]:
    """No Secret in the repository, no secret value in a variable or a ConfigMap."""
    for found in of_kind(objects, "Secret"):
        yield f"{_name(found)}: secrets do not belong here"
    for where, _, container in _containers(objects):
        for variable in container.get("env", ()):
            if _secret(variable["name"]) and variable.get("value"):
                yield f"{where}: {variable['name']} is written out"
    for found in of_kind(objects, "ConfigMap"):
        for key, value in found.get("data", {}).items():
            if _secret(key) or re.search(r"://[^/\s]+:[^/\s]+@|-----BEGIN", value):
                yield f"{_name(found)}: {key} is written out"


def _secret(name: str) -> bool:
    return bool(SECRET_NAME.search(name)) and not FILES.search(name)


def event_stores_are_trusted(objects: list[Object]) -> Iterator[str]:
    """Our processes have the authority of EventStoreDB's certificates to verify them with, and not the nodes' key."""
    nodes = [
        found for found in of_kind(objects, "StatefulSet") if _labels(found).get("app") == "eventstoredb"
    ]
    for secret in {name for found in nodes for name in _secret_volumes(found)}:
        for where, found, container in _containers(objects):
            if not _ours(found):
                continue
            volumes = _secret_volumes(found).get(secret, [])
            mounts = {mount["name"]: mount for mount in container.get("volumeMounts", ())}
            if not any(mounts.get(volume["name"], {}).get("readOnly") for volume in volumes):
                yield f"{where}: cannot verify EventStoreDB by {secret}"
            if any(_keys(volume) != ["ca.crt"] for volume in volumes):
                yield f"{where}: is given more of {secret} than ca.crt"


def _secret_volumes(found: Object) -> dict[str, list[Object]]:
    """The volumes of a pod that hold Secrets, by the Secret's name."""
    volumes: dict[str, list[Object]] = {}
    for volume in _pod(found).get("volumes", ()):
        if "secret" in volume:
            volumes.setdefault(volume["secret"]["secretName"], []).append(volume)
    return volumes


def _keys(volume: Object) -> list[str]:
    """The keys of its Secret that a volume holds; none where it holds all."""
    return [item["key"] for item in volume["secret"].get("items", ())]


@cache
def variables() -> frozenset[str]:
    """Every variable that a settings class reads."""
    from forecourt.worker.runtime import WorkerSettings

    own = [service.settings for service in find_services(None) if service.settings is not None]
    classes: list[type[ServiceSettings]] = [Settings, WorkerSettings, *own]
    return frozenset(name.upper() for cls in classes for name in cls.model_fields)


def variables_exist(objects: list[Object]) -> Iterator[str]:
    """Each variable that our processes are given is one that a settings class reads, and what they need is there."""
    maps = {found["metadata"]["name"]: found.get("data", {}) for found in of_kind(objects, "ConfigMap")}
    for where, found, container in _containers(objects):
        if not _ours(found):
            continue
        given = [variable["name"] for variable in container.get("env", ())]
        for source in container.get("envFrom", ()):
            name = source.get("configMapRef", {}).get("name", "")
            if name not in maps:
                yield f"{where}: there is no ConfigMap {name!r}"
            given += maps.get(name, {})
        for name in given:
            if name not in variables():
                yield f"{where}: nothing reads {name}"
        for name in (
            "DATABASE_URL",
            "AMQP_URI",
            "FORECOURT_MASTER_KEY",
            "FORECOURT_ENV",
        ):
            if name not in given:
                yield f"{where}: is not given {name}"


def _configured(objects: list[Object], found: Object) -> dict[str, str]:
    """What a workload's containers are given by ConfigMaps."""
    maps = {one["metadata"]["name"]: one.get("data", {}) for one in of_kind(objects, "ConfigMap")}
    sources = [source for container in _pod(found)["containers"] for source in container.get("envFrom", ())]
    names = [source.get("configMapRef", {}).get("name") for source in sources]
    return {key: value for name in names for key, value in maps.get(name, {}).items()}


def ports_match(objects: list[Object]) -> Iterator[str]:
    """Services, probes and listen addresses name ports that containers open."""
    for where, found, container in _containers(objects):
        ports = {port.get("name"): port["containerPort"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            for check in ("httpGet", "tcpSocket", "grpc"):
                port = container.get(probe, {}).get(check, {}).get("port")
                if port is not None and port not in ports and port not in ports.values():
                    yield f"{where}: {probe} asks port {port}, which is not open"
        if _ours(found) and ports:
            listen = _configured(objects, found)
            for name, variable in (("grpc", "GRPC_LISTEN"), ("http", "HTTP_LISTEN")):
                if name in ports and listen.get(variable) != f"0.0.0.0:{ports[name]}":
                    yield f"{where}: {variable} is not port {name}"
    for service in of_kind(objects, "Service"):
        pods = _selected(objects, {"matchLabels": service["spec"].get("selector") or {"": ""}})
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            if not any(target in _open(pod) for pod in pods):
                yield f"{_name(service)}: port {target} is not open in any pod it selects"
    for monitor in of_kind(objects, "PodMonitor"):
        pods = _selected(objects, monitor["spec"]["selector"])
        wanted = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
        if pods and not any(wanted <= _open(pod) for pod in pods):
            yield f"{_name(monitor)}: no pod it selects has the ports {sorted(wanted)}"


def _open(found: Object) -> set[Any]:
    ports = [port for container in _pod(found)["containers"] for port in container.get("ports", ())]
    return {port.get("name") for port in ports} | {port["containerPort"] for port in ports}


def _selected(objects: list[Object], selector: Object) -> list[Object]:
    return [found for found in of_kind(objects, *PODS) if selects(selector, _labels(found))]


def _pods(objects: list[Object], selector: Object) -> list[tuple[str, Mapping[str, str]]]:
    """Names and labels of the pods that a selector fits, those that operators make among them."""
    pods = [(_name(found), _labels(found)) for found in of_kind(objects, *PODS)]
    for found in of_kind(objects, "RabbitmqCluster"):
        own = {"app.kubernetes.io/name": found["metadata"]["name"], "app.kubernetes.io/component": "rabbitmq"}
        pods.append((_name(found), found["metadata"].get("labels", {}) | own))
    for found in of_kind(objects, "Cluster"):
        pods += _kept_by_cloudnativepg(found)
    return [(name, labels) for name, labels in pods if selects(selector, labels)]


def _kept_by_cloudnativepg(found: Object) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Instances, and the pods of the Jobs that make them: those inherit nothing."""
    own = {"cnpg.io/cluster": found["metadata"]["name"]}
    inherited = found["spec"].get("inheritedMetadata", {}).get("labels", {})
    yield _name(found), inherited | own | {"cnpg.io/podRole": "instance"}
    for role in ("initdb", "join"):
        yield f"{_name(found)}: {role}", own | {"cnpg.io/jobRole": role}


def selectors_select(objects: list[Object]) -> Iterator[str]:
    """Selectors of workloads, budgets, Services and policies fit pods; no two workloads claim the same ones."""
    for found in of_kind(objects, "Deployment", "StatefulSet"):
        claimed = _selected(objects, found["spec"]["selector"])
        if found not in claimed:
            yield f"{_name(found)}: does not select its own pods"
        for other in claimed:
            if other is not found:
                yield f"{_name(found)}: selects pods of {_name(other)}"
        for spread in _pod(found).get("topologySpreadConstraints", ()):
            twice = set(spread.get("matchLabelKeys", ())) & set(
                spread["labelSelector"].get("matchLabels", ())
            )
            if twice:
                yield f"{_name(found)}: spreads by {sorted(twice)} twice, which the API refuses"
    selecting = [
        (found, found["spec"].get("selector", {})) for found in of_kind(objects, "PodDisruptionBudget")
    ]
    selecting += [
        (found, {"matchLabels": found["spec"].get("selector", {})}) for found in of_kind(objects, "Service")
    ]
    selecting += [(found, found["spec"]["podSelector"]) for found in of_kind(objects, "NetworkPolicy")]
    for found, selector in selecting:
        if not _pods(objects, selector):
            yield f"{_name(found)}: selects nothing"


def network_is_closed(objects: list[Object]) -> Iterator[str]:
    """All is denied to begin with, no policy admits everybody, and what is needed is admitted at both ends."""
    policies = of_kind(objects, "NetworkPolicy")
    closed = [
        found
        for found in policies
        if found["spec"]["podSelector"] == {}
        and set(found["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not found["spec"].get("ingress")
        and not found["spec"].get("egress")
    ]
    if not closed:
        yield "NetworkPolicy: nothing is denied by default"
    for service in of_kind(objects, "Service"):
        pods = _selected(objects, {"matchLabels": service["spec"].get("selector", {"": ""})})
        let_in = [
            found
            for found in policies
            if found["spec"].get("ingress")
            and any(selects(found["spec"]["podSelector"], _labels(p)) for p in pods)
        ]
        if not let_in:
            yield f"{_name(service)}: no policy says who may call it"
    for policy in policies:
        for rule in policy["spec"].get("ingress") or ():
            if not rule.get("from"):
                yield f"{_name(policy)}: lets everybody in"
        ours = any(_ours(found) for found in _selected(objects, policy["spec"]["podSelector"]))
        for rule in policy["spec"].get("egress") or ():
            # Servers of operators talk to the cluster's own API, whose address every cluster chooses for itself.
            if ours and not rule.get("to"):
                yield f"{_name(policy)}: lets out to anywhere"
    yield from refused(policies, ends_inside(objects), [*NEEDED, *_configured_edges(objects)])


def ends_inside(objects: list[Object]) -> list[End]:
    """The pods of an overlay, as ends of connections."""
    [namespace] = {found["metadata"]["namespace"] for found in of_kind(objects, "Deployment")}
    return [End(name, labels, called(namespace), inside=True) for name, labels in _pods(objects, {})]


def _configured_edges(objects: list[Object]) -> Iterator[Edge]:
    """What processes have to reach because a setting says so."""
    for found in of_kind(objects, "ConfigMap"):
        for name in ASKED.keys() & found.get("data", {}).keys():
            url = urlsplit(found["data"][name])
            port = url.port or (443 if url.scheme == "https" else 80)
            yield ASKED[name], End(name, anywhere=True), tcp(port)


def autoscalers_fit(objects: list[Object]) -> Iterator[str]:
    """Targets exist, `serve` goes by processor, `work` by its own queues; no fixed number of replicas beside it.

    Clients of `serve` come to know new processes soon enough.
    """
    workloads = {(found["kind"], found["metadata"]["name"]): found for found in of_kind(objects, *PODS)}
    targets = set()
    for found in of_kind(objects, "HorizontalPodAutoscaler"):
        reference = found["spec"]["scaleTargetRef"]
        target = workloads.get((reference["kind"], reference["name"]))
        if target is None:
            yield f"{_name(found)}: there is no {reference['kind']} {reference['name']}"
            continue
        targets.add(reference["name"])
        if "replicas" in target["spec"]:
            yield f"{_name(found)}: {_name(target)} also fixes its replicas"
        if found["spec"].get("minReplicas", 1) > found["spec"]["maxReplicas"]:
            yield f"{_name(found)}: the least is more than the most"
        kinds = {metric["type"] for metric in found["spec"]["metrics"]}
        role = _labels(target).get("role")
        lifetime = float(_configured(objects, target).get("FORECOURT_CONNECTION_SECONDS", 3600))
        if role == "serve" and lifetime > CONNECTION_SECONDS:
            yield f"{_name(found)}: connections go on for {lifetime:g} s, and new processes wait for calls"
        if kinds != {"serve": {"Resource"}, "work": {"External"}}.get(role or "", kinds):
            yield f"{_name(found)}: {role} is scaled by {sorted(kinds)}"
        for metric in found["spec"]["metrics"]:
            service = metric.get("external", {}).get("metric", {}).get("selector", {}).get("matchLabels", {})
            if metric["type"] == "External" and service.get("service") != _labels(target)["app"].replace(
                "-", "_"
            ):
                yield f"{_name(found)}: goes by the queues of {service.get('service')!r}"
    for found in of_kind(objects, "Deployment"):
        if (
            _ours(found)
            and _labels(found)["role"] in ("serve", "work")
            and found["metadata"]["name"] not in targets
        ):
            yield f"{_name(found)}: has no autoscaler"


def connections_suffice(objects: list[Object]) -> Iterator[str]:
    """PostgreSQL takes all connections of as many processes as there may be, while they are replaced by new ones."""
    most = {
        found["spec"]["scaleTargetRef"]["name"]: found["spec"]["maxReplicas"]
        for found in of_kind(objects, "HorizontalPodAutoscaler")
    }
    needed = 0
    for found in of_kind(objects, "Deployment", "Job"):
        if _ours(found):
            role, name = _labels(found)["role"], found["metadata"]["name"]
            surge = found["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge", 0)
            others = most.get(name, found["spec"].get("replicas", 1)) + surge - 1
            each = STANDBY_CONNECTIONS if role in ("project", "relay") else CONNECTIONS[role]
            needed += CONNECTIONS[role] + others * each
    for name, limit in _connection_limits(objects):
        if needed > limit - RESERVED_CONNECTIONS:
            yield f"{name}: takes {limit - RESERVED_CONNECTIONS} connections, and processes may want {needed}"


def _connection_limits(objects: list[Object]) -> Iterator[tuple[str, int]]:
    """How many connections each PostgreSQL takes."""
    for found in of_kind(objects, "Cluster"):
        yield _name(found), int(found["spec"]["postgresql"]["parameters"]["max_connections"])
    for where, _, container in _containers(objects):
        for argument in container.get("args", ()):
            if argument.startswith("max_connections="):
                yield where, int(argument.partition("=")[2])


def metrics_are_served(objects: list[Object]) -> Iterator[str]:
    """What autoscalers go by from outside is recorded with the labels that they ask for, and the adapter serves it."""
    recorded = {
        rule["record"]: set(re.split(r",\s*", match["labels"]))
        for found in of_kind(objects, "PrometheusRule")
        for group in found["spec"]["groups"]
        for rule in group["rules"]
        if "record" in rule and (match := GROUPED.search(rule["expr"]))
    }
    served = adapter_rules()
    for found in of_kind(objects, "HorizontalPodAutoscaler"):
        for metric in (one["external"]["metric"] for one in found["spec"]["metrics"] if "external" in one):
            name, asked = metric["name"], {*metric["selector"]["matchLabels"], "namespace"}
            if missing := asked - recorded.get(name, set()):
                yield f"{_name(found)}: {name} is not recorded with {', '.join(sorted(missing))}"
            if name not in served:
                yield f"{_name(found)}: the adapter does not serve {name}"
            elif missing := served[name] - recorded.get(name, set()):
                yield f"{_name(found)}: the adapter looks for {name} with {', '.join(sorted(missing))}"


def jobs_have_their_names(objects: list[Object]) -> Iterator[str]:
    """Each PodMonitor gives one job to each endpoint, and rules and dashboards ask for jobs that there are."""
    known = set()
    for monitor in of_kind(objects, "PodMonitor"):
        label = monitor["spec"].get("jobLabel", "")
        jobs = {labels.get(label) for _, labels in _pods(objects, monitor["spec"]["selector"])}
        if len(jobs) != 1 or None in jobs:
            yield f"{_name(monitor)}: the label {label!r} does not give its pods one job"
        named = [_job(end, job) for end in monitor["spec"]["podMetricsEndpoints"] for job in jobs]
        if len(set(named)) < len(named):
            yield f"{_name(monitor)}: two endpoints have one job, and write one series up"
        known.update(named)
    for where, text in _queries(objects):
        for asked in JOB.finditer(text):
            if missing := set(asked["jobs"].split("|")) - known:
                yield f"{where}: asks for the job {', '.join(missing)}, which no PodMonitor gives"


def _job(endpoint: Object, job: str | None) -> str | None:
    """The job of an endpoint whose pods' label gives another one."""
    for relabeling in endpoint.get("relabelings", ()):
        if relabeling.get("targetLabel") == "job":
            job = relabeling["replacement"]
    return job


def _queries(objects: list[Object]) -> Iterator[tuple[str, str]]:
    """Where Prometheus is asked, and what."""
    for found in of_kind(objects, "PrometheusRule"):
        for group in found["spec"]["groups"]:
            for rule in group["rules"]:
                yield rule.get("alert") or rule["record"], rule["expr"]
    for path in sorted(DASHBOARDS.glob("*.json")):
        yield path.name, path.read_text()


@cache
def adapter_rules() -> Mapping[str, set[str]]:
    """The external metrics that the adapter serves, each with the labels that its series must have."""
    rules = yaml.safe_load(ADAPTER.read_text())["rules"]["external"]
    found = {}
    for rule in rules:
        series = SERIES.fullmatch(rule["seriesQuery"])
        if series is not None:
            labels = {*re.findall(r"([a-z_]+)!?=", series["labels"]), *rule["resources"]["overrides"]}
            found[rule.get("name", {}).get("as", series["name"])] = labels
    return found


def roles_are_complete(objects: list[Object]) -> Iterator[str]:
    """Every service has its roles (`work` where it has handlers), migration, budgets, image and account."""
    for service in find_services(None):
        app = service.name.replace("_", "-")
        own = [
            found for found in of_kind(objects, *PODS) if _ours(found) and _labels(found).get("app") == app
        ]
        roles = {_labels(found)["role"]: found for found in own}
        if set(roles) != {"serve", "project", "relay", "migrate", *(["work"] if service.workers else [])}:
            yield f"{app}: has the roles {sorted(roles)}"
        for role, found in roles.items():
            container = _pod(found)["containers"][0]
            if container.get("args") != [role]:
                yield f"{_name(found)}: runs {container.get('args')}"
            if not container["image"].rpartition(":")[0].endswith(f"forecourt/{app}"):
                yield f"{_name(found)}: runs the image {container['image']}"
            if _pod(found).get("serviceAccountName") != f"{app}-process":
                yield f"{_name(found)}: has no account of its own"
            budgets = of_kind(objects, "PodDisruptionBudget")
            covered = any(selects(budget["spec"]["selector"], _labels(found)) for budget in budgets)
            if found["kind"] == "Deployment" and not covered:
                yield f"{_name(found)}: has no disruption budget"
    accounts = {found["metadata"]["name"]: found for found in of_kind(objects, "ServiceAccount")}
    for name, account in accounts.items():
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount/{name}: hands out its token"
    for found in of_kind(objects, *PODS):
        if (named := _pod(found).get("serviceAccountName")) is not None and named not in accounts:
            yield f"{_name(found)}: there is no account {named}"


def ends_are_orderly(objects: list[Object]) -> Iterator[str]:
    """Nobody is killed who still drains, and an update takes nothing away before the new is there."""
    for where, found, container in _containers(objects):
        if not _ours(found) or found["kind"] != "Deployment":
            continue
        drain = float(_configured(objects, found).get("FORECOURT_DRAIN_SECONDS", 10))
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace = _pod(found).get("terminationGracePeriodSeconds", 30)
        if grace < pause + drain + CLOSING_SECONDS:
            yield f"{where}: is killed after {grace} s, and needs {pause} + {drain:g} + {CLOSING_SECONDS}"
        if _labels(found)["role"] == "serve" and not pause:
            yield f"{where}: ends before its callers hear of it"
        if found["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxUnavailable") != 0:
            yield f"{where}: an update takes processes away before new ones are ready"


def custom_resources(objects: list[Object]) -> Iterator[str]:
    """Custom resources are of the version that we wrote them for and have what we rely on."""
    for found in objects:
        if "." not in found["apiVersion"].partition("/")[0] or found["apiVersion"].partition("/")[0].endswith(
            "k8s.io"
        ):
            continue
        if found["kind"] not in CUSTOM:
            yield f"{_name(found)}: no policy knows this kind"
            continue
        version, fields = CUSTOM[found["kind"]]
        if found["apiVersion"] != version:
            yield f"{_name(found)}: is of {found['apiVersion']}, not {version}"
        for field in fields:
            if not found["spec"].get(field):
                yield f"{_name(found)}: has no {field}"
        if found["kind"] == "RabbitmqCluster" and found["spec"].get("replicas", 0) % 2 == 0:
            yield f"{_name(found)}: quorum queues need an odd number of nodes"
        if found["kind"] == "Cluster" and found["spec"].get("instances", 0) < 2:
            yield f"{_name(found)}: has no replica"


POLICIES: tuple[Policy, ...] = (
    containers_are_confined,
    volumes_keep_their_modes,
    containers_have_limits,
    containers_have_probes,
    images_are_pinned,
    secrets_are_references,
    event_stores_are_trusted,
    variables_exist,
    ports_match,
    selectors_select,
    network_is_closed,
    autoscalers_fit,
    connections_suffice,
    metrics_are_served,
    jobs_have_their_names,
    roles_are_complete,
    ends_are_orderly,
    custom_resources,
)
