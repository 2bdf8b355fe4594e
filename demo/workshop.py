"""The service desk: repair orders through the workshop, complaints to their close, return visits answered."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from crm.customer.v1 import customer_pb2 as customer
from crm.service_desk.v1 import appointment_pb2, care_pb2, complaint_pb2, repair_order_pb2
from demo.client import Staff, Store, money, timestamp

REPAIRS = 40
COMPLAINTS = 6
BOOKED = 14
"""Repair orders with an appointment before them."""

KINDS = (
    appointment_pb2.WORK_KIND_MAINTENANCE,
    appointment_pb2.WORK_KIND_REPAIR,
    appointment_pb2.WORK_KIND_REPAIR,
)


@dataclass(frozen=True)
class Owner:
    """A customer with a vehicle."""

    customer_id: str
    vin: str
    dealer: str


@dataclass
class Workshop:
    """The workshop and the customer care of each store."""

    stores: dict[str, Store]
    now: datetime

    async def repair_all(self, owners: list[Owner]) -> list[str]:
        """Forty vehicles through the workshop, the first of them with rework; answers the orders' ids."""
        orders = await asyncio.gather(
            *(self._repair(owner, number) for number, owner in enumerate(owners[:REPAIRS]))
        )
        return list(orders)

    async def _repair(self, owner: Owner, number: int) -> str:
        """With an appointment for the first ones, and with rework for the very first."""
        kind = KINDS[number % len(KINDS)]
        appointment_id = await self._appointment(owner, number, kind) if number < BOOKED else ""
        odometer_km = 12_000 + 731 * number
        order_id = await self.repair(
            owner, number, odometer_km=odometer_km, rework=number == 0, appointment_id=appointment_id
        )
        if appointment_id:
            await self.stores[owner.dealer].adviser.desk.CompleteAppointment(
                appointment_pb2.CompleteAppointmentRequest(appointment_id=appointment_id)
            )
        return order_id

    async def repair(
        self, owner: Owner, number: int, *, odometer_km: int, rework: bool = False, appointment_id: str = ""
    ) -> str:
        """A vehicle through the workshop; answers the order's id."""
        desk = self.stores[owner.dealer].adviser.desk
        kind = KINDS[number % len(KINDS)]
        opened = await desk.OpenRepairOrder(
            repair_order_pb2.OpenRepairOrderRequest(
                customer_id=owner.customer_id,
                vin=owner.vin,
                odometer_km=odometer_km,
                kind=kind,
                symptoms=["noise from the front axle" if number % 3 else "regular service is due"],
                appointment_id=appointment_id,
                adviser_id=self.stores[owner.dealer].adviser.actor,
            )
        )
        lines = [
            _line(repair_order_pb2.LINE_KIND_LABOUR, "labour", "", "1.5", "180"),
            _line(repair_order_pb2.LINE_KIND_PART, "oil filter", "OF-17", "1", "68.50"),
        ]
        await self._agree(owner, opened.id, lines)
        await self._work(owner, opened.id, rework=rework)
        await self._settle(owner, opened.id, lines, number, odometer_km + 1)
        return str(opened.id)

    async def _appointment(
        self, owner: Owner, number: int, kind: "appointment_pb2.WorkKind.ValueType"
    ) -> str:
        desk = self.stores[owner.dealer].adviser.desk
        booked = await desk.BookAppointment(
            appointment_pb2.BookAppointmentRequest(
                customer_id=owner.customer_id,
                vin=owner.vin,
                kind=kind,
                starts_at=timestamp(self.now.replace(hour=6 + number % 3, minute=30)),
                minutes=60,
                technicians=1,
            )
        )
        await desk.CheckInAppointment(appointment_pb2.CheckInAppointmentRequest(appointment_id=booked.id))
        return str(booked.id)

    async def _agree(self, owner: Owner, order_id: str, lines: list[repair_order_pb2.RepairLine]) -> None:
        desk = self.stores[owner.dealer].adviser.desk
        await desk.QuoteRepair(repair_order_pb2.QuoteRepairRequest(repair_order_id=order_id, lines=lines))
        await desk.ApproveQuote(
            repair_order_pb2.ApproveQuoteRequest(
                repair_order_id=order_id, quote_version=1, agreement=repair_order_pb2.AGREEMENT_SIGNATURE
            )
        )

    async def _work(self, owner: Owner, order_id: str, *, rework: bool) -> None:
        store = self.stores[owner.dealer]
        desk, technician = store.workshop_manager.desk, store.technician.desk
        parts = [repair_order_pb2.PartLine(part_number="OF-17", pieces=1)]
        order = {"repair_order_id": order_id}
        await desk.DispatchTechnician(
            repair_order_pb2.DispatchTechnicianRequest(**order, technician_id="T-07", bay="B2")
        )
        await technician.RequestParts(repair_order_pb2.RequestPartsRequest(**order, parts=parts))
        await desk.IssueParts(repair_order_pb2.IssuePartsRequest(**order, parts=parts))
        await technician.StartWork(repair_order_pb2.StartWorkRequest(**order))
        await technician.CompleteWork(repair_order_pb2.CompleteWorkRequest(**order))
        if rework:
            await desk.FailInspection(
                repair_order_pb2.FailInspectionRequest(
                    **order, inspector_id="T-01", findings=["filter leaks"]
                )
            )
            await desk.RecordRework(
                repair_order_pb2.RecordReworkRequest(
                    **order,
                    responsibility=repair_order_pb2.RESPONSIBILITY_TECHNICIAN,
                    responsible_id="T-07",
                    technician_id="T-08",
                    instructions="fit a new gasket",
                )
            )
            await technician.StartWork(repair_order_pb2.StartWorkRequest(**order))
            await technician.CompleteWork(repair_order_pb2.CompleteWorkRequest(**order))
        await desk.PassInspection(repair_order_pb2.PassInspectionRequest(**order, inspector_id="T-01"))

    async def _settle(
        self,
        owner: Owner,
        order_id: str,
        lines: list[repair_order_pb2.RepairLine],
        number: int,
        odometer_km: int,
    ) -> None:
        desk = self.stores[owner.dealer].adviser.desk
        total = money("338.50")
        share = repair_order_pb2.PayerShare(payer=repair_order_pb2.PAYER_CUSTOMER, amount=total)
        await desk.InvoiceRepair(
            repair_order_pb2.InvoiceRepairRequest(
                repair_order_id=order_id, invoice_number=f"R-{number:04}", lines=lines, shares=[share]
            )
        )
        await self.stores[owner.dealer].cashier.desk.RecordRepairPayment(
            repair_order_pb2.RecordRepairPaymentRequest(
                repair_order_id=order_id,
                payer=repair_order_pb2.PAYER_CUSTOMER,
                amount=total,
                method=repair_order_pb2.PAYMENT_METHOD_WECHAT,
            )
        )
        await desk.HandBackVehicle(
            repair_order_pb2.HandBackVehicleRequest(repair_order_id=order_id, odometer_km=odometer_km)
        )

    async def complain_all(self, owners: list[Owner]) -> list[str]:
        """Six complaints to their close, the first of them reopened once; answers their ids."""
        complaints = await asyncio.gather(
            *(self.complain(owner, number) for number, owner in enumerate(owners[:COMPLAINTS]))
        )
        return list(complaints)

    async def complain(self, owner: Owner, number: int = 1) -> str:
        """A complaint to its close; number 0 is reopened once. Answers its id."""
        desk = self.stores[owner.dealer].care.desk
        received = await desk.ReceiveComplaint(
            complaint_pb2.ReceiveComplaintRequest(
                customer_id=owner.customer_id,
                channel=complaint_pb2.COMPLAINT_CHANNEL_PHONE,
                severity=complaint_pb2.SEVERITY_HIGH if number == 0 else complaint_pb2.SEVERITY_NORMAL,
                subject="Waited too long",
                description="The vehicle was promised for noon and was ready in the evening.",
                vin=owner.vin,
            )
        )
        complaint_id = str(received.id)
        await desk.AcknowledgeComplaint(complaint_pb2.AcknowledgeComplaintRequest(complaint_id=complaint_id))
        await self._handle(owner, complaint_id)
        if number == 0:
            await desk.ReopenComplaint(
                complaint_pb2.ReopenComplaintRequest(complaint_id=complaint_id, reason="It happened again.")
            )
            await self._handle(owner, complaint_id)
        return complaint_id

    async def _handle(self, owner: Owner, complaint_id: str) -> None:
        desk = self.stores[owner.dealer].care.desk
        one = {"complaint_id": complaint_id}
        await desk.TriageComplaint(
            complaint_pb2.TriageComplaintRequest(
                **one, topic=complaint_pb2.COMPLAINT_TOPIC_WAITING, severity=complaint_pb2.SEVERITY_NORMAL
            )
        )
        await desk.DispatchComplaint(
            complaint_pb2.DispatchComplaintRequest(
                **one, department=complaint_pb2.DEPARTMENT_SERVICE, owner_id="S-03"
            )
        )
        await desk.RecordComplaintAction(
            complaint_pb2.RecordComplaintActionRequest(**one, action="Spoke to the workshop.")
        )
        await desk.ProposeResolution(
            complaint_pb2.ProposeResolutionRequest(
                **one, resolution="A free car wash.", compensation=money(80)
            )
        )
        await desk.RecordCustomerReply(complaint_pb2.RecordCustomerReplyRequest(**one, accepted=True))
        await desk.CompleteRevisit(complaint_pb2.CompleteRevisitRequest(**one, satisfied=True))
        await desk.CloseComplaint(
            complaint_pb2.CloseComplaintRequest(**one, result=complaint_pb2.COMPLAINT_RESULT_RESOLVED)
        )

    async def answer_return_visits(self) -> int:
        """Call every customer whose return visit is due; answers how many were answered."""
        answered = await asyncio.gather(
            *(self._answer_visits_of(store.care) for store in self.stores.values())
        )
        return sum(answered)

    async def _answer_visits_of(self, agent: Staff) -> int:
        listed = await agent.desk.ListReturnVisits(
            care_pb2.ListReturnVisitsRequest(status=care_pb2.RETURN_VISIT_STATUS_DUE, page_size=500)
        )
        mine = [visit for visit in listed.return_visits if agent.serves(visit.dealer_id)]
        for visit in mine:
            await agent.desk.RecordReturnVisitAttempt(
                care_pb2.RecordReturnVisitAttemptRequest(
                    return_visit_id=visit.return_visit_id,
                    channel=care_pb2.RETURN_VISIT_CHANNEL_PHONE,
                    result=care_pb2.ATTEMPT_RESULT_REACHED,
                )
            )
            answers = [
                care_pb2.ReturnVisitAnswer(question=question, score=9)
                for question in QUESTIONS[visit.trigger]
            ]
            await agent.desk.CompleteReturnVisit(
                care_pb2.CompleteReturnVisitRequest(
                    return_visit_id=visit.return_visit_id, form_version=1, answers=answers, satisfied=True
                )
            )
        return len(mine)


QUESTIONS = {
    care_pb2.RETURN_VISIT_TRIGGER_DELIVERY: ("advice", "handover", "vehicle_condition"),
    care_pb2.RETURN_VISIT_TRIGGER_REPAIR: ("reception", "quality_of_work", "on_time", "price"),
    care_pb2.RETURN_VISIT_TRIGGER_COMPLAINT: ("solution", "speed"),
}


async def owners_of(office: Staff, customers: list[str], dealers: dict[str, str]) -> list[Owner]:
    """The vehicle of each customer, for those that have one; ``dealers`` by customer id."""
    found = await asyncio.gather(
        *(office.customer.GetCustomer(customer.GetCustomerRequest(customer_id=one)) for one in customers)
    )
    return [Owner(one.customer_id, one.vins[0], dealers[one.customer_id]) for one in found if one.vins]


def _line(
    kind: "repair_order_pb2.LineKind.ValueType", what: str, part: str, quantity: str, price: str
) -> repair_order_pb2.RepairLine:
    return repair_order_pb2.RepairLine(
        kind=kind, description=what, part_number=part, quantity=quantity, unit_price=money(price)
    )
