"""The manifests of an overlay, rendered."""

import copy
import subprocess
from functools import cache
from typing import Any

import yaml

from tests.deploy.places import DEPLOY, ROOT

Object = dict[str, Any]


@cache
def rendered(overlay: str) -> str:
    """An overlay, by its name or its folder, as ``kubectl apply -k`` would send it."""
    kubectl = str(ROOT / ".venv/bin/kubectl")
    command = [kubectl, "kustomize", str(DEPLOY / "k8s/overlays" / overlay)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@cache
def _objects(overlay: str) -> tuple[Object, ...]:
    return tuple(found for found in yaml.load_all(rendered(overlay), yaml.CSafeLoader) if found)


def objects_of(overlay: str) -> list[Object]:
    """A copy that a test may change."""
    return copy.deepcopy(list(_objects(overlay)))


def get(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found
