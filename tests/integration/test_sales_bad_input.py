"""Whatever is sent to any RPC of sales, the answer is one that its contract knows, and never an internal error.

Calls are drawn from a small world, so that they meet the same customers, cars and orders again and again; every
other one is damaged. The state of the servers is part of the test, so nothing is shrunk: the seed tells them apart.
"""

import json
import random
from collections import Counter
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.integration.sales_client import METHODS, Answered, SalesClient
from tests.integration.sales_platform import LINE, NOBODY, base64_of
from tests.unit.sales.samples import MODEL, a_vin
from tests.unit.sales.test_adf import PROSPECT, adf

pytest_plugins = ["tests.integration.sales_fixtures"]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

CALLS = 1_500
ALLOWED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.PERMISSION_DENIED,
}
IDS = [NOBODY, str(UUID(int=1)), str(UUID(int=2))]
PLAUSIBLE: dict[str, list[Any]] = {
    "vin": [a_vin(90_000), a_vin(90_001)],
    "xml": [base64_of(adf(PROSPECT)), base64_of(b"<adf>")],
    "model": [MODEL],
    "phone": ["13800138000"],
    "email": ["a@example.com"],
    "store": ["D001", "D002"],
    "to_store": ["D001", "D002"],
    "model_year": [2026],
    "page_size": [0, 5],
    "page_token": [""],
    "passed": [True, True, False],
    "available_only": [True, False],
}
HOSTILE: list[Any] = [
    "",
    "\0",
    "x" * 5_000,
    "王小明",
    "\u202e\ud7ff",
    "1; DROP TABLE sales.lead",
    "-1",
    "NaN",
    "1e999",
    "2026-02-30",
    "0001-01-01",
    "9999-12-31",
    *IDS,
]


class World:
    """Draws calls; the same ones for the same seed."""

    def __init__(self, seed: int, year: int) -> None:
        self.draw = random.Random(seed)
        self.year = year

    def call(self) -> tuple[str, dict[str, Any]]:
        """An RPC and a message for it, in JSON form."""
        rpc = self.draw.choice(sorted(METHODS))
        descriptor = METHODS[rpc].input_type
        message = self.message(descriptor)
        if self.draw.random() < 0.4:
            self.damage(message, descriptor)
        return rpc, message

    def message(self, descriptor: Descriptor) -> dict[str, Any]:
        """A message that may well be sent."""
        return {field.name: self.values(field) for field in descriptor.fields}

    def values(self, field: FieldDescriptor) -> Any:
        if field.is_repeated:
            return [self.value(field) for _ in range(self.draw.randint(1, 2))]
        return self.value(field)

    def value(self, field: FieldDescriptor) -> Any:
        if field.name in PLAUSIBLE:
            return self.draw.choice(PLAUSIBLE[field.name])
        if field.name.endswith("_id"):
            return self.draw.choice(IDS)
        if field.enum_type is not None:
            return self.draw.randint(1, len(field.enum_type.values) - 1)
        if field.message_type is not None:
            return self.nested(field.message_type)
        if field.name in ("valid_until", "insurance_until"):
            return f"{self.year + 1}-01-05"
        return (
            self.draw.choice(["S1", "S2"])
            if field.type == FieldDescriptor.TYPE_STRING
            else self.draw.randint(1, 9)
        )

    def nested(self, descriptor: Descriptor) -> Any:
        if descriptor.name == "Timestamp":
            if self.draw.random() < 0.05:
                return self.draw.choice(
                    ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z"]
                )
            return f"{self.draw.choice([self.year, 2000])}-{self.draw.randint(1, 12):02}-05T09:00:00Z"
        if descriptor.name == "Money":
            return {"amount": self.draw.choice(["1.00", "1000.00", "128000.00"]), "currency": "CNY"}
        return dict(LINE) if descriptor.name == "SaleLine" else self.message(descriptor)

    def damage(self, message: dict[str, Any], descriptor: Any) -> None:
        """Take a field away, or put something else into it."""
        name = self.draw.choice(sorted(message))
        field = descriptor.fields_by_name[name]
        if self.draw.random() < 0.3:
            del message[name]
        elif isinstance(message[name], dict) and descriptor.full_name != "google.protobuf.Timestamp":
            self.damage(message[name], field.message_type)
        elif field.is_repeated:
            message[name] = message[name] * 60
        elif field.type == FieldDescriptor.TYPE_STRING:
            message[name] = self.draw.choice(HOSTILE)
        elif field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM):
            message[name] = self.draw.choice([0, -1, 2**31 - 1, -(2**31), 98])


async def refusal_of(seller: SalesClient, rpc: str, message: dict[str, Any]) -> Answered | None:
    """The error that the call was answered with, if any."""
    try:
        await seller(rpc, message)
    except Answered as refusal:
        return refusal
    return None


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_calls_are_answered_by_the_contract(seller: SalesClient, year: int, seed: int) -> None:
    world, answers = World(seed, year), Counter[str]()
    for _ in range(CALLS):
        rpc, message = world.call()
        refusal = await refusal_of(seller, rpc, message)
        answers[f"{rpc} {refusal.slug if refusal else 'ok'}"] += 1
        if refusal is None:
            continue
        assert refusal.code in ALLOWED, f"{rpc} {json.dumps(message)[:500]}: {refusal}"
        assert refusal.slug
        assert refusal.fields or refusal.code != grpc.StatusCode.INVALID_ARGUMENT
    # A test whose calls were all refused at the door would prove nothing.
    assert sum(count for answer, count in answers.items() if answer.endswith(" ok")) > CALLS / 10
    assert len({answer.split()[1] for answer in answers}) > 15, sorted(answers)


async def test_after_all_that_the_read_models_still_follow(seller: SalesClient) -> None:
    opened = await seller("OpenOpportunity", {"customer_id": NOBODY, "model": MODEL})
    found = await seller("GetOpportunity", {"opportunity_id": opened["id"]})
    assert found["model"] == MODEL
