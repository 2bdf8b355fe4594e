"""Decisions about customers."""

from datetime import date

import pytest
from pydantic import ValidationError

from customer.customer import (
    AddContactPoint,
    AssignCustomer,
    CategoryChanged,
    ChangeCategory,
    Consent,
    ConsentGranted,
    ConsentWithdrawn,
    ContactPoint,
    ContactPointAdded,
    CorrectProfile,
    CustomerAssigned,
    CustomerRegistered,
    DuplicateSuspected,
    GrantConsent,
    OwnershipEndsBeforeItBegins,
    ProfileCorrected,
    RecordVehicleOwnership,
    RegisterCustomer,
    SafetyConsentIsImplied,
    SuspectDuplicate,
    TooManyContactPoints,
    TypedContactPoint,
    VehicleOwnershipRecorded,
    WithdrawConsent,
    customer,
)
from forecourt.errors import AlreadyExists, InvalidInput, NotFound
from forecourt.testing.given import an_id, given

WANG = an_id("wang")
MOBILE = ContactPoint(kind="mobile", value="+8613800138000", typed="138 0013 8000")
REGISTERED = CustomerRegistered(
    kind="prospect",
    name="王伟",
    language="zh",
    time_zone="Asia/Shanghai",
    source="walk-in",
    contact_points=(MOBILE,),
    consents=(Consent(purpose="service", channel="sms"),),
)
VIN = "LSVAA4181E2184841"


def register(**changes: object) -> RegisterCustomer:
    fields: dict[str, object] = {
        "kind": "prospect",
        "name": "王伟",
        "source": "walk-in",
        "contact_points": [{"kind": "mobile", "value": "138 0013 8000"}],
        "consents": [{"purpose": "service", "channel": "sms"}],
    }
    return RegisterCustomer.model_validate(fields | changes)


def test_registering_keeps_what_was_typed_beside_the_normal_form() -> None:
    given(customer).when(register()).then(REGISTERED)


def test_registering_twice_is_refused() -> None:
    given(customer, REGISTERED).when(register()).then_raises(AlreadyExists)


def test_the_same_number_typed_twice_is_one_contact_point() -> None:
    points = [{"kind": "mobile", "value": "138 0013 8000"}, {"kind": "mobile", "value": "+8613800138000"}]
    (event,) = given(customer).when(register(contact_points=points)).then_types(CustomerRegistered)
    assert isinstance(event, CustomerRegistered)
    assert len(event.contact_points) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "王\x00伟"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"kind": "friend"}, "kind"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"contact_points": [{"kind": "mobile", "value": "12"}]}, "contact_points"),
        ({"contact_points": [{"kind": "email", "value": "nobody"}]}, "contact_points"),
        ({"contact_points": [{"kind": "mobile", "value": "138 0013 8000"}] * 11}, "contact_points"),
        ({"nickname": "Wei"}, "nickname"),
    ],
)
def test_bad_input_names_the_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        register(**changes)
    assert caught.value.errors()[0]["loc"][0] == field


def test_commands_need_a_customer() -> None:
    given(customer).when(ChangeCategory(customer_id=WANG, category="buyer")).then_raises(NotFound)


def test_prospect_becomes_buyer_once() -> None:
    command = ChangeCategory(customer_id=WANG, category="buyer")
    changed = CategoryChanged(previous="prospect", category="buyer")
    given(customer, REGISTERED).when(command).then(changed)
    given(customer, REGISTERED, changed).when(command).then_nothing()


def test_adding_a_known_number_in_another_spelling_is_nothing_new() -> None:
    command = AddContactPoint(customer_id=WANG, kind="mobile", value="0086 138-0013-8000")
    given(customer, REGISTERED).when(command).then_nothing()


def test_adding_an_address() -> None:
    command = AddContactPoint(customer_id=WANG, kind="email", value="wei@Example.com")
    added = ContactPointAdded(kind="email", value="wei@example.com", typed="wei@Example.com")
    given(customer, REGISTERED).when(command).then(added)


def test_adding_a_bad_number_names_the_field() -> None:
    command = AddContactPoint(customer_id=WANG, kind="mobile", value="0")
    given(customer, REGISTERED).when(command).then_raises(InvalidInput, field="value")


def test_an_eleventh_contact_point_is_refused() -> None:
    more = [
        ContactPointAdded(kind="email", value=f"{n}@example.com", typed=f"{n}@example.com") for n in range(9)
    ]
    command = AddContactPoint(customer_id=WANG, kind="email", value="last@example.com")
    given(customer, REGISTERED, *more).when(command).then_raises(TooManyContactPoints)


def test_correcting_a_field_needs_a_new_value() -> None:
    right = CorrectProfile(customer_id=WANG, field="mobile", value="13900139000", reason="typing error")
    corrected = ProfileCorrected(field="mobile", value="+8613900139000", reason="typing error")
    given(customer, REGISTERED).when(right).then(corrected)
    given(customer, REGISTERED, corrected).when(right).then_nothing()


def test_correcting_to_a_language_that_we_do_not_write_is_refused() -> None:
    wrong = CorrectProfile(customer_id=WANG, field="language", value="fr", reason="asked")
    given(customer, REGISTERED).when(wrong).then_raises(InvalidInput, field="value")


def test_assignment_notes_who_it_was_before() -> None:
    first = CustomerAssigned(previous=None, salesperson_id="S1")
    given(customer, REGISTERED).when(AssignCustomer(customer_id=WANG, salesperson_id="S1")).then(first)
    second = AssignCustomer(customer_id=WANG, salesperson_id="S2")
    given(customer, REGISTERED, first).when(second).then(CustomerAssigned(previous="S1", salesperson_id="S2"))


def test_consent_is_granted_once_and_withdrawn_once() -> None:
    grant = GrantConsent(customer_id=WANG, purpose="marketing", channel="sms")
    withdraw = WithdrawConsent(customer_id=WANG, purpose="marketing", channel="sms")
    granted = ConsentGranted(purpose="marketing", channel="sms")
    withdrawn = ConsentWithdrawn(purpose="marketing", channel="sms")
    given(customer, REGISTERED).when(grant).then(granted)
    given(customer, REGISTERED, granted).when(grant).then_nothing()
    given(customer, REGISTERED, granted).when(withdraw).then(withdrawn)
    given(customer, REGISTERED, granted, withdrawn).when(withdraw).then_nothing()
    given(customer, REGISTERED, granted, withdrawn).when(grant).then(granted)


def test_an_opt_out_counts_without_a_consent_before_it() -> None:
    withdraw = WithdrawConsent(customer_id=WANG, purpose="service", channel="email")
    given(customer, REGISTERED).when(withdraw).then(ConsentWithdrawn(purpose="service", channel="email"))


def test_nobody_opts_out_of_safety() -> None:
    withdraw = WithdrawConsent(customer_id=WANG, purpose="safety", channel="sms")
    given(customer, REGISTERED).when(withdraw).then_raises(SafetyConsentIsImplied)


def test_ownership_is_recorded_once_and_ends_after_it_begins() -> None:
    owns = RecordVehicleOwnership(customer_id=WANG, vin=VIN, since=date(2025, 1, 1))
    owned = VehicleOwnershipRecorded(vin=VIN, since=date(2025, 1, 1), until=None)
    given(customer, REGISTERED).when(owns).then(owned)
    given(customer, REGISTERED, owned).when(owns).then_nothing()
    backwards = owns.model_copy(update={"until": date(2024, 1, 1)})
    given(customer, REGISTERED).when(backwards).then_raises(OwnershipEndsBeforeItBegins, field="until")


def test_a_suspicion_is_recorded_once_a_pair() -> None:
    suspect = SuspectDuplicate(customer_id=WANG, other_id=an_id("li"), score=50, shared=("mobile",))
    suspected = DuplicateSuspected(other_id=an_id("li"), score=50, shared=("mobile",))
    given(customer, REGISTERED).when(suspect).then(suspected)
    given(customer, REGISTERED, suspected).when(suspect).then_nothing()


def test_a_contact_point_knows_its_normal_form() -> None:
    assert TypedContactPoint(kind="mobile", value="１３８００１３８０００").normal == "+8613800138000"


@pytest.mark.parametrize("value", ["王\n伟", "王\x1b[2J伟", ""])
def test_a_value_is_one_line_without_control_characters(value: str) -> None:
    for command in (CorrectProfile, AddContactPoint):
        fields = {"customer_id": WANG, "field": "name", "kind": "mobile", "value": value, "reason": "typo"}
        given_fields = {name: fields[name] for name in command.model_fields}
        with pytest.raises(ValidationError) as caught:
            command.model_validate(given_fields)
        assert caught.value.errors()[0]["loc"] == ("value",)


def test_a_name_is_as_long_corrected_as_registered() -> None:
    long = CorrectProfile(customer_id=WANG, field="name", value="x" * 201, reason="typo")
    given(customer, REGISTERED).when(long).then_raises(InvalidInput, field="value")
