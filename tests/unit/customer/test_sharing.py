"""Sharing and handing over customers."""

from customer.customer import AssignCustomer, ChangeCategory, CustomerErased, CustomerRegistered, customer
from customer.erasure import ErasureApproved, ErasureRequested, PersonalDataShredded
from customer.read_models import customers
from customer.sharing import (
    CustomerShared,
    CustomerTransferred,
    CustomerUnshared,
    ShareCustomer,
    TransferCustomer,
    UnshareCustomer,
)
from forecourt.access.ownership import Ownership
from forecourt.access.scope import scope_of
from forecourt.events import Event
from forecourt.testing.given import NOW, an_id, given, given_rows, recorded

WANG = an_id("wang")
REGISTERED = CustomerRegistered(
    kind="prospect",
    name="王伟",
    language="zh",
    time_zone="Asia/Shanghai",
    source="walk-in",
    contact_points=(),
    consents=(),
)
SHARED, UNSHARED = CustomerShared(store="D002"), CustomerUnshared(store="D002")


def test_sharing_twice_is_sharing_once() -> None:
    share = ShareCustomer(customer_id=WANG, store="D002")
    given(customer, REGISTERED).when(share).then(SHARED)
    given(customer, REGISTERED, SHARED).when(share).then_nothing()
    given(customer, REGISTERED, SHARED, UNSHARED).when(share).then(SHARED)


def test_what_is_not_shared_need_not_be_ended() -> None:
    unshare = UnshareCustomer(customer_id=WANG, store="D002")
    given(customer, REGISTERED, SHARED).when(unshare).then(UNSHARED)
    given(customer, REGISTERED).when(unshare).then_nothing()


def test_a_customer_is_handed_over_once() -> None:
    transfer = TransferCustomer(customer_id=WANG, to_store="D002")
    given(customer, REGISTERED, SHARED).when(transfer).then(CustomerTransferred(to_store="D002"))
    handed_over = CustomerTransferred(to_store="D002")
    given(customer, REGISTERED, handed_over).when(transfer).then_nothing()
    assign = AssignCustomer(customer_id=WANG, salesperson_id="S1")
    assert len(given(customer, REGISTERED, handed_over).when(assign).events) == 1


def test_a_share_with_the_customers_own_store_changes_nothing() -> None:
    share = ShareCustomer(customer_id=WANG, store="D001")
    given(customer, REGISTERED).when(share).then_nothing()
    handed_over = CustomerTransferred(to_store="D002")
    share = ShareCustomer(customer_id=WANG, store="D002")
    given(customer, REGISTERED, handed_over).when(share).then_nothing()


def test_nobody_hands_a_customer_over_to_whom_it_belongs() -> None:
    transfer = TransferCustomer(customer_id=WANG, to_store="D001")
    given(customer, REGISTERED).when(transfer).then_nothing()
    there_and_back = (CustomerTransferred(to_store="D002"), CustomerTransferred(to_store="D001"))
    given(customer, REGISTERED, *there_and_back).when(transfer).then_nothing()
    given(customer, REGISTERED, there_and_back[0]).when(transfer).then(there_and_back[1])


def test_the_new_owner_shares_with_the_old_one_also_if_that_once_shared_with_itself() -> None:
    history = (REGISTERED, CustomerShared(store="D001"), CustomerTransferred(to_store="D002"))
    share = ShareCustomer(customer_id=WANG, store="D001")
    given(customer, *history).when(share).then(CustomerShared(store="D001"))


ERASED: list[Event] = [
    ErasureRequested(reason="customer_request", requested_by="amy"),
    ErasureApproved(requested_by="amy", approved_by="bob"),
]
SHREDDED = PersonalDataShredded(key_id=WANG, destroyed_at=NOW, fingerprint="f", proof="p")


def test_the_sharing_of_an_erased_customer_can_be_ended() -> None:
    unshare = UnshareCustomer(customer_id=WANG, store="D002")
    for erased in (ERASED, [*ERASED, SHREDDED]):
        given(customer, REGISTERED, SHARED, *erased).when(unshare).then(UNSHARED)
        given(customer, REGISTERED, SHARED, *erased, UNSHARED).when(unshare).then_nothing()


def test_an_erased_customer_is_not_passed_around() -> None:
    for command in (
        ShareCustomer(customer_id=WANG, store="D002"),
        TransferCustomer(customer_id=WANG, to_store="D002"),
    ):
        given(customer, REGISTERED, *ERASED).when(command).then_raises(CustomerErased)


def test_who_may_act_follows_the_events() -> None:
    ownership = Ownership("D001", "hongtong")
    for event in (SHARED, CustomerShared(store="D003"), CustomerTransferred(to_store="D002")):
        ownership = customer.ownership.after(ownership, event)
    assert ownership == Ownership("D002", "hongtong", frozenset({"D003"}), frozenset({"D001"}))
    second, third = (scope_of((dealer,), ("hongtong",)) for dealer in ("D002", "D003"))
    share = ShareCustomer(customer_id=WANG, store="D001")
    assert customer.ownership.allows(share, second, ownership)
    assert not customer.ownership.allows(share, third, ownership)
    change = ChangeCategory(customer_id=WANG, category="vip")
    assert customer.ownership.allows(change, third, ownership)


def test_the_row_says_whose_the_customer_is() -> None:
    events = (REGISTERED, SHARED, CustomerShared(store="D003"), CustomerTransferred(to_store="D002"))
    rows = given_rows(customers)
    for number, event in enumerate(events, start=1):
        rows.when(recorded(event, stream_id=WANG, sequence=number, category="customer"))
    row = rows.rows[(WANG,)]
    assert (row.dealer_id, row.shared_with, row.salesperson_id) == ("D002", ("D003",), None)
