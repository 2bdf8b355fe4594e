"""Every RPC of the service desk answers bad input with a reason that names the field, never with an accident."""

import math
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from forecourt.rpc.binding import Kind
from forecourt.testing.given import an_id
from service_desk.api import api
from tests.integration.service_desk_tools import START, VINS, Desk, running_desk
from tests.integration.test_service_desk_day import repair

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

VIN = VINS[0]


@pytest.fixture
async def desk(
    tmp_path: Path, database_url: str, amqp_uri: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("AMQP_URI", amqp_uri)
    async with running_desk(tmp_path, database_url, amqp_uri) as running:
        yield running


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
NOBODY = str(an_id("nobody"))
BOOKING = {"customer_id": NOBODY, "vin": VIN, "kind": "WORK_KIND_REPAIR"}
BAD: list[tuple[str, dict[str, Any], grpc.StatusCode, str, set[str]]] = [
    (
        "OpenRepairOrder",
        {},
        INVALID,
        "",
        {"customer_id", "vin", "odometer_km", "kind", "symptoms", "adviser_id"},
    ),
    ("GetRepairOrder", {"repair_order_id": "42"}, INVALID, "", {"repair_order_id"}),
    ("GetRepairOrder", {"repair_order_id": NOBODY}, NOT_FOUND, "", set()),
    ("StartWork", {"repair_order_id": NOBODY}, NOT_FOUND, "", set()),
    ("ListRepairOrders", {"page_size": 501}, INVALID, "", {"page_size"}),
    ("ListRepairOrders", {"page_token": "made up"}, INVALID, "", {"page_token"}),
    ("ListRepairOrders", {"vin": "LVSHCAME01F123456"}, INVALID, "", {"vin"}),
    ("GetVehicleTimeline", {}, INVALID, "", {"vin"}),
    ("RecordCustomerReply", {"complaint_id": NOBODY}, INVALID, "", {"accepted"}),
    ("CompleteReturnVisit", {"return_visit_id": NOBODY}, INVALID, "", {"satisfied"}),
    ("WithdrawReminder", {"reminder_id": NOBODY}, INVALID, "", {"cause"}),
    ("SetWorkshopCapacity", {"day": "2026-02-30", "bays": 1, "technicians": 1}, INVALID, "", {"day"}),
    (
        "BookAppointment",
        {**BOOKING, "starts_at": START + timedelta(hours=12)},
        grpc.StatusCode.FAILED_PRECONDITION,
        "outside-opening-hours",
        {"starts_at"},
    ),
    (
        "BookAppointment",
        {**BOOKING, "starts_at": START - timedelta(days=1)},
        grpc.StatusCode.FAILED_PRECONDITION,
        "starts-in-the-past",
        {"starts_at"},
    ),
    (
        "QuoteRepair",
        {
            "repair_order_id": NOBODY,
            "lines": [
                {
                    "kind": "LINE_KIND_PART",
                    "description": "x",
                    "quantity": "1,5",
                    "unit_price": {"amount": "1"},
                }
            ],
        },
        INVALID,
        "",
        {"lines.0.quantity", "lines.0.unit_price.currency"},
    ),
]


async def test_bad_input_is_answered_with_the_field_and_the_reason(desk: Desk) -> None:
    for rpc, fields, code, slug, named in BAD:
        refusal = await desk.refusal(rpc, **fields)
        assert refusal.code is code, f"{rpc} {fields}: {refusal}"
        assert not slug or refusal.slug == slug, f"{rpc} {fields}: {refusal.slug}"
        assert refusal.fields == named, f"{rpc} {fields}: {refusal.fields}"
    opened = await repair(desk, 1)
    stale = await desk.refusal("StartWork", repair_order_id=opened, metadata={"expected_version": 2})
    assert stale.code is grpc.StatusCode.ABORTED
    over = await desk.refusal("StartWork", repair_order_id=opened)
    assert (over.code, over.slug) == (grpc.StatusCode.FAILED_PRECONDITION, "repair-order-closed")


def filled(descriptor: Descriptor | None, scalars: dict[int, Any]) -> Message:
    """A message with every field set, by the field's type, to something that nobody should accept."""
    assert descriptor is not None
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            value: Any = filled(field.message_type, scalars)
            target = getattr(message, field.name)
            (target.add() if field.is_repeated else target).CopyFrom(value)
            continue
        value = scalars[field.type]
        if field.is_repeated:
            getattr(message, field.name).extend([value] * 200)
        else:
            setattr(message, field.name, value)
    return message


def scalars(text: str, number: int, enum: int) -> dict[int, Any]:
    """A value for each type of field that the contract uses."""
    return {
        FieldDescriptor.TYPE_STRING: text,
        FieldDescriptor.TYPE_INT32: number,
        FieldDescriptor.TYPE_INT64: number,
        FieldDescriptor.TYPE_ENUM: enum,
        FieldDescriptor.TYPE_BOOL: True,
        FieldDescriptor.TYPE_DOUBLE: math.nan,
    }


HOSTILE = {
    "overlong": scalars("x" * 20_000, 2**31 - 1, 1),
    "negative": scalars("-1", -1, 1),
    "control characters": scalars("a\x00\x1bb", 0, 1),
    "unknown enum": scalars("two words", 1, 99),
    "other scripts": scalars("字ß🚗\u202e", 1, 1),
    "SQL": scalars("'; DROP SCHEMA events CASCADE; --", 1, 1),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_no_rpc_accepts_nonsense(desk: Desk, kind: str) -> None:
    for rpc, method in api.descriptor().methods_by_name.items():
        refusal = await desk.refusal(rpc, message=filled(method.input_type, HOSTILE[kind]))
        assert refusal.code is INVALID, f"{rpc}: {refusal}"
        assert refusal.fields, f"{rpc}: names no field"
    assert not await desk.count()


async def test_no_command_accepts_an_empty_message_or_bytes_that_are_none(desk: Desk) -> None:
    for rpc, bound in api.rpcs.items():
        for message in (b"", b"\xff\xff\xff", b"\x0a\x02\xc3\x28"):
            if message == b"" and bound.kind is Kind.QUERY:
                continue
            refusal = await desk.refusal(rpc, message=message)
            assert refusal.code is INVALID, f"{rpc} {message!r}: {refusal}"
    assert not await desk.count()
