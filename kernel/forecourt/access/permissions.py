"""Who may call what: each RPC names the permission that it needs, and each role is given some.

The contract says what a method needs, with the option ``crm.access.requires`` (`permission_of`). A file in TOML says
which role has it; it comes with the words of the trade, as data, and another one may replace it::

    [sales_manager]
    title = "Leads the sale of cars in a store"
    includes = ["salesperson"]
    permissions = ["sales.outbound.approve", "sales.*.view"]

A permission is ``<service>.<subject>.<verb>``; ``*`` stands for any one of the three words. What a service's process
serves is checked when it starts: a permission that no method needs or that no role has is a mistake.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from forecourt.errors import Forbidden

OPTION = "crm.access.requires"
_PERMISSION = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){2}")
_PATTERN = re.compile(r"([a-z][a-z0-9_]*|\*)(\.([a-z][a-z0-9_]*|\*)){2}")
_ROLE = re.compile(r"[a-z][a-z0-9_]*")
_REMEMBERED = 1_000


class PermissionMissing(Forbidden):
    """None of the caller's roles has the permission that the call needs."""

    def __init__(self, permission: str) -> None:
        super().__init__(f"needs the permission {permission}", info={"permission": permission})


class RolesError(Exception):
    """The file of roles contradicts itself or the contract. Found at start."""


class Role(BaseModel):
    """A role: what it is called, the roles whose permissions it has too, and its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    includes: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()


def _plain(role: str) -> str:
    """A role's name in a token, as the file has it."""
    return role.replace("-", "_")


_roles = TypeAdapter(dict[str, Role])


def permission_of(method: MethodDescriptor) -> str:
    """The permission that a method's option names, empty where it has none. Raises `ValueError` for a bad name."""
    try:
        extension = descriptor_pool.Default().FindExtensionByName(OPTION)
    except KeyError:
        return ""
    options: Any = method.GetOptions()
    permission: str = options.Extensions[extension]
    if permission and not _PERMISSION.fullmatch(permission):
        raise ValueError(f"{permission}: is no permission; write <service>.<subject>.<verb>")
    return permission


@dataclass(frozen=True)
class RoleTable:
    """The roles by name, as the file has them."""

    roles: Mapping[str, Role]

    @classmethod
    def read(cls, path: Path) -> "RoleTable":
        """The roles of a file. Raises `RolesError` naming what is wrong in it."""
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise RolesError(f"{path}: cannot be read ({type(error).__name__})") from None

    @classmethod
    def parse(cls, text: str) -> "RoleTable":
        """The roles of a text in TOML. Raises `RolesError` naming what is wrong in it."""
        try:
            roles = _roles.validate_python(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise RolesError(f"roles: {error}") from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise RolesError(f"roles: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        table = cls(roles)
        table._check()
        return table

    def _check(self) -> None:
        for name, role in self.roles.items():
            if not _ROLE.fullmatch(name):
                raise RolesError(f"{name}: is no name for a role; write it like sales_manager")
            for pattern in role.permissions:
                if not _PATTERN.fullmatch(pattern):
                    raise RolesError(f"{name}: {pattern} is no permission; write <service>.<subject>.<verb>")
            if unknown := set(role.includes) - self.roles.keys():
                raise RolesError(f"{name}: includes the unknown role {', '.join(sorted(unknown))}")
            if name in self._included(role.includes):
                raise RolesError(f"{name}: includes itself")

    def require(self, roles: Iterable[str]) -> None:
        """Raise `RolesError` unless all ``roles`` are in the file, written with hyphens or underscores."""
        if unknown := [role for role in roles if _plain(role) not in self.roles]:
            raise RolesError(f"no role {', '.join(unknown)}; there are {', '.join(self.roles)}")

    def _included(self, names: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found and name in self.roles:
                found.add(name)
                waiting.extend(self.roles[name].includes)
        return found

    def grants(self, required: Iterable[str]) -> dict[str, frozenset[str]]:
        """Which of the ``required`` permissions each role has.

        Permissions of services that require none here are left alone: another process serves those. Raises
        `RolesError` for a permission that nothing requires, and for one that no role has.
        """
        known = frozenset(required)
        services = {permission.partition(".")[0] for permission in known}
        granted: dict[str, frozenset[str]] = {}
        for name in self.roles:
            granted[name] = frozenset().union(
                *(
                    self._matching(one, pattern, known, services)
                    for one in {name} | self._included(self.roles[name].includes)
                    for pattern in self.roles[one].permissions
                )
            )
        if orphans := known.difference(*granted.values()):
            raise RolesError(f"no role has the permission {', '.join(sorted(orphans))}")
        return granted

    @staticmethod
    def _matching(role: str, pattern: str, known: frozenset[str], services: set[str]) -> set[str]:
        expression = re.compile(re.escape(pattern).replace(r"\*", "[a-z0-9_]+"))
        matching = {permission for permission in known if expression.fullmatch(permission)}
        if not matching and pattern.partition(".")[0] in services:
            raise RolesError(f"{role}: no method needs the permission {pattern}")
        return matching


class Permissions:
    """Answers which permissions a caller has. The answer for a set of roles is worked out once."""

    def __init__(self, granted: Mapping[str, frozenset[str]]) -> None:
        self._granted = granted
        self._of: dict[frozenset[str], frozenset[str]] = {}

    def of(self, roles: frozenset[str]) -> frozenset[str]:
        """The permissions of somebody with ``roles``, written with hyphens or underscores; unknown ones give none."""
        known = self._of.get(roles)
        if known is None:
            known = frozenset().union(*(self._granted.get(_plain(role), frozenset()) for role in roles))
            # Tokens may name any roles: what they name must not fill the memory.
            if len(self._of) >= _REMEMBERED:
                self._of.clear()
            self._of[roles] = known
        return known
