"""The reference of permissions: what each RPC needs, and which roles have it."""

from forecourt.access.permissions import RoleTable
from forecourt.discovery import find_services
from trade.roles import FILE

HEAD = """\
# Permissions

<!-- Made by `make reference` from the contract in proto/ and services/common/trade/roles.toml. Change those. -->

Which permission an RPC needs, and which roles have it. How that works is in [access.md](access.md).
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
    return "".join(parts)
