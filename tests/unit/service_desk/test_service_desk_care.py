"""Return visits and reminders: due once, answered by a form, moved by mileage."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from pydantic import ValidationError

from forecourt.testing.given import an_id, given, later
from service_desk.reminder import (
    FulfilReminder,
    MarkReminderDue,
    NoteOdometer,
    ReminderBecameDue,
    ReminderFulfilled,
    ReminderIsOver,
    ReminderRescheduled,
    ReminderScheduled,
    ReminderWithdrawn,
    ScheduleReminder,
    WithdrawReminder,
    due_by_mileage,
    reminder,
    reminder_id,
)
from service_desk.return_visit import (
    FORMS,
    Answer,
    AnswersDoNotFit,
    CompleteReturnVisit,
    ExpireReturnVisit,
    FormUnknown,
    LowScoreFlagged,
    MarkReturnVisitDue,
    RecordReturnVisitAttempt,
    ReturnVisitAttempted,
    ReturnVisitBecameDue,
    ReturnVisitCompleted,
    ReturnVisitExpired,
    ReturnVisitIsOver,
    ReturnVisitNotDue,
    ReturnVisitScheduled,
    ScheduleReturnVisit,
    Trigger,
    return_visit,
)

VIN = "LVSHCAMEX1F123456"
CUSTOMER = an_id("customer")

VISIT = an_id("return visit")
ABOUT: dict[str, Any] = {
    "customer_id": CUSTOMER,
    "vin": VIN,
    "trigger": "repair",
    "trigger_id": an_id("repair order"),
}
PLANNED = ReturnVisitScheduled(**ABOUT, due_at=later(days=3))
DUE = ReturnVisitBecameDue(**ABOUT, expires_at=later(days=17))


def test_a_return_visit_is_planned() -> None:
    given(return_visit).when(ScheduleReturnVisit(return_visit_id=VISIT, **ABOUT, due_at=later(days=3))).then(
        PLANNED
    )


def test_it_becomes_due_once_and_not_before_its_time() -> None:
    mark = MarkReturnVisitDue(return_visit_id=VISIT)
    given(return_visit, PLANNED).at(later(days=3, seconds=-1)).when(mark).then_nothing()
    given(return_visit, PLANNED).at(later(days=3)).when(mark).then(DUE)
    given(return_visit, PLANNED, DUE).at(later(days=4)).when(mark).then_nothing()


def answers(trigger: Trigger, score: int) -> tuple[Answer, ...]:
    form = FORMS[trigger, 1]
    return tuple(Answer(question=question, score=score) for question in form)


def test_attempts_are_counted_while_it_is_due() -> None:
    attempt = RecordReturnVisitAttempt(return_visit_id=VISIT, channel="phone", result="no_answer")
    given(return_visit, PLANNED).when(attempt).then_raises(ReturnVisitNotDue)
    first = ReturnVisitAttempted(channel="phone", result="no_answer", attempt=1)
    given(return_visit, PLANNED, DUE).when(attempt).then(first)
    (second,) = given(return_visit, PLANNED, DUE, first).when(attempt).events
    assert isinstance(second, ReturnVisitAttempted)
    assert second.attempt == 2


def test_answers_make_a_weighted_score() -> None:
    mixed = tuple(
        Answer(question=question, score=score)
        for question, score in zip(FORMS["repair", 1], (10, 9, 5, 7), strict=True)
    )
    command = CompleteReturnVisit(return_visit_id=VISIT, answers=mixed, satisfied=True)
    (done,) = given(return_visit, PLANNED, DUE).when(command).then_types(ReturnVisitCompleted)
    assert isinstance(done, ReturnVisitCompleted)
    assert done.csi == Decimal("8.0")
    given(return_visit, PLANNED, DUE, done).when(command).then_raises(ReturnVisitIsOver)


@pytest.mark.parametrize(
    ("score", "satisfied", "flagged"), [(6, True, False), (5, True, True), (9, False, True)]
)
def test_a_bad_answer_is_flagged(score: int, satisfied: bool, flagged: bool) -> None:
    command = CompleteReturnVisit(
        return_visit_id=VISIT, answers=answers("repair", score), satisfied=satisfied
    )
    events = given(return_visit, PLANNED, DUE).when(command).events
    assert [type(event) for event in events] == [ReturnVisitCompleted, LowScoreFlagged][: 1 + flagged]


def test_a_customer_may_answer_no_question() -> None:
    (done,) = (
        given(return_visit, PLANNED, DUE)
        .when(CompleteReturnVisit(return_visit_id=VISIT, satisfied=True))
        .events
    )
    assert isinstance(done, ReturnVisitCompleted)
    assert done.csi is None


@pytest.mark.parametrize(
    "given_answers",
    [
        answers("delivery", 8),
        answers("repair", 8)[:-1],
        (*answers("repair", 8), Answer(question="on_time", score=3)),
    ],
)
def test_answers_that_do_not_fit_the_form_are_refused(given_answers: tuple[Answer, ...]) -> None:
    command = CompleteReturnVisit(return_visit_id=VISIT, answers=given_answers, satisfied=True)
    given(return_visit, PLANNED, DUE).when(command).then_raises(AnswersDoNotFit, field="answers")


def test_a_form_that_never_was_is_refused() -> None:
    command = CompleteReturnVisit(return_visit_id=VISIT, form_version=9, satisfied=True)
    given(return_visit, PLANNED, DUE).when(command).then_raises(FormUnknown, field="form_version")


def test_the_weights_of_every_form_add_up() -> None:
    assert {form: sum(weights.values()) for form, weights in FORMS.items()} == dict.fromkeys(FORMS, 1)


def test_it_expires_two_weeks_after_it_became_due() -> None:
    expire = ExpireReturnVisit(return_visit_id=VISIT)
    given(return_visit, PLANNED).at(later(days=90)).when(expire).then_nothing()
    given(return_visit, PLANNED, DUE).at(later(days=16)).when(expire).then_nothing()
    gone = ReturnVisitExpired(customer_id=CUSTOMER, attempts=0)
    given(return_visit, PLANNED, DUE).at(later(days=17)).when(expire).then(gone)
    given(return_visit, PLANNED, DUE, gone).at(later(days=18)).when(expire).then_nothing()


@pytest.mark.parametrize("score", [-1, 11])
def test_a_score_is_from_0_to_10(score: int) -> None:
    with pytest.raises(ValidationError):
        Answer(question="price", score=score)


REMINDER = reminder_id(VIN, "first_maintenance", "1")
SCHEDULED = ReminderScheduled(
    customer_id=CUSTOMER,
    vin=VIN,
    kind="first_maintenance",
    cycle="1",
    due_on=date(2026, 4, 5),
    due_at=datetime(2026, 4, 5, 1, 0, tzinfo=UTC),
    due_km=5_000,
    odometer_km=10,
    read_on=date(2026, 1, 5),
    rule_version=1,
)


def test_a_reminder_is_planned_for_nine_in_the_morning_of_the_store() -> None:
    command = ScheduleReminder(
        reminder_id=REMINDER,
        customer_id=CUSTOMER,
        vin=VIN,
        kind="first_maintenance",
        cycle="1",
        due_on=date(2026, 4, 5),
        due_km=5_000,
        odometer_km=10,
        read_on=date(2026, 1, 5),
        rule_version=1,
    )
    given(reminder).when(command).then(SCHEDULED)


def test_a_reminder_becomes_due_once() -> None:
    mark = MarkReminderDue(reminder_id=REMINDER)
    due = ReminderBecameDue(customer_id=CUSTOMER, vin=VIN, kind="first_maintenance", due_on=date(2026, 4, 5))
    given(reminder, SCHEDULED).at(SCHEDULED.due_at - timedelta(seconds=1)).when(mark).then_nothing()
    given(reminder, SCHEDULED).at(SCHEDULED.due_at).when(mark).then(due)
    given(reminder, SCHEDULED, due).at(SCHEDULED.due_at).when(mark).then_nothing()


def test_much_driving_brings_it_forward_and_little_driving_does_not_put_it_off() -> None:
    reading = NoteOdometer(reminder_id=REMINDER, odometer_km=2_510, read_on=date(2026, 1, 30))
    (moved,) = given(reminder, SCHEDULED).when(reading).then_types(ReminderRescheduled)
    assert isinstance(moved, ReminderRescheduled)
    # 2,500 km in 25 days: the remaining 2,490 km take 25 more.
    assert (moved.due_on, moved.previous_due_on) == (date(2026, 2, 24), date(2026, 4, 5))
    mark = MarkReminderDue(reminder_id=REMINDER)
    given(reminder, SCHEDULED, moved).at(moved.due_at).when(mark).then_types(ReminderBecameDue)
    slow = NoteOdometer(reminder_id=REMINDER, odometer_km=200, read_on=date(2026, 1, 30))
    given(reminder, SCHEDULED).when(slow).then_nothing()


def test_a_later_slower_reading_moves_it_back_but_never_past_the_calendar() -> None:
    fast = NoteOdometer(reminder_id=REMINDER, odometer_km=2_510, read_on=date(2026, 1, 30))
    moved = given(reminder, SCHEDULED).when(fast).events
    slow = NoteOdometer(reminder_id=REMINDER, odometer_km=2_550, read_on=date(2026, 2, 20))
    (again,) = given(reminder, SCHEDULED, *moved).when(slow).events
    assert isinstance(again, ReminderRescheduled)
    assert again.due_on == date(2026, 4, 5)


def test_an_older_reading_and_one_for_a_date_only_reminder_change_nothing() -> None:
    old = NoteOdometer(reminder_id=REMINDER, odometer_km=4_000, read_on=date(2026, 1, 5))
    given(reminder, SCHEDULED).when(old).then_nothing()
    by_date = SCHEDULED.model_copy(update={"kind": "insurance_renewal", "due_km": None})
    reading = NoteOdometer(reminder_id=REMINDER, odometer_km=90_000, read_on=date(2026, 2, 1))
    given(reminder, by_date).when(reading).then_nothing()


def test_a_reminder_is_fulfilled_or_withdrawn_once() -> None:
    fulfil = FulfilReminder(reminder_id=REMINDER, repair_order_id=an_id("order"))
    withdraw = WithdrawReminder(reminder_id=REMINDER, cause="vehicle_sold")
    (done,) = given(reminder, SCHEDULED).when(fulfil).then_types(ReminderFulfilled)
    given(reminder, SCHEDULED, done).when(fulfil).then_nothing()
    given(reminder, SCHEDULED, done).when(withdraw).then_raises(ReminderIsOver)
    (gone,) = given(reminder, SCHEDULED).when(withdraw).then_types(ReminderWithdrawn)
    given(reminder, SCHEDULED, gone).when(withdraw).then_nothing()
    given(reminder, SCHEDULED, gone).when(fulfil).then_nothing()
    mark = MarkReminderDue(reminder_id=REMINDER)
    for over in (done, gone):
        given(reminder, SCHEDULED, over).at(SCHEDULED.due_at).when(mark).then_nothing()


def test_there_is_one_reminder_of_a_kind_and_cycle() -> None:
    assert reminder_id(VIN, "first_maintenance", "1") == REMINDER
    assert reminder_id(VIN, "first_maintenance", "2") != REMINDER


days = st.dates(date(2025, 1, 1), date(2030, 1, 1))


@for_all(days, st.integers(1, 900), st.integers(0, 200_000), st.integers(0, 200_000), st.integers(1, 400_000))
def test_mileage_is_reached_no_sooner_than_the_driving_says(
    first_day: date, between: int, first_km: int, driven: int, due_km: int
) -> None:
    latest = (first_day + timedelta(days=between), first_km + driven)
    found = due_by_mileage(due_km, (first_day, first_km), latest)
    if found is None:
        assert driven == 0 or (due_km - latest[1]) * between / driven > 3_658
        return
    assert found >= latest[0]
    ahead = (found - latest[0]).days
    assert latest[1] + ahead * driven / between >= min(due_km, latest[1] + 1) - 1e-6
    assert ahead == 0 or latest[1] + (ahead - 1) * driven / between < due_km
