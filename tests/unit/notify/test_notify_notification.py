"""What a message goes through, as decisions: given events, when a command, then events or a refusal."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from forecourt.deciders import Command
from forecourt.errors import AlreadyExists, NotFound
from forecourt.events import Event
from forecourt.testing.given import NOW, an_id, given, later
from notify.notification import (
    AttemptUnderWay,
    DeadLetterRequeued,
    DeferNotification,
    EraseNotification,
    ExpireNotification,
    ForeignReceipt,
    NoSuchAttempt,
    NotADeadLetter,
    NotificationAccepted,
    NotificationBounced,
    NotificationDeadLettered,
    NotificationDeferred,
    NotificationDelivered,
    NotificationErased,
    NotificationExpired,
    NotificationRequested,
    NotificationSuppressed,
    NotQueued,
    OutcomeUnknown,
    ProviderAttempted,
    ProviderFailed,
    ProviderFailedOver,
    RecordAccepted,
    RecordFailure,
    RecordReceipt,
    RequestNotification,
    RequeueDeadLetter,
    StartAttempt,
    SuppressNotification,
    key_of,
    notification,
)

ID, CUSTOMER, REASON = an_id("notification"), an_id("customer"), an_id("reason")
ADDRESS = "+8613800000001"

FACTS: dict[str, Any] = {
    "customer_id": CUSTOMER,
    "category": "contract",
    "channel": "sms",
    "rule": "vehicle_arrived",
    "reason_event_id": REASON,
    "reason_event_type": "sales.VehicleArrived",
    "reason_stream": f"order-{an_id('order')}",
    "consent": "contract",
    "template": "vehicle_arrived",
    "template_version": 1,
    "language": "zh",
    "time_zone": "Asia/Shanghai",
    "address": ADDRESS,
    "subject": "",
    "text": "您的车到店了",
    "html": "",
    "lifetime_hours": 48,
    "expires_at": later(hours=48),
}
REQUESTED = NotificationRequested(idempotency_key=ID, **FACTS)
ATTEMPTED = ProviderAttempted(customer_id=CUSTOMER, provider="generic", attempt=1, address=ADDRESS)
DEAD = NotificationDeadLettered(customer_id=CUSTOMER, channel="sms", reason="providers_exhausted")
ACCEPTED = NotificationAccepted(
    customer_id=CUSTOMER, channel="sms", provider="generic", attempt=1, reference="m1"
)
DELIVERED = NotificationDelivered(customer_id=CUSTOMER, channel="sms", provider="generic", reference="m1")
BOUNCED = NotificationBounced(
    customer_id=CUSTOMER, channel="sms", provider="generic", reference="m1", code="absent"
)
START = StartAttempt(notification_id=ID, provider="generic", address=ADDRESS)
ACCEPT = RecordAccepted(notification_id=ID, provider="generic", attempt=1, reference="m1")
RECEIPT = RecordReceipt(notification_id=ID, provider="generic", reference="m1", status="delivered")


def request(**changes: Any) -> RequestNotification:
    return RequestNotification(notification_id=ID, **{**FACTS, **changes})


def failed(outcome: Any, **changes: Any) -> ProviderFailed:
    values = {"provider": "generic", "attempt": 1, "code": "http_503", "retry_at": later(seconds=10)}
    return ProviderFailed(outcome=outcome, next_provider="generic", **{**values, **changes})


def fail(outcome: Any, **changes: Any) -> RecordFailure:
    values: dict[str, Any] = {"provider": "generic", "attempt": 1, "code": "http_503"}
    if "dead_letter" not in changes:
        values |= {"retry_at": later(seconds=10), "next_provider": "generic"}
    return RecordFailure(notification_id=ID, outcome=outcome, **{**values, **changes})


def test_the_key_depends_on_the_reason_and_the_rule_only() -> None:
    assert key_of(REASON, "a") == key_of(REASON, "a")
    assert len({key_of(REASON, "a"), key_of(REASON, "b"), key_of(an_id("other"), "a")}) == 3


def test_a_requested_message_waits_to_be_sent() -> None:
    given(notification).when(request()).then(REQUESTED)


def test_the_same_message_is_requested_once() -> None:
    given(notification, REQUESTED).when(request()).then_raises(AlreadyExists)


def test_in_quiet_hours_it_is_deferred_with_the_reason() -> None:
    until = later(hours=10)
    asked = request(defer_until=until, defer_reason="quiet_hours")
    given(notification).when(asked).then(REQUESTED, NotificationDeferred(until=until, reason="quiet_hours"))


LATE: dict[str, Any] = {"address": "", "text": "", "expires_at": NOW, "too_late": True}
REQUESTED_LATE = REQUESTED.model_copy(update={"address": "", "text": "", "expires_at": NOW})
EXPIRED = NotificationExpired(customer_id=CUSTOMER, channel="sms")


def test_a_message_that_comes_too_late_is_recorded_as_expired() -> None:
    given(notification).when(request(**LATE)).then(REQUESTED_LATE, EXPIRED)


def test_what_came_too_late_is_not_asked_for_again_nor_sent() -> None:
    late = given(notification, REQUESTED_LATE, EXPIRED)
    late.when(request()).then_raises(AlreadyExists)
    given(notification, REQUESTED_LATE, EXPIRED).when(START).then_raises(NotQueued)


def test_without_consent_it_is_recorded_as_suppressed() -> None:
    suppressed = request(consent=None, address="", text="", suppress="opted_out")
    events = given(notification).when(suppressed).then_types(NotificationRequested, NotificationSuppressed)
    assert events[1] == NotificationSuppressed(customer_id=CUSTOMER, channel="sms", reason="opted_out")


@pytest.mark.parametrize("changes", [{"address": ""}, {"text": ""}, {"defer_until": NOW}, {"language": "fr"}])
def test_a_message_that_could_not_be_sent_is_not_requested(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**changes)


def test_an_attempt_is_recorded_before_it_is_made() -> None:
    given(notification, REQUESTED).when(START).then(ATTEMPTED)


def test_a_message_that_is_being_sent_is_not_sent_by_another() -> None:
    given(notification, REQUESTED, ATTEMPTED).when(START).then_raises(AttemptUnderWay)


@pytest.mark.parametrize("last", [ACCEPTED, DELIVERED, BOUNCED, DEAD])
def test_a_finished_message_is_not_sent_again(last: Event) -> None:
    given(notification, REQUESTED, ATTEMPTED, last).when(START).then_raises(NotQueued)


def test_nothing_is_sent_that_was_never_requested() -> None:
    given(notification).when(START).then_raises(NotFound)


def test_acceptance_is_recorded_with_the_reference() -> None:
    given(notification, REQUESTED, ATTEMPTED).when(ACCEPT).then(ACCEPTED)


def test_an_outcome_belongs_to_the_open_attempt() -> None:
    history = (REQUESTED, ATTEMPTED)
    given(notification, *history).when(ACCEPT.model_copy(update={"attempt": 2})).then_raises(NoSuchAttempt)
    given(notification, *history).when(fail("refused", provider="twilio", dead_letter="refused")).then_raises(
        NoSuchAttempt
    )
    given(notification, REQUESTED).when(ACCEPT).then_raises(NoSuchAttempt)


def test_after_a_failure_it_is_sent_again_as_the_next_attempt() -> None:
    given(notification, REQUESTED, ATTEMPTED).when(fail("not_sent")).then(failed("not_sent"))
    given(notification, REQUESTED, ATTEMPTED, failed("not_sent")).when(START).then(
        ATTEMPTED.model_copy(update={"attempt": 2})
    )


def test_another_provider_takes_over_when_nothing_was_sent() -> None:
    events = (
        given(notification, REQUESTED, ATTEMPTED, failed("not_sent"))
        .when(START.model_copy(update={"provider": "twilio"}))
        .then_types(ProviderFailedOver, ProviderAttempted)
    )
    assert events[0] == ProviderFailedOver(previous="generic", provider="twilio")


def test_no_other_provider_takes_over_while_an_outcome_is_unknown() -> None:
    twilio = START.model_copy(update={"provider": "twilio"})
    unknown = (REQUESTED, ATTEMPTED, failed("unknown"))
    given(notification, *unknown).when(twilio).then_raises(OutcomeUnknown)
    again = (ATTEMPTED.model_copy(update={"attempt": 2}), failed("not_sent", attempt=2))
    given(notification, *unknown, *again).when(twilio).then_raises(OutcomeUnknown)
    given(notification, *unknown, failed("withdrawn")).when(twilio).then_types(
        ProviderFailedOver, ProviderAttempted
    )


def test_giving_up_is_recorded_with_the_failure() -> None:
    given(notification, REQUESTED, ATTEMPTED).when(fail("refused", dead_letter="refused")).then(
        failed("refused", retry_at=None).model_copy(update={"next_provider": None}),
        DEAD.model_copy(update={"reason": "refused"}),
    )


def test_a_failure_either_goes_on_or_is_given_up() -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        fail("refused", dead_letter="refused", retry_at=NOW)
    with pytest.raises(ValidationError, match="exactly one"):
        fail("not_sent", retry_at=None)


def test_an_outcome_that_becomes_known_late_is_recorded() -> None:
    given(notification, REQUESTED, ATTEMPTED, failed("unknown")).when(ACCEPT).then(ACCEPTED)
    parked = DEAD.model_copy(update={"reason": "outcome_unknown"})
    given(notification, REQUESTED, ATTEMPTED, failed("unknown"), parked).when(ACCEPT).then(ACCEPTED)
    given(notification, REQUESTED, ATTEMPTED, failed("unknown"), parked).when(RECEIPT).then(DELIVERED)


def test_receipts_are_recorded_once() -> None:
    history = (REQUESTED, ATTEMPTED, ACCEPTED)
    given(notification, *history).when(RECEIPT).then(DELIVERED)
    given(notification, *history, DELIVERED).when(RECEIPT).then_nothing()
    bounced = RECEIPT.model_copy(update={"status": "bounced", "code": "absent"})
    given(notification, *history).when(bounced).then(BOUNCED)
    given(notification, *history, DELIVERED).when(bounced).then_nothing()


def test_a_receipt_may_overtake_the_answer_that_it_is_about() -> None:
    given(notification, REQUESTED, ATTEMPTED).when(RECEIPT).then(DELIVERED)
    given(notification, REQUESTED, ATTEMPTED, DELIVERED).when(ACCEPT).then(ACCEPTED)
    given(notification, REQUESTED, ATTEMPTED, DELIVERED, ACCEPTED).when(START).then_raises(NotQueued)
    given(notification, REQUESTED, ATTEMPTED, DELIVERED).when(fail("unknown")).then_nothing()


def test_a_receipt_that_says_accepted_only_answers_an_open_question() -> None:
    accepted = RECEIPT.model_copy(update={"status": "accepted"})
    given(notification, REQUESTED, ATTEMPTED, failed("unknown")).when(accepted).then(ACCEPTED)
    given(notification, REQUESTED, ATTEMPTED).when(accepted).then(ACCEPTED)
    given(notification, REQUESTED, ATTEMPTED, ACCEPTED).when(accepted).then_nothing()


def test_a_receipt_of_a_provider_that_never_had_the_message_is_refused() -> None:
    foreign = RECEIPT.model_copy(update={"provider": "twilio"})
    given(notification, REQUESTED, ATTEMPTED, ACCEPTED).when(foreign).then_raises(ForeignReceipt)
    given(notification, REQUESTED).when(RECEIPT).then_raises(ForeignReceipt)


def test_a_message_expires_when_its_time_has_passed() -> None:
    command = ExpireNotification(notification_id=ID)
    expired = NotificationExpired(customer_id=CUSTOMER, channel="sms")
    given(notification, REQUESTED).at(later(hours=47)).when(command).then_raises(NotQueued)
    given(notification, REQUESTED).at(later(hours=48)).when(command).then(expired)
    given(notification, REQUESTED, expired).when(command).then_nothing()
    unknown = given(notification, REQUESTED, ATTEMPTED, failed("unknown")).at(later(hours=48))
    unknown.when(command).then_raises(OutcomeUnknown)


def test_a_waiting_message_can_wait_longer_or_be_dropped() -> None:
    deferred = NotificationDeferred(until=later(hours=3), reason="quiet_hours")
    wait = DeferNotification(notification_id=ID, until=later(hours=3), reason="quiet_hours")
    drop = SuppressNotification(notification_id=ID, reason="opted_out")
    given(notification, REQUESTED, deferred).when(wait).then(deferred)
    given(notification, REQUESTED, deferred).when(drop).then_types(NotificationSuppressed)
    given(notification, REQUESTED, ATTEMPTED).when(drop).then_raises(AttemptUnderWay)
    given(notification, REQUESTED, ATTEMPTED, ACCEPTED).when(wait).then_raises(NotQueued)


def test_a_dead_letter_is_requeued_with_a_note_and_a_new_life() -> None:
    command = RequeueDeadLetter(notification_id=ID, note="number corrected")
    expires_at = NOW + timedelta(days=7, hours=48)
    requeued = DeadLetterRequeued(customer_id=CUSTOMER, note="number corrected", expires_at=expires_at)
    dead = (REQUESTED, ATTEMPTED, failed("not_sent"), DEAD)
    given(notification, *dead).at(NOW + timedelta(days=7)).when(command).then(requeued)
    given(notification, *dead, requeued).when(START).then(ATTEMPTED.model_copy(update={"attempt": 2}))


@pytest.mark.parametrize("history", [(), (ATTEMPTED,), (ATTEMPTED, ACCEPTED)])
def test_only_dead_letters_are_requeued(history: tuple[Event, ...]) -> None:
    command: Command = RequeueDeadLetter(notification_id=ID, note="again")
    given(notification, REQUESTED, *history).when(command).then_raises(NotADeadLetter)


@pytest.mark.parametrize("note", ["", "   ", "x" * 501])
def test_requeueing_needs_a_note(note: str) -> None:
    with pytest.raises(ValidationError):
        RequeueDeadLetter(notification_id=ID, note=note)


ERASE = EraseNotification(notification_id=ID)
ERASED = NotificationErased(customer_id=CUSTOMER)
SUPPRESSED = NotificationSuppressed(customer_id=CUSTOMER, channel="sms", reason="erased")


def test_a_message_to_an_erased_customer_is_forgotten_and_not_sent_any_more() -> None:
    given(notification, REQUESTED).when(ERASE).then(ERASED, SUPPRESSED)
    given(notification, REQUESTED, DEAD).when(ERASE).then(ERASED, SUPPRESSED)
    given(notification, REQUESTED, ERASED, SUPPRESSED).when(ERASE).then_nothing()
    given(notification, REQUESTED, ATTEMPTED, ACCEPTED, DELIVERED).when(ERASE).then(ERASED)


def test_what_is_under_way_to_an_erased_customer_is_not_tried_again() -> None:
    given(notification, REQUESTED, ATTEMPTED).when(ERASE).then(ERASED)
    under_way = given(notification, REQUESTED, ATTEMPTED, ERASED)
    under_way.when(fail("not_sent")).then(failed("not_sent"), SUPPRESSED)
