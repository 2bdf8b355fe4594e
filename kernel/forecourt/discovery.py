"""Finds the services that are installed, by entry points: the kernel itself imports none.

A service's ``pyproject.toml`` declares::

    [project.entry-points."forecourt.services"]
    sales = "sales.service:service"

What can be simulated (``forecourt simulate``) is found in the group ``forecourt.profiles``. A service that has
stand-ins for outside providers, for development, also declares::

    [project.entry-points."forecourt.sandboxes"]
    sandbox = "notify.sandbox:SANDBOX"

The file that says which role may do what comes with the words of the trade, in the same way::

    [project.entry-points."forecourt.roles"]
    trade = "trade.roles:FILE"
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from forecourt.access.permissions import RolesError, RoleTable
from forecourt.config import ConfigError, Settings
from forecourt.service import Service

PROFILES = "forecourt.profiles"
GROUP = "forecourt.services"
SANDBOXES = "forecourt.sandboxes"
ROLES = "forecourt.roles"


@dataclass(frozen=True)
class Sandbox:
    """A stand-in for providers: ``python -m <module> --<option>-port N`` for each of its ports.

    ``ports`` are the preferred ones by option; ``variables`` say, by option, which environment variables tell the
    services where it listens (``{host}`` and ``{port}`` are filled in). ``callback`` names the variable that is
    to hold the URL of the HTTP side of ``serve``, for what providers report. ``pages`` describes the ports that a
    browser can look at.
    """

    name: str
    module: str
    ports: Mapping[str, int]
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    callback: str = ""
    pages: Mapping[str, str] = field(default_factory=dict)


@cache
def _declared(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}


def service_names() -> list[str]:
    """The names of all installed services."""
    return list(_declared(GROUP))


def find_services(names: Sequence[str] | None = None) -> list[Service]:
    """The services of these names, all that are installed by default. Raises `ConfigError` for an unknown one."""
    declared = _declared(GROUP)
    wanted = list(names or declared)
    if unknown := [name for name in wanted if name not in declared]:
        raise ConfigError(f"SERVICE: no {', '.join(unknown)}; installed are {', '.join(declared) or 'none'}")
    return [declared[name].load() for name in wanted]


def find_sandboxes() -> list[Sandbox]:
    """The sandboxes of all installed services."""
    return [entry.load() for entry in _declared(SANDBOXES).values()]


def find_roles(settings: Settings) -> RoleTable:
    """The roles of the file that is set, else of the installed one. Raises `ConfigError` for none, or a bad one."""
    try:
        return RoleTable.read(_roles_file(settings))
    except RolesError as error:
        raise ConfigError(f"FORECOURT_ROLES_FILE: {error}") from None


def _roles_file(settings: Settings) -> Path:
    if settings.forecourt_roles_file is not None:
        return settings.forecourt_roles_file
    found = list(_declared(ROLES).values())
    if len(found) != 1:
        raise ConfigError(f"FORECOURT_ROLES_FILE: is not set, and {len(found)} files of roles are installed")
    path: Path = found[0].load()
    return path


def find_profile(name: str) -> Callable[..., Coroutine[Any, Any, None]]:
    """A business to simulate, ``simulate(days=, seed=, scale=, data=, out=)``. Raises `ConfigError`."""
    declared = _declared(PROFILES)
    if name not in declared:
        raise ConfigError(f"--profile: no {name}; installed are {', '.join(declared) or 'none'}")
    found: Callable[..., Coroutine[Any, Any, None]] = declared[name].load()
    return found
