"""A lead: captured, qualified, converted or given up; what cannot be read is kept."""

from typing import Any

import pytest
from pydantic import ValidationError

from forecourt.errors import AlreadyExists, NotFound
from forecourt.testing.given import CONTEXT, NOW, an_id, given
from sales.lead import (
    CaptureLead,
    ConvertLead,
    CustomerUnknown,
    DisqualifyLead,
    LeadCaptured,
    LeadClosed,
    LeadConverted,
    LeadDisqualified,
    LeadNotQualified,
    LeadQualified,
    LeadQuarantined,
    LeadShredded,
    ModelUnknown,
    QualifyLead,
    QuarantineLead,
    RecordLeadShredding,
    lead,
)
from tests.unit.sales.samples import CUSTOMER, LEAD, MODEL

CAPTURED = LeadCaptured(
    source="portal",
    provider="AutoPortal",
    model=None,
    vin=None,
    customer_id=None,
    name="王小明",
    phone="+8613800138000",
    phone_typed="138 0013 8000",
    email=None,
    comments="",
    requested_at=None,
)
QUALIFIED = LeadQualified(customer_id=CUSTOMER, model=MODEL)
CONVERTED = LeadConverted(opportunity_id=an_id("o"), customer_id=CUSTOMER, model=MODEL, salesperson=None)
QUARANTINED = LeadQuarantined(source="portal", reason="not XML", sha256="0" * 64, size=3, raw="???")


def test_capture_keeps_the_phone_as_typed_beside_its_normal_form() -> None:
    command = CaptureLead(source="portal", provider="AutoPortal", name=" 王小明 ", phone="138 0013 8000")
    given(lead).when(command).then(CAPTURED)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 201),
        ("name", "a\x00b"),
        ("phone", "12"),
        ("email", "nobody"),
        ("source", "carrier pigeon"),
        ("model", "x" * 81),
        ("vin", "LSVAA49J232047371"),
        ("customer_id", "7"),
        ("comments", "x" * 4001),
        ("provider", "x" * 201),
        ("requested_at", "soon"),
        ("surprise", "1"),
    ],
)
def test_capture_names_the_field_that_is_wrong(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refusal:
        CaptureLead.model_validate({"source": "phone", "name": "Wang", "phone": "13800138000", field: value})
    assert [error["loc"][0] for error in refusal.value.errors()] == [field]


def test_somebody_whom_nobody_can_reach_is_no_lead() -> None:
    with pytest.raises(ValidationError, match="phone, email or customer_id is required"):
        CaptureLead(source="phone", name="Wang")
    assert CaptureLead(source="walk_in", name="Wang", customer_id=CUSTOMER).phone is None


def test_a_lead_is_captured_once() -> None:
    command = CaptureLead(lead_id=LEAD, source="phone", name="Wang", phone="13800138000")
    given(lead, CAPTURED).when(command).then_raises(AlreadyExists)


def test_quarantine_keeps_the_document() -> None:
    command = QuarantineLead(
        lead_id=LEAD, source="portal", reason="not XML", sha256="0" * 64, size=3, raw="???"
    )
    given(lead).when(command).then(QUARANTINED)


def test_qualify_with_customer_and_model() -> None:
    given(lead, CAPTURED).when(QualifyLead(lead_id=LEAD, customer_id=CUSTOMER, model=MODEL)).then(QUALIFIED)


def test_qualify_takes_what_the_lead_has() -> None:
    known = CAPTURED.model_copy(update={"customer_id": CUSTOMER, "model": MODEL})
    given(lead, known).when(QualifyLead(lead_id=LEAD)).then(QUALIFIED)


def test_qualify_needs_a_customer_and_a_model() -> None:
    captured = given(lead, CAPTURED)
    captured.when(QualifyLead(lead_id=LEAD, model=MODEL)).then_raises(CustomerUnknown, field="customer_id")
    captured.when(QualifyLead(lead_id=LEAD, customer_id=CUSTOMER)).then_raises(ModelUnknown, field="model")


def test_qualify_again_says_nothing_or_corrects() -> None:
    qualified = given(lead, CAPTURED, QUALIFIED)
    qualified.when(QualifyLead(lead_id=LEAD)).then_nothing()
    qualified.when(QualifyLead(lead_id=LEAD, model="Other")).then(
        LeadQualified(customer_id=CUSTOMER, model="Other")
    )


def test_disqualify_with_the_reason() -> None:
    given(lead, CAPTURED).when(DisqualifyLead(lead_id=LEAD, reason="wrong number")).then(
        LeadDisqualified(reason="wrong number")
    )
    with pytest.raises(ValidationError):
        DisqualifyLead(lead_id=LEAD, reason=" ")


def test_convert_a_qualified_lead() -> None:
    given(lead, CAPTURED, QUALIFIED).when(ConvertLead(lead_id=LEAD, salesperson="S1")).then(
        LeadConverted(
            opportunity_id=CONTEXT.new_id("opportunity"), customer_id=CUSTOMER, model=MODEL, salesperson="S1"
        )
    )


def test_convert_needs_a_qualified_lead() -> None:
    given(lead, CAPTURED).when(ConvertLead(lead_id=LEAD)).then_raises(LeadNotQualified)


def test_what_is_so_already_is_not_said_again() -> None:
    given(lead, CAPTURED, QUALIFIED, CONVERTED).when(ConvertLead(lead_id=LEAD)).then_nothing()
    given(lead, CAPTURED, LeadDisqualified(reason="spam")).when(
        DisqualifyLead(lead_id=LEAD, reason="again")
    ).then_nothing()


@pytest.mark.parametrize(
    "history",
    [(CAPTURED, LeadDisqualified(reason="spam")), (CAPTURED, QUALIFIED, CONVERTED), (QUARANTINED,)],
)
def test_a_closed_lead_stays_closed(history: Any) -> None:
    given(lead, *history).when(QualifyLead(lead_id=LEAD)).then_raises(LeadClosed)


@pytest.mark.parametrize("command", [QualifyLead(lead_id=LEAD), ConvertLead(lead_id=LEAD)])
def test_an_unknown_lead_is_not_found(command: Any) -> None:
    given(lead).when(command).then_raises(NotFound)


def test_a_lead_is_shredded_once_in_whatever_state() -> None:
    done: dict[str, Any] = {"key_id": an_id("key"), "destroyed_at": NOW, "fingerprint": "f", "proof": "p"}
    command, shredded = RecordLeadShredding(lead_id=LEAD, **done), LeadShredded(**done)
    for events in ([CAPTURED], [QUARANTINED], [CAPTURED, QUALIFIED, CONVERTED]):
        given(lead, *events).when(command).then(shredded)
        given(lead, *events, shredded).when(command).then_nothing()
