"""Each RPC whose answer can hold a personal value is one whose answers are noted down."""

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from forecourt.audit import subjects
from forecourt.audit.subjects import (
    PERSON,
    PERSONAL,
    PurposeNotOfAList,
    marked,
    persons_in_answers,
    purpose_in_requests,
)
from forecourt.discovery import find_services
from forecourt.privacy.fields import personal_fields

SERVICES = find_services()
METHODS = {
    f"{service.name}.{method.name}": method
    for service in SERVICES
    for api in service.apis
    for method, _ in api.check()
}

DERIVED = {"mobile", "detail"}
"""What read models make of personal fields under names of their own."""

NOT_PERSONAL = {
    "crm.notify.v1.HistoryEntry.detail": "reasons and codes",
    "crm.notify.v1.PreviewTemplateResponse.subject": "made of a sample, of nobody's data",
    "crm.notify.v1.PreviewTemplateResponse.text": "made of a sample, of nobody's data",
    "crm.notify.v1.PreviewTemplateResponse.html": "made of a sample, of nobody's data",
    "crm.customer.v1.RowReport.reason": "names the field, never its value",
    "crm.sales.v1.Ancillary.description": "names goods",
    "crm.sales.v1.CaptureAdfLeadResponse.reason": "why a document could not be read",
    "crm.sales.v1.CapturedProspect.reason": "why a document could not be read",
    "crm.sales.v1.QuarantinedLead.reason": "why a document could not be read",
    "crm.sales.v1.SaleLine.description": "names goods",
}
"""Fields that are called like a personal one, and why they are none."""


def personal_names() -> set[str]:
    """The names of all fields that any event of any service marks as personal."""
    events = [event for service in SERVICES for event in service.registry.own_events().values()]
    found = [fields for event in events if (fields := personal_fields(event)) is not None]
    return {path.rpartition(".")[2] for fields in found for path, _ in fields.paths()} | DERIVED


def fields_of(method: MethodDescriptor) -> Iterator[FieldDescriptor]:
    """All fields that an answer may have, at any depth."""
    waiting, seen = [method.output_type], set()
    while waiting:
        message = waiting.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        for field in message.fields:
            if not message.GetOptions().map_entry:
                yield field
            if field.message_type is not None:
                waiting.append(field.message_type)


def unmarked(method: MethodDescriptor) -> set[str]:
    """Fields of an answer that are called like personal ones and are not marked."""
    declared = {path[-1].full_name for path in marked(method.output_type, PERSONAL)}
    names = personal_names()
    return {
        field.full_name
        for field in fields_of(method)
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES) and field.name in names
    } - declared


@pytest.mark.parametrize("name", METHODS)
def test_what_is_personal_in_events_is_marked_in_answers(name: str) -> None:
    assert unmarked(METHODS[name]) <= NOT_PERSONAL.keys()


@pytest.mark.parametrize("name", METHODS)
def test_answers_with_personal_fields_say_whose_they_are(name: str) -> None:
    persons = persons_in_answers(METHODS[name])
    assert (persons is not None) == bool(list(marked(METHODS[name].output_type, PERSONAL)))


def test_no_exception_is_left_over() -> None:
    found = set().union(*(unmarked(method) for method in METHODS.values()))
    assert found == NOT_PERSONAL.keys()


def test_the_well_known_ones_are_among_them() -> None:
    noted = {name for name, method in METHODS.items() if persons_in_answers(method) is not None}
    assert noted >= {
        "customer.GetCustomer",
        "customer.SearchCustomers",
        "customer.GetCustomerHistory",
        "customer.ListIdentityDocuments",
        "customer.UnmaskIdentityDocument",
        "customer.ExportCustomer",
        "sales.GetLead",
        "sales.ListLeads",
        "notify.GetNotification",
        "notify.GetContact",
        "audit.ListEntries",
    }
    assert "sales.GetFunnel" not in noted


COMMANDS = [
    method
    for service in SERVICES
    for api in service.apis
    for method, rpc in api.check()
    if rpc.writes and service.name != "customer"
]
"""Commands but those of the customers themselves, whose events are in the customer's stream."""


@pytest.mark.parametrize("method", COMMANDS, ids=lambda method: method.full_name)
def test_commands_that_name_a_customer_say_that_it_is_a_person(method: MethodDescriptor) -> None:
    declared = {path[0].name for path in marked(method.input_type, PERSON)}
    assert {field.name for field in method.input_type.fields} & {"customer_id"} <= declared


def test_whoever_unmasks_says_what_for() -> None:
    asking = {name for name, method in METHODS.items() if purpose_in_requests(method)}
    assert asking == {"customer.UnmaskIdentityDocument"}
    assert purpose_in_requests(METHODS["customer.UnmaskIdentityDocument"]) == "purpose"


def test_a_purpose_is_none_that_could_be_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "PURPOSE", PERSONAL)
    with pytest.raises(PurposeNotOfAList, match="number must be an enum"):
        purpose_in_requests(METHODS["customer.RecordIdentityDocument"])
