"""The metrics reference: every metric of every process, from where the code defines it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from tools.reference_rules import alerts_using

ROOTS = {
    "kernel": "forecourt",
    "services/audit": "audit",
    "services/customer": "customer",
    "services/notify": "notify",
    "services/sales": "sales",
    "services/service-desk": "service_desk",
}

HEAD = """\
# Metrics

<!-- Made by `make reference` from where the code defines them. Change that. -->

Every process serves its metrics on `HTTP_LISTEN` at `/metrics`. Names and units follow the conventions of Prometheus:
base units, `_total` for what only grows. A histogram also has `_bucket` with a label `le`, `_sum` and `_count`. Labels
hold words that the program knows beforehand, never ids, persons or stores, so the number of series is bounded. The
gauges of a relay on standby are not moved, and a projector on standby has only `forecourt_projection_leading`: the
rules in `deploy/prometheus/rules` take those of the leader.

The client library adds `process_*` and `python_*`. What is worth watching is in the [runbooks](runbooks/README.md).
"""


@dataclass(frozen=True)
class Metric:
    """A metric as it is exposed."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    module: str


DEFINES = re.compile(r"^from prometheus_client import .*\b(Counter|Gauge|Histogram|Summary)\b", re.MULTILINE)


def modules(root: Path = Path()) -> list[str]:
    """The modules that define metrics, those of workers first: they patch what is imported after them."""
    found = [
        ".".join(path.relative_to(root / folder).with_suffix("").parts)
        for folder, package in ROOTS.items()
        for path in sorted((root / folder / package).glob("**/*.py"))
        if DEFINES.search(path.read_text())
    ]
    return sorted(found, key=lambda name: ".worker." not in name)


def definitions() -> list[tuple[str, MetricWrapperBase]]:
    """Every metric with the module that defines it."""
    found: dict[int, tuple[str, MetricWrapperBase]] = {}
    for name in modules():
        for value in vars(import_module(name)).values():
            if isinstance(value, MetricWrapperBase):
                found.setdefault(id(value), (name, value))
    return list(found.values())


def metrics() -> list[Metric]:
    """Every metric of every process, by name."""
    return sorted(_described(), key=lambda metric: metric.name)


def _described() -> Iterator[Metric]:
    for module, definition in definitions():
        (family,) = definition.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield Metric(name, family.type, family.documentation, tuple(definition._labelnames), module)  # noqa: SLF001


def exposition() -> str:
    """What a process would expose that has counted one of everything, to be checked by promtool."""
    registry = CollectorRegistry()
    for _, definition in definitions():
        registry.register(definition)
        if names := definition._labelnames:  # noqa: SLF001
            definition.labels(*names)
    return generate_latest(registry).decode()


def render() -> str:
    """The page."""
    sections = [HEAD]
    for title, prefix in _sections().items():
        rows = [
            f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels)} | {m.help} | {_alerts(m)} |"
            for m in metrics()
            if m.module.partition(".")[0] == prefix
        ]
        if rows:
            lines = [
                f"\n## {title}\n",
                "| metric | type | labels | meaning | alerts |",
                "|---|---|---|---|---|",
                *rows,
            ]
            sections.append("\n".join(lines) + "\n")
    return "".join(sections)


def _sections() -> dict[str, str]:
    return {
        "Every service": "forecourt",
        **{f"The {name} service": name for name in list(ROOTS.values())[1:]},
    }


def _alerts(metric: Metric) -> str:
    return ", ".join(f"[{alert}](runbooks/{alert}.md)" for alert in alerts_using(metric.name))
