"""The reference of permissions: what each RPC needs, and which roles have it."""

from collections.abc import Iterator

from forecourt.access.permissions import RoleTable
from forecourt.discovery import find_services
from trade.roles import FILE

HEAD = """\
# Permissions

<!-- Made by `make reference` from the contract in proto/ and services/common/trade/roles.toml. Change those. -->

Which permission an RPC needs, which roles have it, and which commands need a second person. How that works is in
[access.md](access.md).
"""


def render() -> str:
    """The page."""
    needed = {
        api.full_name: api.permissions()
        for service in sorted(find_services(), key=lambda service: service.name)
        for api in service.apis
    }
    table = RoleTable.read(FILE)
    granted = table.grants(permission for rpcs in needed.values() for permission in rpcs.values())
    parts = [HEAD, "\n## Roles\n\n| role | who | may call |\n|---|---|---|\n"]
    calls = [permission for rpcs in needed.values() for permission in rpcs.values()]
    for name, role in table.roles.items():
        number = sum(permission in granted[name] for permission in calls)
        parts.append(f"| `{name}` | {role.title} | {number} of {len(calls)} RPCs |\n")
    for api, rpcs in needed.items():
        parts.append(f"\n## {api}\n\n| RPC | needs | roles |\n|---|---|---|\n")
        for rpc, permission in rpcs.items():
            roles = ", ".join(f"`{name}`" for name, has in granted.items() if permission in has)
            parts.append(f"| `{rpc}` | `{permission}` | {roles} |\n")
    return "".join([*parts, *_duties()])


def _duties() -> Iterator[str]:
    """Which commands need another person."""
    yield "\n## Separation of duties\n\n| command | not by who caused |\n|---|---|\n"
    for service in sorted(find_services(), key=lambda service: service.name):
        for decider in service.deciders:
            for command, rule in decider.duties.rules.items():
                which = "any" if rule.ever else "the latest"
                events = ", ".join(f"`{event.event_name}`" for event in rule.events)
                yield f"| `{service.name}`: `{command.__name__}` | {which} {events} |\n"
