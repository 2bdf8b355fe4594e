"""Every version of every sales event still loads."""

from datetime import date
from pathlib import Path

from forecourt.events import Event
from forecourt.testing import golden
from forecourt.testing.given import NOW, an_id, later
from sales import lead
from sales.opportunity import events as opportunity
from sales.order import events as order
from sales.service import service
from sales.vehicle import events as vehicle
from tests.unit.sales.samples import CUSTOMER, MODEL, OPPORTUNITY, ORDER, RESERVATION, VIN, a_line, yuan

FOLDER = Path(__file__).parent / "sales"
DRIVE = an_id("drive")
PAYMENT = an_id("payment")
SAMPLES: list[Event] = [
    lead.LeadCaptured(
        source="portal",
        provider="AutoPortal",
        model=MODEL,
        vin=VIN,
        customer_id=CUSTOMER,
        name="王小明",
        phone="+8613800138000",
        phone_typed="138 0013 8000",
        email="wang@example.com",
        comments="Saturday?",
        requested_at=NOW,
    ),
    lead.LeadQuarantined(
        source="portal", reason="not well-formed XML, at line 1, column 0", sha256="0" * 64, size=3, raw="???"
    ),
    lead.LeadQualified(customer_id=CUSTOMER, model=MODEL),
    lead.LeadDisqualified(reason="wrong number"),
    lead.LeadConverted(opportunity_id=OPPORTUNITY, customer_id=CUSTOMER, model=MODEL, salesperson="S1"),
    opportunity.OpportunityOpened(
        customer_id=CUSTOMER, model=MODEL, lead_id=an_id("lead"), salesperson="S1", probability=10
    ),
    opportunity.OpportunityAssigned(previous="S1", salesperson="S2"),
    opportunity.StageAdvanced(previous="new", stage="test_drive", probability=40),
    opportunity.TestDriveScheduled(
        test_drive_id=DRIVE, customer_id=CUSTOMER, vin=VIN, starts_at=NOW, ends_at=later(minutes=30)
    ),
    opportunity.TestDriveCompleted(
        test_drive_id=DRIVE, customer_id=CUSTOMER, vin=VIN, odometer_km=17, impression="quiet"
    ),
    opportunity.TestDriveCancelled(test_drive_id=DRIVE, customer_id=CUSTOMER, vin=VIN, reason="rain"),
    opportunity.QuoteIssued(
        customer_id=CUSTOMER,
        quote_version=1,
        lines=(a_line("128800.00"), a_line("-800.00", kind="discount")),
        total=yuan("128000.00"),
        valid_until=date(2026, 1, 31),
    ),
    opportunity.OpportunityWon(customer_id=CUSTOMER, order_id=ORDER, previous="quote"),
    opportunity.OpportunityLost(
        customer_id=CUSTOMER, reason="competitor", competitor="Other Motors", note="cheaper", previous="quote"
    ),
    opportunity.OpportunityReopened(customer_id=CUSTOMER, reason="is back", stage="quote", probability=60),
    vehicle.VehicleRegistered(vin=VIN, model=MODEL, check_digit="valid", colour="white", model_year=2026),
    vehicle.VehiclePurchased(vin=VIN, supplier="Hongtong", price=yuan("100000.00")),
    vehicle.ReceivedIntoStock(vin=VIN, store="D001", odometer_km=5, order_id=None),
    vehicle.PdiPassed(vin=VIN, inspector="T1"),
    vehicle.PdiFailed(vin=VIN, inspector="T1", defects=("scratch",)),
    vehicle.VehicleReserved(
        vin=VIN, reservation_id=RESERVATION, customer_id=CUSTOMER, order_id=None, expires_at=later(hours=72)
    ),
    vehicle.ReservationConfirmed(vin=VIN, reservation_id=RESERVATION, customer_id=CUSTOMER, order_id=ORDER),
    vehicle.ReservationReleased(
        vin=VIN, reservation_id=RESERVATION, customer_id=CUSTOMER, order_id=None, reason="expired"
    ),
    vehicle.VehicleTransferred(vin=VIN, from_store="D001", to_store="D002"),
    vehicle.OdometerRecorded(vin=VIN, odometer_km=17),
    vehicle.TestDriveSlotBooked(
        vin=VIN, test_drive_id=DRIVE, opportunity_id=OPPORTUNITY, starts_at=NOW, ends_at=later(minutes=30)
    ),
    vehicle.TestDriveSlotReleased(vin=VIN, test_drive_id=DRIVE),
    vehicle.VehicleReleased(vin=VIN, order_id=ORDER, customer_id=CUSTOMER, odometer_km=20),
    vehicle.VehicleTakenBack(vin=VIN, order_id=ORDER, store="D002", odometer_km=40),
    order.OrderPlaced(
        customer_id=CUSTOMER,
        model=MODEL,
        lines=(a_line("128800.00"),),
        total=yuan("128800.00"),
        opportunity_id=OPPORTUNITY,
    ),
    order.VehicleAllocated(vin=VIN, customer_id=CUSTOMER),
    order.VehicleArrived(vin=VIN, customer_id=CUSTOMER),
    order.DepositReceived(
        customer_id=CUSTOMER,
        payment_id=PAYMENT,
        amount=yuan("5000.00"),
        method="mobile",
        balance=yuan("123800.00"),
    ),
    order.PaymentReceived(
        customer_id=CUSTOMER,
        payment_id=PAYMENT,
        amount=yuan("123799.50"),
        method="bank_transfer",
        balance=yuan("0.50"),
    ),
    order.PaymentWrittenOff(
        customer_id=CUSTOMER, amount=yuan("0.50"), reason="rounding", balance=yuan("0.00")
    ),
    order.AncillaryOrderAdded(
        customer_id=CUSTOMER,
        ancillary_id=an_id("mats"),
        kind="accessories",
        description="mats",
        amount=yuan("199.90"),
        balance=yuan("199.90"),
    ),
    order.InvoiceIssued(customer_id=CUSTOMER, invoice_number="INV-1", amount=yuan("128999.90")),
    order.OutboundNotified(vin=VIN, notified_by="seller"),
    order.OutboundApproved(vin=VIN, approved_by="manager"),
    order.HandoverChecklistCompleted(
        vin=VIN, sheet="inspection", checks=("keys", "lights"), completed_by="seller"
    ),
    order.VehicleDelivered(
        customer_id=CUSTOMER,
        vin=VIN,
        model=MODEL,
        delivered_at=NOW,
        odometer_km=20,
        insurance_until=date(2027, 1, 4),
    ),
    lead.LeadShredded(
        key_id=an_id("key"),
        destroyed_at=NOW,
        fingerprint="0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8",
        proof="a8ae6e6ee929abea3afcfc5258c8ccd6f85273e0d4626d26c7279f3250f77c8e",
    ),
    order.OrderCancelled(customer_id=CUSTOMER, vin=VIN, reason="no loan", refund=yuan("5000.00")),
    order.VehicleReturned(customer_id=CUSTOMER, vin=VIN, reason="wrong colour", store="D002", odometer_km=40),
]


def test_every_version_still_loads() -> None:
    golden.check(service.registry, FOLDER)


if __name__ == "__main__":
    print(golden.write_missing(service.registry, FOLDER, SAMPLES))
