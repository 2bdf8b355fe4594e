"""Every version of every entry of the audit still loads."""

from pathlib import Path

from forecourt.audit.entries import (
    CATEGORY,
    SERVICE,
    CallsRejected,
    CommandRefused,
    CommandUnchanged,
    DataUnreadable,
    PartsRefused,
    PersonalDataRead,
    ReadRefused,
    audit,
)
from forecourt.registry import build_registry
from forecourt.testing import golden
from forecourt.testing.given import NOW, an_id

FOLDER = Path(__file__).parent / "audit"
REGISTRY = build_registry(SERVICE, [(CATEGORY, audit.events)], upcasters=audit.upcasters)
SCOPE = {"roles": ("salesperson",), "dealers": ("D001",), "brands": ("hongtong",)}
SAMPLES = [
    CommandRefused(
        rpc="sales.PlaceOrder",
        subjects=(an_id("order"),),
        code="FAILED_PRECONDITION",
        slug="vehicle-already-reserved",
        **SCOPE,
    ),
    CommandUnchanged(rpc="customer.ChangeCategory", subjects=(an_id("wang"),), **SCOPE),
    ReadRefused(
        rpc="customer.GetCustomer", subjects=(an_id("wang"),), code="NOT_FOUND", slug="not-found", **SCOPE
    ),
    PersonalDataRead(
        rpc="customer.UnmaskIdentityDocument",
        subjects=(an_id("wang"),),
        subject_count=1,
        purpose="invoice",
        **SCOPE,
    ),
    CallsRejected(
        rpc="customer.GetCustomer",
        code="UNAUTHENTICATED",
        slug="unauthenticated",
        count=3,
        since=NOW,
        until=NOW,
    ),
    PartsRefused(
        rpc="customer.ImportCustomers",
        subjects=(an_id("import"),),
        count=17,
        code="INVALID_ARGUMENT",
        slug="invalid-input",
        field="mobile",
        **SCOPE,
    ),
    DataUnreadable(
        service="customer",
        subjects=(an_id("wang"),),
        subject_count=1,
        slug="ciphertext-tampered",
        event_type="customer.CustomerRegistered",
    ),
]


def test_every_version_still_loads() -> None:
    golden.check(REGISTRY, FOLDER)


if __name__ == "__main__":
    print(golden.write_missing(REGISTRY, FOLDER, SAMPLES))
