"""Every version of every event of the service desk still loads."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

from forecourt.events import Event
from forecourt.testing import golden
from forecourt.testing.given import an_id
from forecourt.values import Money
from service_desk import appointment as a
from service_desk import reminder as m
from service_desk import return_visit as v
from service_desk import workshop_day as w
from service_desk.complaint import events as c
from service_desk.repair_order import events as r
from service_desk.service import service
from service_desk.sla import Deadline, TimeLeft

FOLDER = Path(__file__).parent / "service_desk"
VIN = "LVSHCAMEX1F123456"
CUSTOMER, DAY, NOON = an_id("customer"), date(2026, 1, 6), datetime(2026, 1, 6, 4, 0, tzinfo=UTC)
YUAN = Money(amount=Decimal("300.00"), currency="CNY")
LINE = r.Line(kind="part", description="制动片", part_number="BP-7", quantity=Decimal("1.5"), unit_price=YUAN)
SAMPLES: list[Event] = [
    w.WorkshopDayOpened(day=DAY, bays=6, technicians=5),
    w.WorkshopCapacityChanged(bays=4, technicians=5),
    w.CapacityReserved(
        hold_id=an_id("hold"), appointment_id=an_id("appointment"), first_slot=18, slots=2, technicians=1
    ),
    w.CapacityReleased(hold_id=an_id("hold"), appointment_id=an_id("appointment")),
    a.AppointmentRequested(
        customer_id=CUSTOMER, vin=VIN, kind="maintenance", wished_for=NOON, remarks="请准时"
    ),
    a.AppointmentBooked(
        customer_id=CUSTOMER,
        vin=VIN,
        kind="repair",
        starts_at=NOON,
        minutes=60,
        technicians=1,
        remarks="",
        hold_id=an_id("hold"),
        day=DAY,
    ),
    a.AppointmentRescheduled(
        customer_id=CUSTOMER,
        vin=VIN,
        starts_at=NOON,
        minutes=90,
        technicians=2,
        hold_id=an_id("hold 2"),
        day=DAY,
        previous_hold_id=an_id("hold"),
        previous_day=DAY,
    ),
    a.AppointmentCheckedIn(customer_id=CUSTOMER, vin=VIN),
    a.AppointmentCompleted(customer_id=CUSTOMER),
    a.NoShowRecorded(customer_id=CUSTOMER, hold_id=an_id("hold"), day=DAY),
    a.AppointmentCancelled(customer_id=CUSTOMER, reason="ill", hold_id=None, day=None),
    r.RepairOrderOpened(
        customer_id=CUSTOMER,
        vin=VIN,
        odometer_km=12_000,
        kind="warranty",
        symptoms=("异响",),
        appointment_id=an_id("appointment"),
        adviser_id="A1",
    ),
    r.RepairQuoted(customer_id=CUSTOMER, quote_version=1, lines=(LINE,), total=YUAN),
    r.QuoteApproved(quote_version=1, agreement="signature"),
    r.QuoteDeclined(customer_id=CUSTOMER, quote_version=1, reason="too dear"),
    r.JobAdded(customer_id=CUSTOMER, job_id=an_id("job"), description="discs, too"),
    r.TechnicianDispatched(technician_id="T1", bay="B2"),
    r.PartsRequested(parts=(r.PartLine(part_number="BP-7", pieces=2),)),
    r.PartsIssued(parts=(r.PartLine(part_number="BP-7", pieces=2),)),
    r.PartsShort(part_number="BP-7", pieces=1, expected_on=DAY),
    r.WorkStarted(technician_id="T1"),
    r.WorkPaused(reason="parts"),
    r.WorkResumed(),
    r.WorkCompleted(technician_id="T1"),
    r.InspectionPassed(inspector_id="I1"),
    r.InspectionFailed(customer_id=CUSTOMER, inspector_id="I1", findings=("still squeals",)),
    r.ReworkRecorded(
        customer_id=CUSTOMER,
        responsibility="technician",
        responsible_id="T1",
        technician_id="T2",
        instructions="again",
    ),
    r.RepairInvoiced(
        customer_id=CUSTOMER,
        vin=VIN,
        invoice_number="INV-1",
        lines=(LINE,),
        total=YUAN,
        shares=(r.Share(payer="insurance", amount=YUAN),),
    ),
    r.ClaimSubmitted(claim_number="C-9", amount=YUAN),
    r.ClaimSettled(claim_number="C-9", accepted=YUAN),
    r.RepairPaid(customer_id=CUSTOMER, payer="customer", amount=YUAN, method="wechat", remaining=YUAN),
    r.VehicleHandedBack(
        customer_id=CUSTOMER, vin=VIN, odometer_km=12_003, handed_back_at=NOON, kind="warranty"
    ),
    r.RepairOrderCancelled(customer_id=CUSTOMER, vin=VIN, reason="changed their mind"),
    c.ComplaintReceived(
        customer_id=CUSTOMER,
        channel="phone",
        severity="high",
        vin=VIN,
        subject="划痕",
        description="the door was scratched",
        repair_order_id=an_id("order"),
        return_visit_id=None,
    ),
    c.SlaStarted(
        round=1,
        rule_version=1,
        calendar="cn-1",
        severity="high",
        started_at=NOON,
        deadlines=(Deadline(level=1, due_at=NOON),),
    ),
    c.SlaPaused(round=1, reason="customer", left=(TimeLeft(level=2, seconds=3_600),)),
    c.SlaResumed(round=1, deadlines=(Deadline(level=2, due_at=NOON),)),
    c.SlaBreached(round=1, clock="resolve", level=2, due_at=NOON),
    c.ComplaintEscalated(customer_id=CUSTOMER, round=1, level=2, reason="deadline_missed"),
    c.ComplaintAcknowledged(customer_id=CUSTOMER, acknowledged_by="M1"),
    c.ComplaintTriaged(topic="workmanship", severity="high"),
    c.ComplaintDispatched(department="service", owner_id="M1"),
    c.ActionRecorded(customer_id=CUSTOMER, action="looked at the door"),
    c.ResolutionProposed(customer_id=CUSTOMER, resolution="paint it again", compensation=YUAN),
    c.CustomerReplied(customer_id=CUSTOMER, accepted=True, remarks=""),
    c.RevisitCompleted(customer_id=CUSTOMER, satisfied=True, remarks="fine"),
    c.ComplaintClosed(customer_id=CUSTOMER, vin=VIN, result="resolved"),
    c.ComplaintReopened(customer_id=CUSTOMER, reason="the paint came off", round=2),
    v.ReturnVisitScheduled(
        customer_id=CUSTOMER, vin=VIN, trigger="repair", trigger_id=an_id("order"), due_at=NOON
    ),
    v.ReturnVisitBecameDue(
        customer_id=CUSTOMER, vin=None, trigger="complaint", trigger_id=an_id("complaint"), expires_at=NOON
    ),
    v.ReturnVisitAttempted(channel="phone", result="no_answer", attempt=1),
    v.ReturnVisitCompleted(
        customer_id=CUSTOMER,
        vin=VIN,
        trigger="repair",
        trigger_id=an_id("order"),
        form_version=1,
        answers=(v.Answer(question="price", score=4),),
        csi=Decimal("4.0"),
        satisfied=False,
        remarks="too dear",
    ),
    v.LowScoreFlagged(
        customer_id=CUSTOMER,
        vin=VIN,
        trigger="repair",
        trigger_id=an_id("order"),
        csi=Decimal("4.0"),
        threshold=Decimal("6.0"),
    ),
    v.ReturnVisitExpired(customer_id=CUSTOMER, attempts=3),
    m.ReminderScheduled(
        customer_id=CUSTOMER,
        vin=VIN,
        kind="first_maintenance",
        cycle="1",
        due_on=DAY,
        due_at=NOON,
        due_km=5_000,
        odometer_km=10,
        read_on=DAY,
        rule_version=1,
    ),
    m.ReminderRescheduled(
        customer_id=CUSTOMER,
        vin=VIN,
        kind="first_maintenance",
        due_on=DAY,
        due_at=NOON,
        previous_due_on=DAY,
        odometer_km=2_500,
        read_on=DAY,
    ),
    m.ReminderBecameDue(customer_id=CUSTOMER, vin=VIN, kind="insurance_renewal", due_on=DAY),
    m.ReminderFulfilled(
        customer_id=CUSTOMER, vin=VIN, kind="regular_maintenance", repair_order_id=an_id("order")
    ),
    m.ReminderWithdrawn(customer_id=CUSTOMER, vin=VIN, kind="warranty_end", cause="vehicle_sold"),
]


def test_every_version_still_loads() -> None:
    golden.check(service.registry, FOLDER)


def test_there_is_a_sample_of_every_event() -> None:
    assert {type(event) for event in SAMPLES} == set(service.registry.own_events().values())


if __name__ == "__main__":
    print(golden.write_missing(service.registry, FOLDER, SAMPLES))
