"""Who of a store's staff makes a call: whoever may, and may do the least besides."""

from collections.abc import Callable
from functools import cache

from google.protobuf.descriptor import MethodDescriptor

from forecourt.access.permissions import RoleTable, permission_of
from forecourt.discovery import find_services
from trade.roles import FILE

ELSEWHERE = frozenset({"manufacturer", "auditor", "system"})
"""Roles of those who are not the dealer's staff."""


@cache
def required() -> dict[str, str]:
    """The permission that each RPC of every service needs, by the RPC's full name."""
    return {
        f"{api.full_name}.{rpc}": permission
        for service in find_services()
        for api in service.apis
        for rpc, permission in api.permissions().items()
    }


@cache
def granted() -> dict[str, frozenset[str]]:
    """The permissions of each role."""
    return RoleTable.read(FILE).grants(required().values())


@cache
def role_for(permission: str) -> str:
    """The role of the staff that has a permission and few others."""
    able = [role for role, has in granted().items() if permission in has and role not in ELSEWHERE]
    return min(able, key=lambda role: len(granted()[role]))


class Hats:
    """One person's tokens, one a role: each call is made with the role that the call is the job of."""

    def __init__(self, issue: Callable[[str], str]) -> None:
        self._issue = issue
        self._tokens: dict[str, str] = {}

    def authorization(self, method: MethodDescriptor) -> str:
        """The ``authorization`` of a call."""
        role = role_for(permission_of(method))
        if role not in self._tokens:
            self._tokens[role] = self._issue(role)
        return f"Bearer {self._tokens[role]}"
