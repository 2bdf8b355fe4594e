"""Every version of every customer event still loads."""

from datetime import date
from pathlib import Path

from customer.customer import (
    CategoryChanged,
    Consent,
    ConsentGranted,
    ConsentWithdrawn,
    ContactPoint,
    ContactPointAdded,
    CustomerAssigned,
    CustomerRegistered,
    DuplicateSuspected,
    InteractionLogged,
    ProfileCorrected,
    VehicleOwnershipRecorded,
    customer,
)
from customer.customer_import import ImportRowRefused, ImportRowsReported, ImportStarted, customer_import
from customer.documents import IdentityDocumentRecorded, IdentityDocumentRemoved
from customer.erasure import ErasureApproved, ErasureRejected, ErasureRequested, PersonalDataShredded
from customer.sharing import CustomerShared, CustomerTransferred, CustomerUnshared
from forecourt.registry import build_registry
from forecourt.testing import golden
from forecourt.testing.given import NOW, an_id

FOLDER = Path(__file__).parent / "customer"
REGISTRY = build_registry(
    "customer",
    [(decider.category, decider.events) for decider in (customer, customer_import)],
    upcasters=[*customer.upcasters, *customer_import.upcasters],
)
SAMPLES = [
    CustomerRegistered(
        kind="prospect",
        name="王伟",
        language="zh",
        time_zone="Asia/Shanghai",
        source="walk-in",
        contact_points=(ContactPoint(kind="mobile", value="+8613800138000", typed="138 0013 8000"),),
        consents=(Consent(purpose="service", channel="sms"),),
    ),
    ContactPointAdded(kind="email", value="wei@example.com", typed="Wei@example.com"),
    ProfileCorrected(field="name", value="王薇", reason="misspelt"),
    CategoryChanged(previous="prospect", category="buyer"),
    CustomerAssigned(previous=None, salesperson_id="S1"),
    ConsentGranted(purpose="marketing", channel="email"),
    ConsentWithdrawn(purpose="marketing", channel="email"),
    VehicleOwnershipRecorded(vin="LSVAA4181E2184841", since=date(2025, 1, 1), until=None),
    InteractionLogged(channel="call", direction="inbound", subject="price", note="asked for the price"),
    DuplicateSuspected(other_id=an_id("li"), score=100, shared=("mobile", "document")),
    IdentityDocumentRecorded(
        kind="passport",
        number="E12345678",
        fingerprint="9b74c9897bac770ffc029102a200c5de5dd1d2e3c4d5e6f708192a3b4c5d6e7f",
        issuing_country="CN",
        expires_on=date(2030, 1, 31),
    ),
    IdentityDocumentRemoved(kind="passport"),
    ErasureRequested(reason="customer_request", requested_by="amy"),
    ErasureRejected(explanation="has an open order", rejected_by="bob"),
    ErasureApproved(requested_by="amy", approved_by="bob"),
    PersonalDataShredded(
        key_id=an_id("key"),
        destroyed_at=NOW,
        fingerprint="0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8",
        proof="a8ae6e6ee929abea3afcfc5258c8ccd6f85273e0d4626d26c7279f3250f77c8e",
    ),
    CustomerShared(store="D002"),
    CustomerUnshared(store="D002"),
    CustomerTransferred(to_store="D002"),
    ImportStarted(file_name="customers.csv"),
    ImportRowsReported(first_row=1, last_row=400, created=390, refused=8, duplicates=2),
    ImportRowRefused(
        row=7, outcome="refused", customer_id=None, field="mobile", reason="is not a telephone number"
    ),
]


def test_every_version_still_loads() -> None:
    golden.check(REGISTRY, FOLDER)


if __name__ == "__main__":
    print(golden.write_missing(REGISTRY, FOLDER, SAMPLES))
