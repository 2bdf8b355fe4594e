"""Checks deploy/: ``python -m tools.deploy_check`` (``make deploy-check``). Needs neither a cluster nor Docker.

Overlays are rendered with ``kubectl kustomize`` and checked against the schemas of the oldest and the newest Kubernetes
that we support, strictly, and against `tools.deploy_policies`; the Dockerfile by hadolint; the compose file by the
models of the Compose Specification.
"""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from forecourt.worker import bridge

# The settings of workers are looked at too, and their module patches the standard library.
warnings.simplefilter("ignore")
bridge.install()

import kubernetes_validate  # noqa: E402
import yaml  # noqa: E402
from compose_spec.models import (  # noqa: E402
    ComposeSpecification,
    Healthcheck,
    Service,
)
from pydantic import BaseModel  # noqa: E402

from forecourt.discovery import find_services  # noqa: E402
from tools.deploy_policies import CUSTOM, POLICIES, Object  # noqa: E402

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "deploy/docker"
OVERLAYS = sorted(path.name for path in (ROOT / "deploy/k8s/overlays").iterdir())
KUBERNETES = ("1.30", "1.34")
"""The oldest and the newest that are checked."""

BIN = Path(sys.executable).parent


def render(overlay: str) -> list[Object]:
    """All objects of an overlay. Raises `subprocess.CalledProcessError`."""
    command = [BIN / "kubectl", "kustomize", ROOT / "deploy/k8s/overlays" / overlay]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def against_schemas(objects: list[Object], version: str) -> list[str]:
    """What a version of Kubernetes would refuse; custom resources are left to the policies."""
    problems = []
    for found in objects:
        if found["kind"] in CUSTOM:
            continue
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            name = f"{found['kind']}/{found['metadata']['name']}"
            problems.append(f"{name}: Kubernetes {version}: {getattr(error, 'message', error)}")
    return problems


def against_policies(objects: list[Object]) -> list[str]:
    """What our own policies say."""
    return [f"{problem} ({policy.__name__})" for policy in POLICIES for problem in policy(objects)]


def dockerfile(path: Path = DOCKER / "Dockerfile") -> list[str]:
    """What hadolint says, at any severity."""
    done = subprocess.run([BIN / "hadolint", path], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()


VARIABLE = re.compile(r"\$\{([A-Z_]+)(?:(:[-?])([^}]*))?\}")


def compose(text: str) -> Any:
    """The compose file with its variables filled in, as ``docker compose config`` would.

    Raises `KeyError` for a variable that is not in ``.env.example`` and has no default.
    """
    known = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", (DOCKER / ".env.example").read_text(), re.MULTILINE))

    def fill(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        return default if kind == ":-" else known[name] or "x"

    return yaml.safe_load(VARIABLE.sub(fill, text))


def compose_problems(found: Any) -> list[str]:
    """What the Compose Specification, and a few rules of ours, say against a compose file."""
    without_anchors = {key: value for key, value in found.items() if not key.startswith("x-")}
    try:
        ComposeSpecification.model_validate(without_anchors)
    except ValueError as error:
        return [str(error)]
    problems = _unknown("compose.yaml", without_anchors, ComposeSpecification)
    services = found["services"]
    for name, service in services.items():
        problems += _unknown(name, service, Service)
        problems += _unknown(f"{name}.healthcheck", service.get("healthcheck", {}), Healthcheck)
        tag = service["image"].partition(":")[2]
        if not re.match(r"v?\d+\.\d+", tag):
            problems.append(f"{name}: the image {service['image']} names no version")
        missing = [other for other in service.get("depends_on", ()) if other not in services]
        problems += [f"{name}: depends on {other}, which is not there" for other in missing]
        exposed = [port for port in service.get("ports", ()) if not port.startswith("127.0.0.1:")]
        problems += [f"{name}: port {port} is open to everybody" for port in exposed]
        if service["image"].startswith("forecourt/") and not (
            service.get("read_only") and service.get("cap_drop") == ["ALL"] and service.get("tmpfs")
        ):
            problems.append(f"{name}: is not confined")
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if not source.startswith(".") and source not in found["volumes"]:
                problems.append(f"{name}: there is no volume {source}")
    for service in find_services(None):
        app, others = (
            service.name.replace("_", "-"),
            ["project", "relay", "migrate", *(["work"] if service.workers else [])],
        )
        problems += [
            f"{role}: is missing"
            for role in [app, *(f"{app}-{role}" for role in others)]
            if role not in services
        ]
    return problems


def _unknown(where: str, found: Any, model: type[BaseModel]) -> list[str]:
    """Words that the specification does not have: its models pass over them."""
    known = {field.alias or name for name, field in model.model_fields.items()}
    return [f"{where}: there is no {key!r}" for key in found if key not in known]


def main() -> None:
    """Print every problem, and end with 1 where there is one."""
    problems = [f"Dockerfile: {line}" for line in dockerfile()]
    problems += [
        f"compose.yaml: {line}" for line in compose_problems(compose((DOCKER / "compose.yaml").read_text()))
    ]
    for overlay in OVERLAYS:
        objects = render(overlay)
        found = against_policies(objects)
        found += [line for version in KUBERNETES for line in against_schemas(objects, version)]
        problems += [f"{overlay}: {line}" for line in found]
    sys.stderr.write("".join(f"{line}\n" for line in problems))
    if not problems:
        sys.stdout.write(f"deploy: {', '.join(OVERLAYS)} fit Kubernetes {' and '.join(KUBERNETES)}\n")
    sys.stdout.flush()
    # eventlet, which the bridge brought, would complain at an ordinary end.
    os._exit(bool(problems))


if __name__ == "__main__":
    main()
