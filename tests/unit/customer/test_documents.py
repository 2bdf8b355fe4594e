"""Identity documents: decisions, what is refused, what read models hold, and who is suspected."""

from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given as each
from hypothesis import strategies as st
from pydantic import ValidationError

from customer.customer import CustomerRegistered, DuplicateSuspected, SuspectDuplicate, customer
from customer.documents import (
    DocumentDoesNotFitCustomer,
    IdentityDocumentRecorded,
    IdentityDocumentRemoved,
    RecordIdentityDocument,
    RemoveIdentityDocument,
    TypedDocument,
    fingerprint_of,
)
from customer.erasure import ErasureApproved, ErasureRequested, PersonalDataShredded
from customer.policies import likeness
from customer.read_models import CustomerRow, IdentityDocumentRow, documents
from forecourt.errors import NotFound, invalid_input
from forecourt.privacy.cipher import KeyedHash
from forecourt.privacy.fields import ERASED
from forecourt.testing.given import NOW, an_id, given, given_rows, recorded

WANG, LI = an_id("wang"), an_id("li")
CARD, OTHER_CARD = "11010519491231002X", "440524188001010014"
CODE = "91110000600037341L"
PERSON = CustomerRegistered(
    kind="buyer",
    name="王伟",
    language="zh",
    time_zone="Asia/Shanghai",
    source="",
    contact_points=(),
    consents=(),
)
COMPANY = PERSON.model_copy(update={"kind": "company"})
SHREDDED = PersonalDataShredded(key_id=an_id("key"), destroyed_at=NOW, fingerprint="f", proof="p")


def record(**changes: Any) -> RecordIdentityDocument:
    fields = {"customer_id": WANG, "kind": "resident_identity_card", "number": CARD, "fingerprint": "f1"}
    return RecordIdentityDocument.model_validate(fields | changes)


def seen(**changes: Any) -> IdentityDocumentRecorded:
    fields = {
        "kind": "resident_identity_card",
        "number": CARD,
        "fingerprint": "f1",
        "issuing_country": None,
        "expires_on": None,
    }
    return IdentityDocumentRecorded.model_validate(fields | changes)


def test_a_document_is_recorded_in_its_normal_form() -> None:
    command = record(number=" 110105 19491231 002x", expires_on="2030-01-31")
    given(customer, PERSON).when(command).then(seen(expires_on=date(2030, 1, 31)))


def test_the_same_document_again_is_nothing_new() -> None:
    given(customer, PERSON, seen()).when(record(fingerprint="f2")).then_nothing()


def test_another_one_of_the_kind_takes_its_place() -> None:
    again = seen(number=OTHER_CARD, fingerprint="f2")
    given(customer, PERSON, seen()).when(record(number=OTHER_CARD, fingerprint="f2")).then(again)
    given(customer, PERSON, seen(), again).when(record()).then(seen())
    renewed = seen(expires_on=date(2040, 1, 1))
    given(customer, PERSON, seen()).when(record(expires_on="2040-01-01")).then(renewed)


def test_documents_of_several_kinds_are_kept() -> None:
    passport = record(kind="passport", number="E12345678", issuing_country="CN", fingerprint="f3")
    noted = seen(kind="passport", number="E12345678", issuing_country="CN", fingerprint="f3")
    given(customer, PERSON, seen()).when(passport).then(noted)
    given(customer, PERSON, seen(), noted).when(record()).then_nothing()


def test_only_a_company_has_a_business_licence_and_nothing_else() -> None:
    licence = record(kind="business_licence", number=CODE)
    given(customer, COMPANY).when(licence).then(seen(kind="business_licence", number=CODE))
    given(customer, PERSON).when(licence).then_raises(DocumentDoesNotFitCustomer)
    given(customer, COMPANY).when(record()).then_raises(DocumentDoesNotFitCustomer)


def test_removing_twice_is_removing_once() -> None:
    remove = RemoveIdentityDocument(customer_id=WANG, kind="resident_identity_card")
    removed = IdentityDocumentRemoved(kind="resident_identity_card")
    given(customer, PERSON, seen()).when(remove).then(removed)
    given(customer, PERSON, seen(), removed).when(remove).then_nothing()
    given(customer, PERSON).when(remove).then_nothing()
    given(customer, PERSON, seen(), removed).when(record()).then(seen())


def test_there_must_be_a_customer() -> None:
    given(customer).when(record()).then_raises(NotFound)


def test_of_an_erased_customer_nothing_is_recorded_and_nothing_is_kept() -> None:
    erased = (ErasureRequested(reason="customer_request", requested_by="amy"),)
    approved = ErasureApproved(requested_by="amy", approved_by="bob")
    for command in (record(), RemoveIdentityDocument(customer_id=WANG, kind="resident_identity_card")):
        then = given(customer, PERSON, seen(), *erased, approved).when(command)
        assert then.error is not None
        assert then.error.slug == "customer-erased"
    assert customer.fold([PERSON, seen(), *erased]).documents
    assert not customer.fold([PERSON, seen(), *erased, approved]).documents


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"number": "110105194912310021"}, "number"),
        ({"number": ""}, "number"),
        ({"number": "1" * 41}, "number"),
        ({"kind": "library_card"}, "kind"),
        ({"kind": "passport", "number": "E12345678"}, "issuing_country"),
        ({"kind": "passport", "number": "E12345678", "issuing_country": "XX"}, "issuing_country"),
        ({"kind": "passport", "number": "E123", "issuing_country": "CN"}, "number"),
        ({"issuing_country": "CN"}, "issuing_country"),
        ({"expires_on": "2030-02-30"}, "expires_on"),
        ({"kind": "business_licence"}, "number"),
    ],
)
def test_bad_input_names_the_field_and_never_the_number(changes: dict[str, str], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        record(**changes)
    refusal = invalid_input(caught.value)
    assert list(refusal.fields) == [field]
    number = str(changes.get("number", CARD))
    assert not number or number not in f"{refusal} {refusal.fields}"


@each(
    st.sampled_from(["resident_identity_card", "passport", "driving_licence"]),
    st.text(min_size=4, max_size=60),
)
def test_whatever_is_typed_the_refusal_does_not_hold_it(kind: str, number: str) -> None:
    country = "DE" if kind == "passport" else None
    try:
        record(kind=kind, number=number, issuing_country=country)
    except ValidationError as error:
        refusal = invalid_input(error)
        assert list(refusal.fields) == ["number"]
        assert number.strip() not in f"{refusal}" or len(number.strip()) < 4


def test_fingerprints_are_the_same_for_the_same_document_only() -> None:
    keyed, other_key = KeyedHash(b"k" * 32), KeyedHash(b"l" * 32)

    def of(by: KeyedHash = keyed, /, **fields: Any) -> str:
        given = {"customer_id": WANG, "kind": "resident_identity_card", "number": CARD} | fields
        return fingerprint_of(TypedDocument.model_validate(given), by)

    assert of() == of(customer_id=LI, number="1101 0519 4912 3100 2x")
    german = {"kind": "passport", "number": "123456789", "issuing_country": "DE"}
    different = [
        of(),
        of(other_key),
        of(number=OTHER_CARD),
        of(kind="driving_licence"),
        of(**german),
        of(**german | {"issuing_country": "US"}),
    ]
    assert len(set(different)) == len(different)


# --- read model


def row(**changes: Any) -> IdentityDocumentRow:
    made = IdentityDocumentRow(WANG, "resident_identity_card", "**************002X", None, None, "f1", NOW)
    return msgspec.structs.replace(made, **changes)


def test_the_read_model_has_the_mask_and_not_the_number() -> None:
    rows = given_rows(documents).when(recorded(seen(), stream_id=WANG))
    rows.then_rows([row()])
    assert CARD not in repr(rows.rows)
    rows.when(recorded(IdentityDocumentRemoved(kind="resident_identity_card"), stream_id=WANG)).then_rows([])


def test_the_read_model_forgets_all_documents_of_the_erased_and_no_others() -> None:
    passport = seen(kind="passport", number="E12345678", issuing_country="CN", fingerprint="f3")
    rows = given_rows(documents).when(
        recorded(seen(), stream_id=WANG), recorded(passport, stream_id=WANG), recorded(seen(), stream_id=LI)
    )
    rows.when(recorded(SHREDDED, stream_id=WANG)).then_rows([row(customer_id=LI)])


def test_what_reads_as_erased_is_not_shown_when_the_read_model_is_built_anew() -> None:
    given_rows(documents).when(recorded(seen(number=ERASED, fingerprint=ERASED), stream_id=WANG)).then_rows(
        []
    )


# --- duplicates


def a_customer(number: int, **changes: Any) -> CustomerRow:
    fields: dict[str, Any] = {
        "customer_id": an_id(str(number)),
        "kind": "buyer",
        "name": f"name {number}",
        "language": "zh",
        "time_zone": "Asia/Shanghai",
        "source": "",
        "mobile": None,
        "email": None,
        "salesperson_id": None,
        "dealer_id": "D001",
        "brand": "hongtong",
        "consents": (),
        "registered_at": datetime(2026, 1, 1, tzinfo=UTC),
        "version": 1,
    }
    return CustomerRow(**fields | changes)


def test_the_same_document_is_a_strong_suspicion() -> None:
    one, other = a_customer(1), a_customer(2)
    assert likeness(one, other) == (0, ())
    assert likeness(one, other, same_document=True) == (80, ("document",))
    twin = a_customer(2, name="name 1", mobile="+8613800138000")
    one = a_customer(1, mobile="+8613800138000")
    assert likeness(one, twin, same_document=True) == (100, ("mobile", "name", "document"))


def test_a_suspicion_that_grows_is_recorded_again() -> None:
    by_name = DuplicateSuspected(other_id=LI, score=70, shared=("mobile", "name"))
    stronger = SuspectDuplicate(
        customer_id=WANG, other_id=LI, score=100, shared=("mobile", "name", "document")
    )
    grown = DuplicateSuspected(other_id=LI, score=100, shared=("mobile", "name", "document"))
    given(customer, PERSON, by_name).when(stronger).then(grown)
    given(customer, PERSON, by_name, grown).when(stronger).then_nothing()
    weaker = SuspectDuplicate(customer_id=WANG, other_id=LI, score=50, shared=("mobile",))
    given(customer, PERSON, by_name).when(weaker).then_nothing()
