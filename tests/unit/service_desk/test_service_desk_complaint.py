"""The complaint: its way, its guards, its clock, and the ladder that it climbs once."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import ValidationError

from forecourt.deciders import Command
from forecourt.errors import ForecourtError
from forecourt.events import Event
from forecourt.testing.given import Given, an_id, given
from forecourt.values import Money
from service_desk.complaint import commands as c_
from service_desk.complaint import events as e_
from service_desk.complaint.decisions import complaint
from service_desk.sla import Deadline, Severity

ID = an_id("complaint")
TARGET: dict[str, Any] = {"complaint_id": ID}
MONDAY_9 = datetime(2026, 1, 5, 1, 0, tzinfo=UTC)
"""Nine in the morning in Shanghai, when the office opens."""

RECEIVE = c_.ReceiveComplaint(
    customer_id=an_id("customer"),
    channel="phone",
    severity="normal",
    subject="paint scratched",
    description="the door was scratched in the workshop",
)
WAY: list[Command] = [
    RECEIVE,
    c_.AcknowledgeComplaint(**TARGET),
    c_.TriageComplaint(**TARGET, topic="workmanship", severity="normal"),
    c_.DispatchComplaint(**TARGET, department="service", owner_id="M1"),
    c_.RecordComplaintAction(**TARGET, action="looked at the door"),
    c_.ProposeResolution(
        **TARGET, resolution="paint it again", compensation=Money(amount=Decimal(200), currency="CNY")
    ),
    c_.RecordCustomerReply(**TARGET, accepted=True),
    c_.CompleteRevisit(**TARGET, satisfied=True),
    c_.CloseComplaint(**TARGET, result="resolved"),
]


def follow(start: Given, *commands: Command, at: datetime = MONDAY_9) -> Given:
    """The complaint after further commands, none of which may be refused."""
    history: tuple[Event, ...] = start.events
    for command in commands:
        then = given(complaint, *history).at(at).when(command)
        assert then.error is None, f"{command!r}: {then.error!r}"
        history += then.events
    return given(complaint, *history).at(at)


def after(steps: int) -> Given:
    """The complaint after so many steps of its way."""
    return follow(given(complaint), *WAY[:steps])


def names(start: Given) -> list[str]:
    return [event.event_name for event in start.events]


def test_the_whole_way_leaves_the_expected_facts() -> None:
    assert names(after(len(WAY))) == [
        "ComplaintReceived",
        "SlaStarted",
        "ComplaintAcknowledged",
        "ComplaintTriaged",
        "ComplaintDispatched",
        "ActionRecorded",
        "ResolutionProposed",
        "SlaPaused",
        "CustomerReplied",
        "RevisitCompleted",
        "ComplaintClosed",
    ]


@pytest.mark.parametrize(
    ("steps", "command", "error"),
    [
        (1, WAY[2], c_.NotAcknowledged),
        (1, WAY[3], c_.NotAcknowledged),
        (1, WAY[4], c_.NotAcknowledged),
        (2, WAY[3], c_.NotTriaged),
        (2, WAY[4], c_.NotTriaged),
        (3, WAY[4], c_.NotDispatched),
        (3, WAY[5], c_.NotDispatched),
        (4, WAY[6], c_.NothingProposed),
        (4, WAY[7], c_.NotReplied),
        (4, WAY[8], c_.NotReplied),
        (6, WAY[7], c_.ProposalUnanswered),
        (6, WAY[8], c_.ProposalUnanswered),
        (7, WAY[5], c_.ProposalAccepted),
        (7, WAY[6], c_.NothingProposed),
        (7, WAY[8], c_.NotRevisited),
        (7, c_.CloseComplaint(**TARGET, result="no_agreement"), c_.NotRevisited),
        (8, c_.ReopenComplaint(**TARGET, reason="again"), c_.ComplaintNotClosed),
        (9, WAY[1], c_.ComplaintIsClosed),
        (9, WAY[3], c_.ComplaintIsClosed),
        (9, WAY[4], c_.ComplaintIsClosed),
        (9, WAY[6], c_.ComplaintIsClosed),
        (9, c_.EscalateComplaint(**TARGET), c_.ComplaintIsClosed),
        (9, c_.PauseComplaintSla(**TARGET, reason="parts"), c_.ComplaintIsClosed),
        (4, c_.ResumeComplaintSla(**TARGET), c_.ClockIsRunning),
        (6, c_.PauseComplaintSla(**TARGET, reason="parts"), c_.ClockIsStanding),
    ],
)
def test_an_illegal_step_is_refused_by_name(
    steps: int, command: Command, error: type[ForecourtError]
) -> None:
    after(steps).when(command).then_raises(error)


def test_saying_again_what_is_so_says_nothing() -> None:
    after(2).when(WAY[1]).then_nothing()
    after(9).when(WAY[8]).then_nothing()


def test_who_is_not_satisfied_has_no_resolved_complaint() -> None:
    unhappy = follow(after(7), c_.CompleteRevisit(**TARGET, satisfied=False))
    unhappy.when(WAY[8]).then_raises(c_.CustomerNotSatisfied, field="result")
    unhappy.when(c_.CloseComplaint(**TARGET, result="no_agreement")).then_types(e_.ComplaintClosed)
    better = follow(unhappy, *WAY[5:8])
    better.when(WAY[8]).then_types(e_.ComplaintClosed)


def test_a_new_offer_needs_a_new_reply_and_a_new_revisit() -> None:
    offered = follow(after(7), c_.CompleteRevisit(**TARGET, satisfied=False), WAY[5])
    offered.when(WAY[8]).then_raises(c_.ProposalUnanswered)
    follow(offered, WAY[6]).when(WAY[8]).then_raises(c_.NotRevisited)


def test_a_declined_offer_leads_back_to_handling() -> None:
    declined = follow(after(6), c_.RecordCustomerReply(**TARGET, accepted=False))
    assert complaint.fold(declined.events).status == "handling"
    follow(declined, *WAY[4:]).when(WAY[8]).then_nothing()


def test_what_is_done_while_an_offer_is_open_leaves_it_open() -> None:
    called = follow(after(6), c_.RecordComplaintAction(**TARGET, action="called, no answer"))
    assert complaint.fold(called.events).status == "proposed"
    called.when(WAY[6]).then_types(e_.CustomerReplied)
    called.when(WAY[8]).then_raises(c_.ProposalUnanswered)
    follow(called, *WAY[6:]).when(WAY[8]).then_nothing()


def test_reopening_starts_another_round_with_its_owner() -> None:
    reopened = follow(after(9), c_.ReopenComplaint(**TARGET, reason="the paint came off"))
    state = complaint.fold(reopened.events)
    assert (state.status, state.round, state.owner_id) == ("dispatched", 2, "M1")
    reopened.when(WAY[8]).then_raises(c_.NotReplied)
    follow(reopened, *WAY[4:]).when(c_.ReopenComplaint(**TARGET, reason="x")).then_types(
        e_.ComplaintReopened, e_.SlaStarted
    )


@settings(max_examples=200)
@for_all(
    st.lists(
        st.sampled_from(
            [
                *WAY[1:],
                c_.RecordCustomerReply(**TARGET, accepted=False),
                c_.CompleteRevisit(**TARGET, satisfied=False),
                c_.CloseComplaint(**TARGET, result="no_agreement"),
                c_.ReopenComplaint(**TARGET, reason="again"),
                c_.EscalateComplaint(**TARGET),
                c_.PauseComplaintSla(**TARGET, reason="manufacturer"),
                c_.ResumeComplaintSla(**TARGET),
                c_.TriageComplaint(**TARGET, topic="price", severity="critical"),
                *(c_.ClimbLadder(**TARGET, round=1, level=level) for level in (1, 2, 3)),
            ]
        ),
        max_size=40,
    )
)
def test_no_order_of_steps_closes_before_reply_and_revisit(commands: list[Command]) -> None:
    history: tuple[Event, ...] = after(1).events
    now = MONDAY_9
    for command in commands:
        now += timedelta(hours=7)
        then = given(complaint, *history).at(now).when(command)
        assert then.error is None or type(then.error).__module__ == c_.__name__, repr(then.error)
        history += then.events
    said = [event.event_name for event in history]
    since = 0
    for place, name in enumerate(said):
        if name == "ComplaintClosed":
            assert {"CustomerReplied", "RevisitCompleted"} <= set(said[since:place])
            since = place
    climbed = [(e.round, e.level) for e in history if isinstance(e, e_.ComplaintEscalated)]
    assert len(climbed) == len(set(climbed)), "a level was told twice in a round"
    breached = [(e.round, e.level) for e in history if isinstance(e, e_.SlaBreached)]
    assert len(breached) == len(set(breached)), "a deadline passed twice in a round"


def test_deadlines_are_business_time_by_severity() -> None:
    _, started = given(complaint).at(MONDAY_9).when(RECEIVE).events
    assert isinstance(started, e_.SlaStarted)
    # The office works seven and a half hours a day: forty are five days and two and a half hours.
    assert started.deadlines == (
        Deadline(level=1, due_at=datetime(2026, 1, 5, 6, 30, tzinfo=UTC)),
        Deadline(level=2, due_at=datetime(2026, 1, 12, 3, 30, tzinfo=UTC)),
        Deadline(level=3, due_at=datetime(2026, 1, 13, 4, 0, tzinfo=UTC)),
    )


def climb(level: int, round_: int = 1) -> c_.ClimbLadder:
    return c_.ClimbLadder(**TARGET, round=round_, level=level)


FOUR_HOURS_LATER = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)


def test_a_missed_deadline_is_told_once() -> None:
    late = after(1).at(FOUR_HOURS_LATER)
    breach, told = late.when(climb(1)).then_types(e_.SlaBreached, e_.ComplaintEscalated)
    assert isinstance(told, e_.ComplaintEscalated)
    assert (told.level, told.reason) == (1, "deadline_missed")
    given(complaint, *late.events, breach, told).at(FOUR_HOURS_LATER).when(climb(1)).then_nothing()


def test_nothing_is_told_before_its_time_or_to_another_round() -> None:
    after(1).at(FOUR_HOURS_LATER - timedelta(seconds=1)).when(climb(1)).then_nothing()
    after(1).at(FOUR_HOURS_LATER).when(climb(1, round_=2)).then_nothing()
    after(1).at(FOUR_HOURS_LATER).when(climb(2)).then_nothing()


def test_acknowledging_in_time_takes_the_first_step_away() -> None:
    after(2).at(FOUR_HOURS_LATER).when(climb(1)).then_nothing()
    much_later = MONDAY_9 + timedelta(days=30)
    after(2).at(much_later).when(climb(2)).then_types(e_.SlaBreached, e_.ComplaintEscalated)


def test_a_level_that_was_asked_is_not_told_again() -> None:
    asked = follow(after(1), c_.EscalateComplaint(**TARGET))
    asked.at(FOUR_HOURS_LATER).when(climb(1)).then_types(e_.SlaBreached)
    top = follow(asked, c_.EscalateComplaint(**TARGET), c_.EscalateComplaint(**TARGET))
    top.when(c_.EscalateComplaint(**TARGET)).then_raises(c_.TopOfLadder)


def test_a_standing_clock_misses_nothing_and_goes_on_with_what_was_left() -> None:
    paused = follow(after(1), c_.PauseComplaintSla(**TARGET, reason="customer"))
    a_week_later = MONDAY_9 + timedelta(days=7)
    paused.at(a_week_later).when(climb(1)).then_nothing()
    (resumed,) = paused.at(a_week_later).when(c_.ResumeComplaintSla(**TARGET)).events
    assert isinstance(resumed, e_.SlaResumed)
    assert resumed.deadlines[0] == Deadline(level=1, due_at=FOUR_HOURS_LATER + timedelta(days=7))


def test_the_clock_stands_while_the_customer_is_to_answer() -> None:
    offered = after(6)
    offered.at(MONDAY_9 + timedelta(days=60)).when(climb(2)).then_nothing()
    refuses = c_.RecordCustomerReply(**TARGET, accepted=False)
    offered.when(refuses).then_types(e_.CustomerReplied, e_.SlaResumed)


def test_a_higher_severity_brings_deadlines_forward() -> None:
    worse = c_.TriageComplaint(**TARGET, topic="vehicle", severity="critical")
    _, restarted = after(2).when(worse).then_types(e_.ComplaintTriaged, e_.SlaStarted)
    assert isinstance(restarted, e_.SlaStarted)
    assert [step.level for step in restarted.deadlines] == [2, 3]
    assert restarted.deadlines[0].due_at == datetime(2026, 1, 6, 1, 30, tzinfo=UTC)


def stood_for_a_week() -> Given:
    """An acknowledged complaint whose clock stood from Monday nine to the next."""
    paused = follow(after(2), c_.PauseComplaintSla(**TARGET, reason="parts"))
    return follow(paused, c_.ResumeComplaintSla(**TARGET), at=MONDAY_9 + timedelta(days=7))


def recounted(start: Given, severity: Severity) -> tuple[Deadline, ...]:
    """The deadlines by another severity."""
    triage = c_.TriageComplaint(**TARGET, topic="vehicle", severity=severity)
    _, restarted = start.when(triage).then_types(e_.ComplaintTriaged, e_.SlaStarted)
    assert isinstance(restarted, e_.SlaStarted)
    assert restarted.started_at == MONDAY_9
    return restarted.deadlines


def test_the_time_that_the_clock_stood_does_not_count_by_another_severity_either() -> None:
    assert recounted(stood_for_a_week(), "critical") == tuple(
        Deadline(level=step.level, due_at=step.due_at + timedelta(days=7))
        for step in recounted(after(2), "critical")
    )


def test_it_does_not_count_either_when_the_severity_changes_again() -> None:
    worse = c_.TriageComplaint(**TARGET, topic="vehicle", severity="critical")
    triaged = follow(stood_for_a_week(), worse, at=MONDAY_9 + timedelta(days=7))
    again = follow(triaged, c_.PauseComplaintSla(**TARGET, reason="parts"), at=triaged.context.now)
    again = follow(again, c_.ResumeComplaintSla(**TARGET), at=MONDAY_9 + timedelta(days=14))
    assert recounted(again, "high") == tuple(
        Deadline(level=step.level, due_at=step.due_at + timedelta(days=14))
        for step in recounted(after(2), "high")
    )


UNNOTED = MONDAY_9 + timedelta(days=7, hours=3)
"""Between the deadlines of levels two and three; in these tests no timer has noted anything by then."""


@pytest.mark.parametrize(
    ("steps", "command", "levels", "own"),
    [
        (1, WAY[1], [1, 2], [e_.ComplaintAcknowledged]),
        (1, c_.PauseComplaintSla(**TARGET, reason="parts"), [1, 2], [e_.SlaPaused]),
        (2, c_.PauseComplaintSla(**TARGET, reason="parts"), [2], [e_.SlaPaused]),
        (
            2,
            c_.TriageComplaint(**TARGET, topic="vehicle", severity="low"),
            [2],
            [e_.ComplaintTriaged, e_.SlaStarted],
        ),
        (5, WAY[5], [2], [e_.ResolutionProposed, e_.SlaPaused]),
    ],
)
def test_what_passed_unnoted_is_told_before_its_deadline_goes(
    steps: int, command: Command, levels: list[int], own: list[type[Event]]
) -> None:
    missed: list[type[Event]] = [e_.SlaBreached, e_.ComplaintEscalated] * len(levels)
    late = after(steps).at(UNNOTED)
    events = late.when(command).then_types(*missed, *own)
    assert [event.level for event in events if isinstance(event, e_.SlaBreached)] == levels
    told = given(complaint, *late.events, *events)
    state = complaint.fold(told.events)
    assert {step.level for step in state.left or state.deadlines} == {3}
    for level in levels:
        told.at(UNNOTED).when(climb(level)).then_nothing()


def test_closing_tells_first_what_passed_unnoted() -> None:
    offered = follow(after(6), c_.ResumeComplaintSla(**TARGET))
    content = follow(offered, WAY[6], WAY[7])
    content.at(UNNOTED).when(WAY[8]).then_types(e_.SlaBreached, e_.ComplaintEscalated, e_.ComplaintClosed)
    content.at(MONDAY_9).when(WAY[8]).then_types(e_.ComplaintClosed)


def test_a_level_that_knows_hears_of_an_unnoted_deadline_no_second_time() -> None:
    asked = follow(after(1), c_.EscalateComplaint(**TARGET))
    asked.at(FOUR_HOURS_LATER).when(WAY[1]).then_types(e_.SlaBreached, e_.ComplaintAcknowledged)


def test_a_closed_complaint_has_no_deadlines() -> None:
    after(9).at(MONDAY_9 + timedelta(days=90)).when(climb(2)).then_nothing()


def test_a_complaint_from_a_return_visit_names_it() -> None:
    command = RECEIVE.model_copy(update={"channel": "return_visit"})
    given(complaint).when(command).then_raises(c_.ReturnVisitMissing, field="return_visit_id")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("severity", "terrible"),
        ("subject", ""),
        ("subject", "x" * 201),
        ("subject", "two\nlines"),
        ("description", ""),
        ("description", "x" * 4001),
        ("vin", "LVSHCAME01F123456"),
        ("customer_id", "42"),
    ],
)
def test_bad_input_is_named(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        c_.ReceiveComplaint.model_validate(RECEIVE.model_dump() | {field: value})
    assert caught.value.errors()[0]["loc"] == (field,)


@pytest.mark.parametrize("amount", ["0", "-80.00"])
def test_a_compensation_is_more_than_nothing(amount: str) -> None:
    offer = {**TARGET, "resolution": "a car wash", "compensation": {"amount": amount, "currency": "CNY"}}
    with pytest.raises(ValidationError, match="more than zero"):
        c_.ProposeResolution.model_validate(offer)
