"""Everything in the repository that is made from something else in it.

``python -m tools.reference`` writes it; with ``--check`` it only names what is out of date, with exit code 1.
"""

import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from forecourt.worker import bridge

# Modules of workers are looked at too, and they patch the standard library, best before anything else is there.
warnings.simplefilter("ignore")
bridge.install()

from tools import dashboards, reference_metrics, reference_permissions, reference_rules, reference_settings  # noqa: E402

PAGES: dict[str, Callable[[], str]] = {
    "docs/configuration.md": reference_settings.render,
    "docs/runbooks/README.md": reference_rules.runbook_list,
    "deploy/prometheus/rules/roles.yaml": reference_rules.roles,
    "deploy/k8s/base/monitoring/prometheusrule.yaml": reference_rules.prometheus_rule,
    "docs/metrics.md": reference_metrics.render,
    "deploy/grafana/dashboards/operations.json": partial(dashboards.render, "operations"),
    "deploy/grafana/dashboards/business.json": partial(dashboards.render, "business"),
    "docs/permissions.md": reference_permissions.render,
}


def stale() -> dict[Path, str]:
    """What would change, with its new content."""
    made = {Path(name): render() for name, render in PAGES.items()}
    return {path: text for path, text in made.items() if not path.is_file() or path.read_text() != text}


def main() -> None:
    """Write, or check."""
    changed = stale()
    if "--check" in sys.argv[1:]:
        if changed:
            sys.exit(f"out of date, run `make reference`: {', '.join(map(str, changed))}")
        return
    for path, text in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path)


if __name__ == "__main__":
    main()
