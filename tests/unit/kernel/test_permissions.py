"""Roles and permissions: what a file of roles may say, and what a caller with some roles may do."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecourt.access.permissions import Permissions, RolesError, RoleTable
from forecourt.config import ConfigError, Settings, load_from
from forecourt.discovery import find_roles, find_services
from forecourt.roles import permissions_of

REQUIRED = ("shop.basket.view", "shop.basket.edit", "shop.till.open", "yard.car.view")
ROLES = """
[clerk]
title = "Sells"
permissions = ["shop.basket.edit"]

[cashier]
title = "Takes money"
permissions = ["shop.till.*"]

[chief]
title = "Leads the shop"
includes = ["clerk"]
permissions = ["*.*.view", "office.chair.sit"]
"""


def granted(text: str = ROLES) -> dict[str, frozenset[str]]:
    return RoleTable.parse(text).grants(REQUIRED)


def test_roles_have_their_permissions_and_those_of_the_roles_they_include() -> None:
    assert granted() == {
        "clerk": {"shop.basket.edit"},
        "cashier": {"shop.till.open"},
        "chief": {"shop.basket.edit", "shop.basket.view", "yard.car.view"},
    }


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (ROLES.replace('"shop.basket.edit"', '"shop.basket.edti"'), "clerk: .* shop.basket.edti"),
        (ROLES.replace('"shop.till.*"', '"shop.tills.*"'), "cashier: .* shop.tills"),
        (ROLES.replace('"shop.till.*"', '"shop.basket.view"'), "no role has .* shop.till.open"),
        (ROLES.replace('"shop.till.*"', '"shop.*"'), "cashier: shop.. is no permission"),
        (ROLES.replace('"shop.till.*"', '"*"'), "cashier: . is no permission"),
        (ROLES.replace('"shop.till.*"', '"shop.ti*.open"'), "cashier: .* is no permission"),
        (ROLES.replace('["clerk"]', '["clark"]'), "chief: includes the unknown role clark"),
        (ROLES.replace('["clerk"]', '["chief"]'), "chief: includes itself"),
        (ROLES.replace("[clerk]", "[clerk]\nincludes = ['chief']"), "includes itself"),
        (ROLES.replace("[clerk]", "[Clerk]").replace('["clerk"]', "[]"), "Clerk: is no name"),
        (ROLES.replace("title =", "tilte ="), "clerk"),
        (ROLES.replace("permissions =", "permission ="), "permission"),
        (ROLES + "[", "roles: "),
        ("clerk = 1", "clerk"),
    ],
)
def test_a_mistake_in_the_file_is_named(wrong: str, words: str) -> None:
    with pytest.raises(RolesError, match=words):
        granted(wrong)


def test_permissions_of_a_service_that_is_served_elsewhere_are_left_alone() -> None:
    granted(ROLES.replace("shop.till.*", 'shop.till.*", "elsewhere.thing.do'))


def test_a_role_is_written_with_hyphens_or_underscores() -> None:
    permissions = Permissions({"store_manager": frozenset({"a.b.c"})})
    for role in ("store_manager", "store-manager"):
        assert permissions.of(frozenset({role})) == {"a.b.c"}


@given(st.sets(st.one_of(st.text(max_size=12), st.sampled_from(["clerk", "cashier", "chief"]))))
def test_several_roles_may_what_each_of_them_may_and_unknown_ones_nothing(roles: set[str]) -> None:
    table = granted()
    expected = {one for role in roles & table.keys() for one in table[role]}
    permissions = Permissions(table)
    for _ in range(2):
        assert permissions.of(frozenset(roles)) == expected


def test_made_up_roles_do_not_fill_the_memory() -> None:
    permissions = Permissions(granted())
    tracemalloc.start()
    try:
        for number in range(20_000):
            permissions.of(frozenset({f"role {number}"}))
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()


def settings(path: Path) -> Settings:
    return load_from(Settings, {"FORECOURT_ROLES_FILE": str(path)})


def test_another_file_may_take_the_place_of_the_installed_one(tmp_path: Path) -> None:
    path = tmp_path / "roles.toml"
    path.write_text('[anybody]\ntitle = "Does everything"\npermissions = ["*.*.*"]')
    assert find_roles(settings(path)).roles.keys() == {"anybody"}
    assert find_roles(load_from(Settings, {})).roles.keys() > {"salesperson"}


def test_roles_can_be_asked_for_by_either_spelling() -> None:
    table = RoleTable.parse(ROLES.replace("clerk", "till_clerk"))
    table.require(["till_clerk", "till-clerk", "chief"])
    with pytest.raises(RolesError, match="no role cook, king; there are till_clerk, cashier, chief"):
        table.require(["chief", "cook", "king"])


@pytest.mark.parametrize("content", [None, b"\xff", b"[a", b'[clerk]\ntitle = "x"\npermissions = []'])
def test_a_file_that_does_not_fit_is_named_by_its_variable(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "roles.toml"
    if content is not None:
        path.write_bytes(content)

    class Part:
        service = find_services(["notify"])[0]

    with pytest.raises(ConfigError, match="FORECOURT_ROLES_FILE"):
        permissions_of([Part()], settings(path))  # type: ignore[list-item]  # all that is read of a runtime
