"""Every RPC of every service, in every role: refused where the role lacks the permission, and only there."""

from dataclasses import replace

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from tests.e2e.client import METHODS
from tests.e2e.group import STORE, Group
from tests.e2e.walk import plausible
from tests.staff import granted, required

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest.mark.parametrize("role", [*granted(), "cook"])
async def test_a_role_may_what_the_file_says_and_nothing_else(group: Group, role: str) -> None:
    caller = replace(STORE, role=role)
    for rpc, method in METHODS.items():
        permission = required()[f"{method.containing_service.full_name}.{method.name}"]
        may = permission in granted().get(role, frozenset())
        # Whoever may not is told so, whatever they send; an empty message is as wrong as can be for most.
        message = plausible(method.input_type) if may else GetMessageClass(method.input_type)()
        refusal = (await group.ask(rpc, message, caller)).refusal
        if may:
            assert refusal is None or refusal.slug != "permission-missing", (rpc, refusal)
        else:
            assert refusal is not None, rpc
            assert (refusal.code, refusal.slug) == (
                grpc.StatusCode.PERMISSION_DENIED,
                "permission-missing",
            ), rpc
            assert permission in refusal.message
