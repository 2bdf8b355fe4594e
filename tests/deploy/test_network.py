"""Whom network policies let through, and that nothing in them is there for nobody."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.deploy.manifests import Object, get, objects_of
from tests.deploy.places import DEPLOY
from tools import deploy_network as network
from tools import deploy_policies as policies

OVERLAYS = ("dev", "single-site", "cluster")
UNUSED = {
    # The same base serves overlays without EventStoreDB.
    ("dev", "servers", "egress", 2),
    ("single-site", "servers", "egress", 2),
    # For those who have the broker's operator make users and queues: we do not.
    ("cluster", "rabbitmq", "ingress", 3),
}

POD = network.End("a pod", {"app": "a"}, network.called("here"), inside=True)
NEAR = network.End("a neighbour", {"app": "b"}, network.called("here"), inside=True)
FAR = network.End("a stranger", {"app": "b"}, network.called("there"))
OUTSIDE = network.End("an address", address="198.51.100.7")


def rules() -> Iterator[Any]:
    """Every rule of every policy, and where it has ports each of them."""
    for overlay in OVERLAYS:
        for policy in policies.of_kind(objects_of(overlay), "NetworkPolicy"):
            name = policy["metadata"]["name"]
            for way in ("ingress", "egress"):
                for index, rule in enumerate(policy["spec"].get(way) or ()):
                    if (overlay, name, way, index) in UNUSED:
                        continue
                    for port in range(len(rule.get("ports", ()))) or [None]:
                        where = (overlay, name, way, index, port)
                        yield pytest.param(*where, id=" ".join(map(str, where)))


@pytest.mark.parametrize(("overlay", "name", "way", "index", "port"), list(rules()))
def test_every_rule_is_needed(overlay: str, name: str, way: str, index: int, port: int | None) -> None:
    """Without it, or at another port, somebody is refused."""
    objects = objects_of(overlay)
    [policy] = [one for one in policies.of_kind(objects, "NetworkPolicy") if one["metadata"]["name"] == name]
    if port is None:
        del policy["spec"][way][index]
    else:
        policy["spec"][way][index]["ports"][port]["port"] = 9999
    assert any("is not let" in problem for problem in policies.network_is_closed(objects))


@pytest.mark.parametrize("edge", network.NEEDED, ids=str)
def test_every_edge_is_there_in_some_overlay(edge: network.Edge) -> None:
    """A label that no pod has would make an edge that nobody tries."""
    pods = [policies.ends_inside(objects_of(overlay)) for overlay in OVERLAYS]
    assert any(network.ends(found, edge[0]) and network.ends(found, edge[1]) for found in pods)


def overlay_with(folder: Path, **more: Any) -> list[Object]:
    """The overlay of a site that sends traces."""
    site, endpoint = DEPLOY / "k8s/overlays/single-site", "http://otel-collector.monitoring:4318"
    sending = {
        "name": "forecourt",
        "behavior": "merge",
        "literals": [f"OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}"],
    }
    folder.mkdir()
    body = {
        "resources": [os.path.relpath(site, folder)],
        "namespace": "forecourt",
        "configMapGenerator": [sending],
        **more,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(body))
    return objects_of(str(folder))


def test_traces_leave_with_their_component_only(tmp_path: Path) -> None:
    problems = list(policies.network_is_closed(overlay_with(tmp_path / "without")))
    assert "Job/sales-migrate: is not let out to OTEL_EXPORTER_OTLP_ENDPOINT at TCP 4318" in problems
    component = os.path.relpath(DEPLOY / "k8s/components/traces", tmp_path / "with")
    objects = overlay_with(tmp_path / "with", components=[component])
    assert list(policies.network_is_closed(objects)) == []
    kubernetes_validate.validate(get(objects, "NetworkPolicy", "traces"), "1.30", strict=True)


def denied(*more: Object) -> list[Object]:
    """Policies of a namespace where nothing else is allowed."""
    specs = [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, *more]
    return [{"kind": "NetworkPolicy", "spec": spec} for spec in specs]


def let_in(*peers: Object, **rule: Any) -> Object:
    """A policy that lets peers in to the pod."""
    selector = {"matchLabels": {"app": "a"}}
    return {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": [{"from": list(peers), **rule}]}


EVERY_POD: Object = {"podSelector": {}}
B = {"podSelector": {"matchLabels": {"app": "b"}}}
THERE = {"namespaceSelector": {"matchLabels": network.called("there")}}
BLOCK = {"cidr": "198.51.100.0/24"}


@pytest.mark.parametrize(
    ("policy", "other", "passes"),
    [
        (let_in(B), NEAR, True),
        (let_in(EVERY_POD), FAR, False),
        (let_in(THERE), FAR, True),
        (let_in(THERE), NEAR, False),
        (let_in(THERE | B), FAR, True),
        (let_in(THERE | {"podSelector": {"matchLabels": {"app": "c"}}}), FAR, False),
        (let_in({"ipBlock": BLOCK}), OUTSIDE, True),
        (let_in({"ipBlock": {**BLOCK, "except": ["198.51.100.0/28"]}}), OUTSIDE, False),
        (let_in({"ipBlock": BLOCK}), NEAR, False),
        (let_in(EVERY_POD), OUTSIDE, False),
        (let_in(B, ports=[{"port": 5432}]), NEAR, True),
        (let_in(B, ports=[{"port": 5432, "protocol": "UDP"}]), NEAR, False),
        (let_in(B, ports=[{"port": 5433}]), NEAR, False),
        ({**let_in(B), "podSelector": {"matchLabels": {"app": "c"}}}, NEAR, False),
    ],
)
def test_policies_are_read_as_kubernetes_reads_them(policy: Object, other: network.End, passes: bool) -> None:
    out = {"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Egress"], "egress": [{}]}
    edges: list[network.Edge] = [(other, POD, network.tcp(5432))]
    found = list(network.refused(denied(policy, out), [POD, NEAR], edges))
    assert found == ([] if passes else [f"{other.name}: is not let in to a pod at TCP 5432"])


def test_both_ends_have_to_let_through() -> None:
    edges: list[network.Edge] = [(NEAR, POD, network.tcp(5432))]
    assert list(network.refused(denied(let_in(B)), [POD, NEAR], edges)) == [
        "a neighbour: is not let out to a pod at TCP 5432"
    ]
    assert list(network.refused([], [POD, NEAR], edges)) == []
