"""Who has to reach whom in our manifests, and whether their NetworkPolicies let them: at both ends, at each port."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Object = dict[str, Any]
Labels = Mapping[str, str]
Port = tuple[str, int]


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod with its labels and those of its namespace, or an address outside."""

    name: str
    labels: Labels = field(default_factory=dict)
    namespace: Labels = field(default_factory=dict)
    inside: bool = False
    """Whether it is in the namespace of the policies."""
    address: str = ""
    anywhere: bool = False
    """Whether only those who deploy know where it is: any peers of a rule with its port may be it."""


Side = End | Labels
"""An end elsewhere, or the labels of pods of the overlay."""

Edge = tuple[Side, Side, tuple[Port, ...]]
"""From, to, and all ports of it."""


def tcp(*ports: int) -> tuple[Port, ...]:
    """Ports of TCP."""
    return tuple(("TCP", port) for port in ports)


def called(name: str) -> Labels:
    """The labels of a namespace that has no others."""
    return {"kubernetes.io/metadata.name": name}


OURS = {"app.kubernetes.io/part-of": "forecourt"}
SERVE = {**OURS, "role": "serve"}
NOTIFY_SERVE = {"app": "notify", "role": "serve"}
NOTIFY_WORK = {"app": "notify", "role": "work"}
POSTGRESQL, RABBITMQ, EVENTSTOREDB = {"app": "postgresql"}, {"app": "rabbitmq"}, {"app": "eventstoredb"}
KEPT_POSTGRESQL = {"cnpg.io/cluster": "postgresql"}
"""Instances of CloudNativePG, and the Jobs that make them."""

KEPT_INSTANCE = {**KEPT_POSTGRESQL, "cnpg.io/podRole": "instance"}
KEPT_RABBITMQ = {"app.kubernetes.io/component": "rabbitmq"}
SANDBOX = {"app": "sandbox"}

NAMES = End("the name server", {"k8s-app": "kube-dns"}, called("kube-system"))
PROMETHEUS = End("Prometheus", {"app.kubernetes.io/name": "prometheus"}, called("monitoring"))
CALLER = End("a caller", {}, {**called("console"), "forecourt-access": "grpc"})
INGRESS = End("the ingress controller", {}, called("ingress-nginx"))
OPERATOR = End("CloudNativePG", {}, called("cnpg-system"))
PROVIDER = End("a provider", address="198.51.100.7")
API_SERVER = End("the API server", address="203.0.113.1")

NEEDED: tuple[Edge, ...] = (
    ({}, NAMES, (("UDP", 53), ("TCP", 53))),
    (OURS, POSTGRESQL, tcp(5432)),
    (OURS, KEPT_INSTANCE, tcp(5432)),
    (OURS, RABBITMQ, tcp(5672)),
    (OURS, EVENTSTOREDB, tcp(2113)),
    (CALLER, SERVE, tcp(50051)),
    (PROMETHEUS, OURS, tcp(9100)),
    (PROMETHEUS, RABBITMQ, tcp(15692)),
    (NOTIFY_WORK, PROVIDER, tcp(443, 465, 587)),
    (INGRESS, NOTIFY_SERVE, tcp(9100)),
    # The sandbox, where there is one, plays the providers.
    (NOTIFY_WORK, SANDBOX, tcp(8026, 2525)),
    (SANDBOX, NOTIFY_SERVE, tcp(9100)),
    # Nodes of a cluster, and who keeps them.
    (EVENTSTOREDB, EVENTSTOREDB, tcp(1112, 2113)),
    (KEPT_RABBITMQ, KEPT_RABBITMQ, tcp(4369, 25672)),
    (KEPT_RABBITMQ, API_SERVER, tcp(443, 6443)),
    (KEPT_POSTGRESQL, KEPT_INSTANCE, tcp(5432)),
    (KEPT_POSTGRESQL, API_SERVER, tcp(443, 6443)),
    (OPERATOR, KEPT_INSTANCE, tcp(5432, 8000)),
)
"""What would not work without. Edges whose pods an overlay does not have are not needed in it."""


def refused(policies: list[Object], pods: list[End], edges: Iterable[Edge]) -> Iterator[str]:
    """What policies refuse of edges, one line for each end and port of each pair of pods."""
    for start, end, ports in edges:
        for source in ends(pods, start):
            for target in ends(pods, end):
                for port in ports:
                    at = f"{target.name} at {port[0]} {port[1]}"
                    if source.inside and not _admitted(policies, "egress", source, target, port):
                        yield f"{source.name}: is not let out to {at}"
                    if target.inside and not _admitted(policies, "ingress", target, source, port):
                        yield f"{source.name}: is not let in to {at}"


def selects(selector: Object, labels: Labels) -> bool:
    """Whether a label selector fits; an empty one fits everything."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        inside = labels.get(expression["key"]) in expression.get("values", ())
        if (expression["operator"] == "In") != inside:
            return False
    return True


def ends(pods: list[End], side: Side) -> list[End]:
    """Who is at a side of an edge."""
    if isinstance(side, End):
        return [side]
    return [pod for pod in pods if selects({"matchLabels": side}, pod.labels)]


def _admitted(policies: list[Object], way: str, pod: End, other: End, port: Port) -> bool:
    """Whether some policy of a pod admits traffic that way; where none is about it, all is admitted."""
    about = [
        found["spec"]
        for found in policies
        if way.capitalize() in found["spec"]["policyTypes"]
        and selects(found["spec"]["podSelector"], pod.labels)
    ]
    peers = "from" if way == "ingress" else "to"
    rules = [rule for spec in about for rule in spec.get(way) or ()]
    return not about or any(_at(rule, port) and _with(rule.get(peers), other) for rule in rules)


def _at(rule: Object, port: Port) -> bool:
    given = rule.get("ports")
    return not given or port in [(one.get("protocol", "TCP"), one["port"]) for one in given]


def _with(peers: list[Object] | None, other: End) -> bool:
    return not peers or other.anywhere or any(_is(peer, other) for peer in peers)


def _is(peer: Object, other: End) -> bool:
    if "ipBlock" in peer:
        return bool(other.address) and _holds(peer["ipBlock"], other.address)
    if other.address:
        return False
    near = (
        selects(peer["namespaceSelector"], other.namespace) if "namespaceSelector" in peer else other.inside
    )
    return near and selects(peer.get("podSelector", {}), other.labels)


def _holds(block: Object, address: str) -> bool:
    found = ip_address(address)
    return found in ip_network(block["cidr"]) and not any(
        found in ip_network(cidr) for cidr in block.get("except", ())
    )
