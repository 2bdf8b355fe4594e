"""What the read models of notify show after which events."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from forecourt.events import Event
from forecourt.testing.given import NOW, an_id, given_rows, later, recorded
from notify import foreign
from notify import notification as n
from notify.read_models import (
    ContactRow,
    HistoryRow,
    NotificationRow,
    contacts,
    history,
    notifications,
)
from tests.golden.test_notify_golden import SAMPLES

CUSTOMER, ID = an_id("customer"), an_id("notification")
REQUESTED = SAMPLES[0]
ATTEMPTED = n.ProviderAttempted(customer_id=CUSTOMER, provider="smtp", attempt=1, address="new@example.com")

REGISTERED = foreign.CustomerRegistered(
    name="王小明",
    language="zh",
    time_zone="Asia/Shanghai",
    contact_points=(
        foreign.ContactPoint(kind="mobile", value="+8613800000001"),
        foreign.ContactPoint(kind="mobile", value="+8613800000002"),
        foreign.ContactPoint(kind="wechat", value="wx"),
    ),
    consents=(foreign.ConsentGiven(purpose="marketing", channel="sms"),),
)


def folded(projection: Any, stream_id: UUID, *events: Any) -> dict[Any, Any]:
    batch = [
        recorded(event, stream_id=stream_id, sequence=i, time=NOW + timedelta(minutes=i))
        for i, event in enumerate(events, start=1)
    ]
    return given_rows(projection).when(*batch).rows


def contact(*events: Any) -> ContactRow:
    row: ContactRow = folded(contacts, CUSTOMER, REGISTERED, *events)[CUSTOMER,]
    return row


def message(*events: Event) -> NotificationRow:
    row: NotificationRow = folded(notifications, ID, REQUESTED, *events)[ID,]
    return row


def failed(outcome: Any, **more: Any) -> n.ProviderFailed:
    values = {"provider": "smtp", "attempt": 1, "code": "c", "retry_at": later(hours=1)}
    return n.ProviderFailed(outcome=outcome, next_provider="smtp2", **{**values, **more})


def test_a_contact_is_written_to_at_its_first_mobile_until_there_is_a_newer_one() -> None:
    assert contact().mobile == "+8613800000001"
    assert contact().address("email") == ""
    added = foreign.ContactPointAdded(kind="email", value="wang@example.com")
    newer = foreign.ContactPointAdded(kind="mobile", value="+8613800000003")
    assert (contact(added, newer).email, contact(added, newer).mobile) == (
        "wang@example.com",
        "+8613800000003",
    )


def test_a_corrected_profile_counts() -> None:
    corrections = {"name": "王明", "language": "en", "time_zone": "Europe/Berlin", "mobile": "+86139"}
    row = contact(*(foreign.ProfileCorrected(field=f, value=v) for f, v in corrections.items()))
    assert {field: getattr(row, field) for field in corrections} == corrections
    assert contact(foreign.ProfileCorrected(field="hobby", value="x")) == contact()


def test_the_last_word_about_consent_counts() -> None:
    withdrawn = foreign.ConsentWithdrawn(purpose="marketing", channel="sms")
    granted = foreign.ConsentGranted(purpose="marketing", channel="sms")
    assert contact().consent("marketing", "sms") == "granted"
    assert contact().consent("service", "sms") == "silent"
    assert contact(withdrawn).consent("marketing", "sms") == "withdrawn"
    assert contact(withdrawn, granted).consent("marketing", "sms") == "granted"
    assert contact(withdrawn).consent("marketing", "email") == "silent"


def test_events_of_customers_that_are_not_known_make_no_contact() -> None:
    strays = [
        foreign.ContactPointAdded(kind="email", value="a@b.cn"),
        foreign.ProfileCorrected(field="name", value="x"),
        foreign.ConsentGranted(purpose="service", channel="sms"),
        foreign.ConsentWithdrawn(purpose="service", channel="sms"),
    ]
    assert folded(contacts, CUSTOMER, *strays) == {(CUSTOMER,): None}


def test_a_message_is_due_at_once_or_when_its_deferral_ends() -> None:
    assert (message().state, message().due_at) == ("queued", NOW + timedelta(minutes=1))
    deferred = message(n.NotificationDeferred(until=later(hours=9), reason="quiet_hours"))
    assert (deferred.state, deferred.due_at, deferred.why) == ("deferred", later(hours=9), "quiet_hours")


def test_an_attempt_shows_provider_and_address() -> None:
    row = message(ATTEMPTED)
    assert (row.state, row.provider, row.attempts) == ("attempting", "smtp", 1)
    assert row.address == "new@example.com"
    assert row.version == 2


def test_a_failure_is_due_again_as_planned() -> None:
    row = message(ATTEMPTED, failed("not_sent"))
    assert (row.state, row.failures, row.next_provider) == ("queued", 1, "smtp2")
    assert row.due_at == later(hours=1)
    assert row.unknown == 0


def test_unknown_outcomes_are_counted_until_one_is_known() -> None:
    twice = (ATTEMPTED, failed("unknown"), ATTEMPTED, failed("unknown"))
    assert message(*twice).unknown == 2
    assert message(*twice, ATTEMPTED, failed("not_sent")).unknown == 2
    assert message(*twice, failed("withdrawn")).unknown == 0
    accepted = n.NotificationAccepted(
        customer_id=CUSTOMER, channel="email", provider="smtp", attempt=2, reference="r"
    )
    assert message(*twice, accepted).unknown == 0


def test_each_end_has_its_state() -> None:
    ends = {
        "suppressed": n.NotificationSuppressed(customer_id=CUSTOMER, channel="sms", reason="opted_out"),
        "expired": n.NotificationExpired(customer_id=CUSTOMER, channel="sms"),
        "dead": n.NotificationDeadLettered(customer_id=CUSTOMER, channel="sms", reason="refused"),
        "accepted": n.NotificationAccepted(
            customer_id=CUSTOMER, channel="email", provider="smtp", attempt=1, reference="r"
        ),
        "delivered": n.NotificationDelivered(
            customer_id=CUSTOMER, channel="email", provider="smtp", reference="r"
        ),
        "bounced": n.NotificationBounced(
            customer_id=CUSTOMER, channel="email", provider="smtp", reference="r", code="absent"
        ),
    }
    assert {state: message(ATTEMPTED, event).state for state, event in ends.items()} == {s: s for s in ends}
    assert message(ATTEMPTED, ends["delivered"], ends["accepted"]).state == "delivered"
    assert message(ATTEMPTED, ends["dead"]).why == "refused"


def test_a_requeued_message_starts_anew() -> None:
    dead = n.NotificationDeadLettered(customer_id=CUSTOMER, channel="email", reason="refused")
    requeued = n.DeadLetterRequeued(customer_id=CUSTOMER, note="again", expires_at=later(days=9))
    row = message(ATTEMPTED, failed("refused", retry_at=None), dead, requeued)
    assert (row.state, row.failures, row.next_provider, row.why) == ("queued", 0, "", "")
    assert row.expires_at == later(days=9)
    assert row.due_at == row.updated_at


def test_every_event_is_a_line_of_the_history_and_none_names_the_person() -> None:
    rows: dict[Any, HistoryRow] = folded(history, ID, *SAMPLES)
    assert [row.event for row in rows.values()] == [event.event_name for event in SAMPLES]
    first = rows[ID, 1]
    assert first.detail == (
        "sales.VehicleArrived → rule vehicle_arrived; consent: contract; template: vehicle_arrived v1"
    )
    assert "wang@example.com" not in repr(rows)
    assert "王小明" not in repr(rows)
    assert "number corrected" not in repr(rows)


def test_events_without_their_request_make_no_message() -> None:
    for event in SAMPLES[1:]:
        assert folded(notifications, ID, event) == {(ID,): None}


def test_of_an_erased_customer_nothing_is_left_to_write_to() -> None:
    row = contact(foreign.PersonalDataShredded())
    assert row.erased
    assert (row.mobile, row.email, row.granted) == ("", "", ())
    assert "王小明" not in repr(row)
    assert "138" not in repr(row)
    assert not contact().erased


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((), "suppressed"),
        ((n.NotificationDeferred(until=later(hours=1), reason="quiet_hours"),), "suppressed"),
        ((ATTEMPTED,), "attempting"),
    ],
    ids=["waiting", "deferred", "under way"],
)
def test_the_messages_of_an_erased_customer_are_empty_and_the_others_stay(
    events: tuple[Event, ...], state: str
) -> None:
    told = [recorded(event, stream_id=ID, sequence=i) for i, event in enumerate((REQUESTED, *events), 1)]
    other = recorded(
        REQUESTED.model_copy(update={"customer_id": an_id("other")}), stream_id=an_id("o"), sequence=1
    )
    gone = recorded(foreign.PersonalDataShredded(), stream_id=CUSTOMER, sequence=9)
    rows = given_rows(notifications).when(*told, other, gone).rows
    row = rows[ID,]
    assert (row.address, row.subject, row.text, row.html, row.state) == ("", "", "", "", state)
    assert (rows[an_id("o"),].text, rows[an_id("o"),].state) == (REQUESTED.text, "queued")  # type: ignore[attr-defined]


def test_of_an_erased_message_address_and_text_are_gone() -> None:
    row = message(n.NotificationErased(customer_id=CUSTOMER))
    assert (row.address, row.subject, row.text, row.html) == ("", "", "", "")
    assert row.template == REQUESTED.template  # type: ignore[attr-defined]  # a sample is an Event to mypy
