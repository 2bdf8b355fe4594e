"""Notify as it runs: events from the broker become messages in the sandbox, once for each reason."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from forecourt.clock import SystemClock
from forecourt.testing.given import an_id
from forecourt.testing.probes import poll_async
from notify.providers.signing import signed_headers, twilio_signature
from notify.settings import SANDBOX_KEY, SANDBOX_TOKEN
from tests.integration.notify_platform import SECONDS, VIN, House, open_house

pytestmark = pytest.mark.integration


@pytest.fixture
async def house(tmp_path: Path, database_url: str, amqp_uri: str) -> AsyncIterator[House]:
    async with open_house(tmp_path, database_url, amqp_uri) as opened:
        yield opened


async def test_why_was_i_notified(house: House) -> None:
    """From the event to the receipt: every step of a message can be asked for."""
    await house.register("c1")
    message_id = await house.arrive("c1", times=3)
    found = await house.until(message_id, "delivered")
    assert [entry.event for entry in found.history] == [
        "NotificationRequested",
        "ProviderAttempted",
        "NotificationAccepted",
        "NotificationDelivered",
    ]
    assert found.history[0].detail == (
        "sales.VehicleArrived → rule vehicle_arrived; consent: contract; template: vehicle_arrived v1"
    )
    assert found.notification.reason_stream == f"order-{an_id('order c1')}"
    assert (
        found.text
        == f"【鸿通浦东店】王c1您好，您订购的车辆（车架号{VIN}）已到店，请与您的销售顾问约定提车时间。"
    )
    (arrived,) = await house.arrived()
    assert (arrived["to"], arrived["text"], arrived["repeats"]) == ("+8613800000001", found.text, 0)
    preview = await house.call(
        "PreviewTemplate",
        template="vehicle_arrived",
        language="LANGUAGE_ZH",
        channel="CHANNEL_SMS",
        values={"name": "王c1", "store": "鸿通浦东店", "vin": VIN},
    )
    assert preview.text == found.text
    contact = await house.call("GetContact", customer_id=str(an_id("customer c1")))
    assert (contact.name, contact.mobile) == ("王c1", "+8613800000001")
    listed = await house.call("ListNotifications", customer_id=str(an_id("customer c1")))
    assert [row.notification_id for row in listed.notifications] == [str(message_id)]
    assert await house.states() == {"delivered": 1}


async def test_a_customer_who_becomes_known_late_is_still_written_to(house: House) -> None:
    message_id = await house.arrive("c2")
    await house.register("c2")
    await house.until(message_id, "delivered", "accepted")
    assert len(await house.arrived()) == 1


async def test_at_night_messages_wait_and_the_morning_releases_them(house: House) -> None:
    await house.clock.advance(timedelta(hours=12))
    await house.register("c3")
    message_id = await house.arrive("c3")
    found = await house.until(message_id, "deferred")
    assert found.notification.why == "quiet_hours"
    assert await house.arrived() == []
    await house.clock.advance(timedelta(hours=9))
    await house.until(message_id, "delivered")
    assert len(await house.arrived()) == 1


async def test_what_is_heard_of_too_late_is_recorded_and_not_sent(house: House) -> None:
    """The event is of noon; notify hears of it three weeks later, and twice."""
    await house.register("c9")
    await house.clock.advance(timedelta(days=21))
    message_id = await house.arrive("c9", times=2)
    found = await house.until(message_id, "expired")
    assert [entry.event for entry in found.history] == ["NotificationRequested", "NotificationExpired"]
    assert await house.states() == {"expired": 1}
    assert await house.arrived() == []


async def test_a_load_with_the_worker_killed_in_its_midst(house: House) -> None:
    """Every reason led to one message, or to one that is parked with its reason; none to two."""
    labels = [f"k{number}" for number in range(1, 61)]
    for label in labels:
        mobile_only = int(label[1:]) % 3 != 0
        points = [{"kind": "mobile", "value": f"+86139{label[1:]:0>8}"}]
        mail = [{"kind": "email", "value": f"{label}@example.com"}]
        await house.register(label, contact_points=points if mobile_only else mail)
    ids = [await house.arrive(label) for label in labels]

    async def some() -> bool:
        return len(await house.arrived()) >= 8

    await poll_async(some, SECONDS, what="the first messages")
    await house.kill("work-notify")
    await house.start("work-notify")
    for message_id in ids:
        await house.until(message_id, "accepted", "delivered", "dead")
    arrived = Counter(message["to"] for message in await house.arrived())
    assert max(arrived.values()) == 1
    dead = (await house.call("ListDeadLetters", page_size=500)).notifications
    assert {letter.why for letter in dead} <= {"outcome_unknown"}
    assert len(arrived) + len(dead) >= len(labels)
    assert await house.pool.fetchval(
        "SELECT count(*) FROM events.event WHERE type = 'notify.NotificationRequested'"
    ) == len(labels)


async def test_a_dead_letter_is_listed_and_sent_again(house: House) -> None:
    await house.fault(provider="generic", kind="refuse")
    await house.register("c4")
    message_id = await house.arrive("c4")
    await house.until(message_id, "dead")
    (letter,) = (await house.call("ListDeadLetters", reason="refused")).notifications
    assert letter.notification_id == str(message_id)
    async with house.http.delete(f"{house.sandbox}/faults"):
        pass
    await house.call("RequeueDeadLetter", notification_id=str(message_id), note="the gateway was wrong")
    await house.until(message_id, "delivered")
    assert (await house.status("RequeueDeadLetter", notification_id=str(message_id), note="again"))[0] == (
        "FAILED_PRECONDITION"
    )


async def test_receipts_must_be_signed_and_may_be_late_repeated_or_strange(house: House) -> None:
    await house.fault(provider="generic", kind="no_receipt")
    await house.register("c5")
    message_id = await house.arrive("c5")
    await house.until(message_id, "accepted")
    (arrived,) = await house.arrived()
    url = f"{house.serve}/callbacks/sms/generic"

    async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 40):
            yield body[start : start + 40]
            await asyncio.sleep(0.05)

    async def report(key: str, signing_key: str = SANDBOX_KEY, **fields: str) -> tuple[int, str]:
        body = json.dumps({"key": key, "id": arrived["reference"], "status": "delivered", **fields}).encode()
        headers = signed_headers(signing_key, body, SystemClock().now())
        async with house.http.post(url, data=in_pieces(body), headers=headers) as response:
            answer = await response.json()
            return response.status, answer.get("status", "")

    assert await report(str(message_id), "another key") == (403, "")
    assert await report("nonsense") == (400, "")
    assert await report(str(uuid4())) == (200, "unknown")
    assert await report(str(message_id), status="thinking") == (200, "ignored")
    assert await report(str(message_id)) == (200, "recorded")
    assert await report(str(message_id)) == (200, "repeated")
    assert await report(str(message_id), status="bounced") == (200, "repeated")
    await house.until(message_id, "delivered")
    async with house.http.get(url) as response:
        assert response.status == 405
    async with house.http.get(f"{house.serve}/metrics") as response:
        page = await response.text()
    assert 'forecourt_delivery_receipts_total{outcome="forbidden",provider="generic"} 1.0' in page
    assert arrived["to"] not in page


async def test_forged_reports_are_counted_in_the_audit_and_refused_ones_are_entries(house: House) -> None:
    await house.fault(provider="generic", kind="no_receipt")
    await house.register("c7")
    message_id = await house.arrive("c7")
    await house.until(message_id, "accepted")
    # The message is the other provider's.
    url = f"{house.serve}/callbacks/sms/twilio?notification={message_id}"
    form = {"MessageSid": "SM1", "MessageStatus": "delivered"}
    for token, status in (("another", 403), ("another", 403), (SANDBOX_TOKEN, 200)):
        signed = {"X-Twilio-Signature": twilio_signature(token, url, form)}
        async with house.http.post(url, data=form, headers=signed) as response:
            assert response.status == status
    rows = await house.pool.fetch(
        "SELECT type, actor_id, data::json->>'slug' AS slug, data::json->>'rpc' AS rpc FROM events.event"
        " WHERE category = 'audit' AND data::json->>'rpc' LIKE 'notify/%' ORDER BY position"
    )
    rpc = "notify/callbacks/sms/twilio"
    assert list(dict.fromkeys(map(tuple, rows))) == [
        ("audit.CallsRejected", "", "forbidden", rpc),
        ("audit.PartsRefused", "provider:twilio", "foreign-receipt", rpc),
    ]


async def test_twilios_callback_finds_its_message_by_the_url(house: House) -> None:
    await house.fault(provider="generic", kind="busy")
    await house.fault(provider="twilio", kind="bounce")
    await house.register("c6")
    message_id = await house.arrive("c6")
    found = await house.until(message_id, "bounced")
    assert (found.notification.provider, found.notification.failure_code) == ("twilio", "30003")
    url = f"{house.serve}/callbacks/sms/twilio?notification={message_id}"
    form = {"MessageSid": "SM1", "MessageStatus": "delivered"}
    forged = {"X-Twilio-Signature": twilio_signature("another token", url, form)}
    async with house.http.post(url, data=form, headers=forged) as response:
        assert response.status == 403
    for kind in ("multipart/form-data", "application/x-www-form-urlencoded; charset=none", "text/plain"):
        nonsense = {**forged, "Content-Type": kind}
        async with house.http.post(url, data=b"\xff%zz&&=;MessageStatus", headers=nonsense) as response:
            assert response.status == 403, kind
    signed = {"X-Twilio-Signature": twilio_signature(SANDBOX_TOKEN, url, form)}
    async with house.http.post(url, data=form, headers=signed) as response:
        assert (response.status, await response.json()) == (200, {"status": "repeated"})


async def test_bad_input_is_answered_by_name(house: House) -> None:
    unknown = str(uuid4())
    cases: list[tuple[str, dict[str, Any], str, str]] = [
        ("GetNotification", {"notification_id": "x"}, "INVALID_ARGUMENT", "notification_id"),
        ("GetNotification", {}, "INVALID_ARGUMENT", "notification_id"),
        ("GetNotification", {"notification_id": unknown}, "NOT_FOUND", ""),
        ("ListNotifications", {"page_size": 501}, "INVALID_ARGUMENT", "page_size"),
        ("ListNotifications", {"page_token": "☃"}, "INVALID_ARGUMENT", "page_token"),
        ("ListNotifications", {"state": 99}, "INVALID_ARGUMENT", "state"),
        ("ListNotifications", {"customer_id": "x"}, "INVALID_ARGUMENT", "customer_id"),
        ("ListDeadLetters", {"reason": "boredom"}, "INVALID_ARGUMENT", "reason"),
        ("RequeueDeadLetter", {"notification_id": unknown}, "INVALID_ARGUMENT", "note"),
        ("RequeueDeadLetter", {"notification_id": unknown, "note": "x" * 501}, "INVALID_ARGUMENT", "note"),
        ("RequeueDeadLetter", {"notification_id": unknown, "note": "x"}, "NOT_FOUND", ""),
        ("PreviewTemplate", {"template": "x", "language": 1, "channel": 1}, "NOT_FOUND", ""),
        ("PreviewTemplate", {"template": "vehicle_arrived", "channel": 1}, "INVALID_ARGUMENT", "language"),
        (
            "PreviewTemplate",
            {"template": "vehicle_arrived", "language": 1, "channel": 1, "time_zone": "Mars/Olympus"},
            "INVALID_ARGUMENT",
            "time_zone",
        ),
        ("GetContact", {"customer_id": unknown}, "NOT_FOUND", ""),
    ]
    for rpc, fields, status, words in cases:
        answer = await house.status(rpc, **fields)
        assert answer[0] == status, (rpc, fields, answer)
        assert words in answer[1], (rpc, fields, answer)
