"""Erasing a customer: who may, what follows, and what the read models keep."""

from typing import Any

from customer.customer import (
    AddContactPoint,
    CorrectProfile,
    CustomerErased,
    LogInteraction,
    SuspectDuplicate,
    customer,
)
from customer.erasure import (
    ApproveErasure,
    ErasureApproved,
    ErasureNotApproved,
    ErasureNotRequested,
    ErasureRejected,
    ErasureRequested,
    PersonalDataShredded,
    RecordShredding,
    RejectErasure,
    RequestErasure,
)
from customer.read_models import CustomerRow, customers, history
from forecourt.access.duties import SelfApproval
from forecourt.privacy.fields import ERASED
from forecourt.testing.given import NOW, an_id, given, given_rows, recorded
from tests.unit.customer.test_customer import REGISTERED, WANG

REQUESTED = ErasureRequested(reason="customer_request", requested_by="amy")
APPROVED = ErasureApproved(requested_by="amy", approved_by="bob")
DONE: dict[str, Any] = {"key_id": an_id("key"), "destroyed_at": NOW, "fingerprint": "f", "proof": "p"}
SHREDDED = PersonalDataShredded(**DONE)
REQUEST = RequestErasure(customer_id=WANG, reason="customer_request")
APPROVE = ApproveErasure(customer_id=WANG)
REJECT = RejectErasure(customer_id=WANG, explanation="open order")
RECORD = RecordShredding(customer_id=WANG, **DONE)


def test_one_asks_and_another_approves() -> None:
    given(customer, REGISTERED).by("amy").when(REQUEST).then(REQUESTED)
    given(customer, REGISTERED, REQUESTED).by("bob").when(APPROVE).then(APPROVED)
    given(customer, REGISTERED, REQUESTED, APPROVED).when(RECORD).then(SHREDDED)


def test_nobody_approves_what_they_asked_for() -> None:
    requested = given(customer, REGISTERED, REQUESTED).done_by("amy")
    requested.by("amy").when(APPROVE).then_raises(SelfApproval)
    requested.by("").when(APPROVE).then_raises(SelfApproval)


def test_an_approval_needs_a_request() -> None:
    given(customer, REGISTERED).by("bob").when(APPROVE).then_raises(ErasureNotRequested)
    rejected = ErasureRejected(explanation="open order", rejected_by="bob")
    given(customer, REGISTERED, REQUESTED).by("bob").when(REJECT).then(rejected)
    given(customer, REGISTERED, REQUESTED, rejected).by("bob").when(APPROVE).then_raises(ErasureNotRequested)
    given(customer, REGISTERED).by("bob").when(REJECT).then_raises(ErasureNotRequested)


def test_each_step_is_taken_once() -> None:
    given(customer, REGISTERED, REQUESTED).by("eve").when(REQUEST).then_nothing()
    given(customer, REGISTERED, REQUESTED, APPROVED).by("eve").when(APPROVE).then_nothing()
    given(customer, REGISTERED, REQUESTED, APPROVED, SHREDDED).when(RECORD).then_nothing()


def test_a_key_is_not_destroyed_without_an_approval() -> None:
    given(customer, REGISTERED, REQUESTED).when(RECORD).then_raises(ErasureNotApproved)


def test_nothing_is_recorded_of_an_erased_customer() -> None:
    erased = (REGISTERED, REQUESTED, APPROVED, SHREDDED)
    for command in (
        AddContactPoint(customer_id=WANG, kind="mobile", value="139 0013 9000"),
        CorrectProfile(customer_id=WANG, field="name", value="Wang", reason="misspelt"),
        LogInteraction(customer_id=WANG, channel="call", direction="inbound", subject="x"),
        REJECT,
    ):
        given(customer, *erased).when(command).then_raises(CustomerErased)
        given(customer, *erased[:-1]).when(command).then_raises(CustomerErased)
    suspicion = SuspectDuplicate(customer_id=WANG, other_id=an_id("li"), score=70, shared=("mobile",))
    given(customer, *erased).when(suspicion).then_nothing()


def test_the_state_of_an_erased_customer_holds_nothing_of_the_person() -> None:
    state = customer.fold([REGISTERED, REQUESTED, APPROVED, SHREDDED])
    assert "王伟" not in repr(state)
    assert "13800138000" not in repr(state)


def rows(projection: Any, *events: Any) -> dict[Any, Any]:
    batch = [recorded(event, stream_id=WANG, sequence=i) for i, event in enumerate(events, start=1)]
    return dict(given_rows(projection).when(*batch).rows)


def test_the_row_keeps_what_statistics_need_and_nothing_of_the_person() -> None:
    row: CustomerRow = rows(customers, REGISTERED, REQUESTED, APPROVED, SHREDDED)[WANG,]
    assert (row.kind, row.source, row.version) == ("prospect", "walk-in", 4)
    assert (row.name, row.mobile, row.email, row.language) == (ERASED, None, None, "")


def test_a_row_that_is_built_anew_after_the_erasure_is_the_same() -> None:
    point = REGISTERED.contact_points[0].model_copy(update={"value": ERASED, "typed": ERASED})
    replayed = REGISTERED.model_copy(update={"name": ERASED, "contact_points": (point,)})
    rest = (REQUESTED, APPROVED, SHREDDED)
    assert rows(customers, REGISTERED, *rest) == rows(customers, replayed, *rest)


def test_the_history_shows_the_erasure() -> None:
    shown = rows(history, REGISTERED, REQUESTED, APPROVED, SHREDDED).values()
    assert sorted(row.kind for row in shown) == ["profile"] * len(shown)
