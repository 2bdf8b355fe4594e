"""Sending on real PostgreSQL and real sockets: once for each reason, whatever goes wrong."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from forecourt.testing.given import an_id
from forecourt.testing.probes import poll_async
from notify.notification import RequeueDeadLetter, StartAttempt
from tests.integration.notify_desk import MAIL, NOON, NUMBER, Desk, every, open_desk

pytestmark = pytest.mark.integration

REGISTERED: dict[str, Any] = {
    "name": "王小明",
    "language": "zh",
    "time_zone": "Asia/Shanghai",
    "contact_points": [{"kind": "mobile", "value": "+8613800000009"}, {"kind": "email", "value": MAIL}],
    "consents": [],
}


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with open_desk(database_url) as opened:
        yield opened


async def test_messages_go_out_on_both_channels_and_are_recorded(desk: Desk) -> None:
    await desk.ask("a")
    await desk.ask("b", "email")
    await desk.drain(desk.sender())
    assert desk.arrived() == ["message a", "message b"]
    row = await desk.row("a")
    assert (row.state, row.provider, row.attempts) == ("accepted", "generic", 1)
    assert row.reference == desk.sandbox.evidence.find(channel="sms")[0].reference
    assert await desk.events("b") == [
        "NotificationRequested",
        "ProviderAttempted(smtp)",
        "NotificationAccepted(smtp)",
    ]


async def test_two_senders_at_once_send_everything_once(desk: Desk) -> None:
    labels = [f"m{n:03}" for n in range(60)]
    for label in labels:
        await desk.ask(label, "sms" if int(label[1:]) % 2 else "email")
    # Of a slow machine's late answers other tests tell.
    await desk.drain(*(desk.sender(notify_timeout_seconds=20.0) for _ in range(3)))
    assert desk.arrived() == every([f"message {label}" for label in labels])
    assert sum(message.repeats for message in desk.sandbox.evidence.find()) == 0


async def test_two_senders_that_ignore_claims_still_send_once(desk: Desk) -> None:
    """The claim keeps senders apart for speed; that nothing is sent twice is the aggregate's doing."""

    class NoClaims:
        async def take(self, ids: list[object]) -> set[object]:
            return set(ids)

        async def give_back(self, ids: list[object]) -> None: ...

        async def close(self) -> None: ...

    senders = [desk.sender(), desk.sender()]
    labels = [f"m{n:02}" for n in range(20)]
    for label in labels:
        await desk.ask(label, "email")
    for sender in senders:
        await sender.claims.close()
        sender.claims = NoClaims()  # type: ignore[assignment]  # all that is asked of claims
    # A sender without claims takes another's running attempt for one that was left behind: the message is
    # parked or confirmed, but never on its way twice.
    await asyncio.gather(*(sender.run(0.2) for sender in senders))
    arrived = desk.arrived()
    assert len(arrived) == len(set(arrived))


async def test_a_deferred_message_goes_out_in_the_morning(desk: Desk) -> None:
    morning = NOON + timedelta(hours=20)
    await desk.ask("a", defer_until=morning, defer_reason="quiet_hours")
    sender = desk.sender()
    await desk.drain(sender)
    assert desk.arrived() == []
    desk.clock.advance(timedelta(hours=20))
    await desk.drain(sender)
    assert desk.arrived() == ["message a"]


async def test_a_message_that_became_late_waits_for_the_morning_with_the_reason(desk: Desk) -> None:
    await desk.ask("contract")
    await desk.ask("safety", category="safety", consent="safety")
    desk.clock.advance(timedelta(hours=10))
    sender = desk.sender()
    await desk.drain(sender)
    assert desk.arrived() == ["message safety"]
    row = await desk.row("contract")
    assert (row.state, row.why, row.due_at) == ("deferred", "quiet_hours", NOON + timedelta(hours=20))
    desk.clock.advance(timedelta(hours=10))
    await desk.drain(sender)
    assert desk.arrived() == ["message contract", "message safety"]


async def test_the_next_provider_takes_over_at_once_when_the_first_is_busy(desk: Desk) -> None:
    desk.fault("generic", "busy")
    await desk.ask("a")
    await desk.drain(desk.sender())
    assert await desk.events("a") == [
        "NotificationRequested",
        "ProviderAttempted(generic)",
        "ProviderFailed(generic)",
        "ProviderFailedOver(twilio)",
        "ProviderAttempted(twilio)",
        "NotificationAccepted(twilio)",
    ]
    assert desk.arrived(provider="twilio") == ["message a"]


async def test_when_all_are_busy_it_is_tried_again_and_given_up_at_last(desk: Desk) -> None:
    desk.fault("generic", "busy")
    desk.fault("twilio", "busy")
    await desk.ask("a")
    sender = desk.sender()
    for _ in range(4):
        await desk.drain(sender)
        desk.clock.advance(timedelta(minutes=5))
    row = await desk.row("a")
    assert (row.state, row.why, row.attempts, row.failure_code) == (
        "dead",
        "providers_exhausted",
        8,
        "http_503",
    )
    desk.sandbox.faults.clear()
    await desk.run(RequeueDeadLetter(notification_id=an_id("a"), note="gateways are up again"))
    await desk.drain(sender)
    assert desk.arrived() == ["message a"]


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("kind", ["error", "timeout", "garbage", "drop"])
async def test_an_unclear_answer_of_a_gateway_with_keys_leads_to_one_message(
    desk: Desk, kind: str, taken: bool
) -> None:
    desk.fault("generic", kind, taken=taken, times=1)
    await desk.ask("a")
    sender = desk.sender()
    await desk.drain(sender)
    desk.clock.advance(timedelta(seconds=10))
    await desk.drain(sender)
    assert desk.arrived() == ["message a"]
    assert (await desk.row("a")).state == "accepted"


@pytest.mark.parametrize("taken", [True, False])
async def test_a_gateway_that_stays_unclear_is_asked_before_another_takes_over(
    desk: Desk, taken: bool
) -> None:
    desk.fault("generic", "timeout", taken=taken)
    await desk.ask("a")
    sender = desk.sender()
    for _ in range(4):
        await desk.drain(sender)
        desk.clock.advance(timedelta(minutes=5))
    await desk.drain(sender)
    assert desk.arrived(provider="generic") == (["message a"] if taken else [])
    assert desk.arrived(provider="twilio") == ([] if taken else ["message a"])
    assert (await desk.row("a")).provider == ("generic" if taken else "twilio")


async def test_a_mail_of_unknown_outcome_is_parked_with_the_reason(desk: Desk) -> None:
    desk.fault("smtp", "drop", taken=True, times=1)
    await desk.ask("a", "email")
    sender = desk.sender()
    await desk.drain(sender)
    desk.clock.advance(timedelta(hours=1))
    await desk.drain(sender)
    row = await desk.row("a")
    assert (row.state, row.why) == ("dead", "outcome_unknown")
    assert desk.arrived() == ["message a"]


async def test_a_refusal_is_parked_and_goes_out_after_the_address_is_corrected(desk: Desk) -> None:
    await desk.customer("CustomerRegistered", **REGISTERED)
    desk.fault("generic", "refuse", to="+8613800000009")
    await desk.ask("a")
    sender = desk.sender()
    await desk.drain(sender)
    row = await desk.row("a")
    assert (row.state, row.why, row.failure_code) == ("dead", "refused", "refused_refuse")
    await desk.customer("ProfileCorrected", field="mobile", value="+8613800000010", reason="typed wrong")
    await desk.run(RequeueDeadLetter(notification_id=an_id("a"), note="number corrected"))
    await desk.drain(sender)
    assert [message.to for message in desk.sandbox.evidence.find()] == ["+8613800000010"]


async def test_an_attempt_that_fails_after_its_customer_was_erased_is_not_repeated(desk: Desk) -> None:
    """Even where the message itself has not heard of it."""
    await desk.customer("CustomerRegistered", **REGISTERED)
    await desk.ask("a")
    await desk.run(StartAttempt(notification_id=an_id("a"), provider="generic", address=NUMBER))
    shredded: dict[str, Any] = {"key_id": str(an_id("key")), "destroyed_at": NOON.isoformat()}
    await desk.customer("PersonalDataShredded", **shredded, fingerprint="", proof="")
    assert ((await desk.row("a")).state, (await desk.row("a")).text) == ("attempting", "")
    sender = desk.sender()
    await desk.drain(sender)
    desk.clock.advance(timedelta(minutes=5))
    await desk.drain(sender)
    assert ((await desk.row("a")).state, (await desk.row("a")).why) == ("suppressed", "erased")
    assert desk.arrived() == []


async def test_a_consent_withdrawn_while_the_message_waited_is_respected(desk: Desk) -> None:
    await desk.customer("CustomerRegistered", **REGISTERED)
    await desk.ask("service", category="service", consent="service_default")
    await desk.ask("contract")
    await desk.customer("ConsentWithdrawn", purpose="service", channel="sms")
    await desk.drain(desk.sender())
    assert desk.arrived() == ["message contract"]
    row = await desk.row("service")
    assert (row.state, row.why) == ("suppressed", "opted_out")


OUT_OF_REACH: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "handed over": [("CustomerTransferred", {"to_store": "D002"})],
    "handed over and shared with a third store": [
        ("CustomerTransferred", {"to_store": "D002"}),
        ("CustomerShared", {"store": "D003"}),
    ],
    "no longer shared": [
        ("CustomerTransferred", {"to_store": "D002"}),
        ("CustomerShared", {"store": "D001"}),
        ("CustomerUnshared", {"store": "D001"}),
    ],
}


@pytest.mark.parametrize("events", OUT_OF_REACH.values(), ids=OUT_OF_REACH)
async def test_a_customer_whom_the_store_lost_while_the_message_waited_is_not_written_to(
    desk: Desk, events: list[tuple[str, dict[str, Any]]]
) -> None:
    await desk.customer("CustomerRegistered", **REGISTERED)
    await desk.ask("a", category="safety", consent="safety")
    for event, data in events:
        await desk.customer(event, **data)
    await desk.drain(desk.sender())
    row = await desk.row("a")
    assert (row.state, row.why, row.address) == ("suppressed", "out_of_scope", NUMBER)
    assert desk.arrived() == []


async def test_a_customer_who_was_handed_over_and_is_shared_is_still_written_to(desk: Desk) -> None:
    await desk.customer("CustomerRegistered", **REGISTERED)
    await desk.ask("a")
    await desk.customer("CustomerTransferred", to_store="D002")
    await desk.customer("CustomerShared", store="D001")
    await desk.drain(desk.sender())
    assert desk.arrived() == ["message a"]


async def test_before_a_message_of_unknown_outcome_is_repeated_consent_is_asked_again(desk: Desk) -> None:
    await desk.customer("CustomerRegistered", **REGISTERED)
    desk.fault("generic", "timeout", taken=False, times=1)
    await desk.ask("a", category="service", consent="service_default")
    sender = desk.sender()
    await desk.drain(sender)
    assert (await desk.row("a")).unknown == 1
    await desk.customer("ConsentWithdrawn", purpose="service", channel="sms")
    desk.clock.advance(timedelta(seconds=10))
    await desk.drain(sender)
    row = await desk.row("a")
    assert (row.state, row.why) == ("suppressed", "opted_out")
    assert desk.arrived() == []


async def test_a_dead_letter_of_unknown_outcome_is_not_sent_again_to_who_objected_since(desk: Desk) -> None:
    await desk.customer("CustomerRegistered", **REGISTERED)
    desk.fault("smtp", "drop", taken=True, times=1)
    await desk.ask("a", "email", category="service", consent="service_default")
    sender = desk.sender()
    await desk.drain(sender)
    assert ((await desk.row("a")).state, desk.arrived()) == ("dead", ["message a"])
    await desk.customer("ConsentWithdrawn", purpose="service", channel="email")
    await desk.run(RequeueDeadLetter(notification_id=an_id("a"), note="once more"))
    await desk.drain(sender)
    row = await desk.row("a")
    assert (row.state, row.why) == ("suppressed", "opted_out")
    assert desk.arrived() == ["message a"]


async def test_a_message_of_unknown_outcome_that_is_too_late_is_found_out_about_not_repeated(
    desk: Desk,
) -> None:
    desk.fault("generic", "timeout", taken=False, times=1)
    await desk.ask("a")
    sender = desk.sender()
    await desk.drain(sender)
    desk.clock.advance(timedelta(hours=48))
    await desk.drain(sender)
    assert ((await desk.row("a")).state, desk.arrived()) == ("expired", [])


async def test_a_requeued_mail_of_unknown_outcome_that_is_too_late_is_parked_again(desk: Desk) -> None:
    desk.fault("smtp", "drop", taken=True, times=1)
    await desk.ask("a", "email")
    sender = desk.sender()
    await desk.drain(sender)
    await desk.run(RequeueDeadLetter(notification_id=an_id("a"), note="once more"))
    desk.clock.advance(timedelta(hours=48))
    await desk.drain(sender)
    row = await desk.row("a")
    assert (row.state, row.why, row.failure_code) == ("dead", "outcome_unknown", "expired")
    assert desk.arrived() == ["message a"]


CATEGORIES = ("contract", "safety", "service", "marketing")
CHANNELS = ("sms", "email")
SAID = ("ConsentGranted", "ConsentWithdrawn", "")


def may_go_out(category: str, said: str) -> bool:
    """What a customer said last about a purpose and a channel, and whether such a message may leave the house."""
    if category in ("contract", "safety"):
        return True
    return said == "ConsentGranted" if category == "marketing" else said != "ConsentWithdrawn"


async def test_what_was_said_about_each_purpose_and_channel_counts_when_a_message_leaves(desk: Desk) -> None:
    """Whatever was found when it was asked for: the sender looks again, for this purpose and this channel only."""
    expected = []
    for category, channel, said in product(CATEGORIES, CHANNELS, SAID):
        label = f"{category} {channel} {said or 'silent'}"
        customer_id = an_id(label)
        await desk.customer("CustomerRegistered", customer_id, **REGISTERED)
        await desk.ask(label, channel, category=category, customer_id=customer_id, consent="granted")
        for purpose, other in product(CATEGORIES, CHANNELS):
            if (purpose, other) == (category, channel):
                if said:
                    await desk.customer(said, customer_id, purpose=purpose, channel=other)
            elif said != "ConsentWithdrawn":
                # What is said of others is the opposite, and changes nothing.
                await desk.customer("ConsentWithdrawn", customer_id, purpose=purpose, channel=other)
            else:
                await desk.customer("ConsentGranted", customer_id, purpose=purpose, channel=other)
        if may_go_out(category, said):
            expected.append(f"message {label}")
    await desk.drain(desk.sender())
    assert sorted(desk.arrived()) == sorted(expected)
    assert len(expected) == 12 + 4 + 2


async def test_a_message_that_nobody_could_send_in_time_expires(desk: Desk) -> None:
    await desk.ask("a")
    desk.clock.advance(timedelta(hours=48))
    await desk.drain(desk.sender())
    assert (await desk.row("a")).state == "expired"
    assert desk.arrived() == []


@pytest.mark.parametrize(
    ("channel", "provider", "state"), [("sms", "generic", "accepted"), ("email", "smtp", "dead")]
)
async def test_an_attempt_that_a_killed_process_left_behind(
    desk: Desk, channel: str, provider: str, state: str
) -> None:
    """With keys it is repeated, without it is parked: in neither case does the customer hear twice."""
    await desk.ask("a", channel)
    address = NUMBER if channel == "sms" else MAIL
    await desk.run(StartAttempt(notification_id=an_id("a"), provider=provider, address=address))
    sender = desk.sender()
    await desk.drain(sender)
    desk.clock.advance(timedelta(seconds=10))
    await desk.drain(sender)
    row = await desk.row("a")
    assert row.state == state
    assert len(desk.arrived()) == (1 if state == "accepted" else 0)


async def test_a_channel_that_hangs_does_not_hold_up_the_other(desk: Desk) -> None:
    desk.fault("generic", "timeout")
    for number in range(20):
        await desk.ask(f"s{number}")
        await desk.ask(f"e{number}", "email")
    sender = desk.sender(notify_concurrency=2, notify_timeout_seconds=5.0)
    running = asyncio.create_task(sender.run(0.2))
    await poll_async(lambda: len(desk.arrived(channel="email")) > 2, what="mails to pass the texts by")
    assert not running.done()
    desk.sandbox.faults.clear()
    await running
