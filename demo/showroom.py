"""The showroom: leads come in, vehicles come into stock, twenty cars are sold and delivered."""

import asyncio
import csv
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import NAMESPACE_URL, uuid5

from crm.customer.v1 import customer_pb2 as customer
from crm.sales.v1 import lead_pb2, opportunity_pb2, order_pb2, vehicle_pb2
from demo.client import Store, money, timestamp
from demo.generate import DEALERS, INPUT

SOLD = 20
LOST = 12
PRICE = 189_800
DEPOSIT = 20_000
INSURANCE = 6_200

SHEETS = {
    order_pb2.HANDOVER_SHEET_INSPECTION: ("paint", "tyres", "lights"),
    order_pb2.HANDOVER_SHEET_CUSTOMER: ("documents", "keys", "features explained"),
    order_pb2.HANDOVER_SHEET_DELIVERY: ("odometer read", "fuel or charge", "signature"),
}


@dataclass(frozen=True)
class StockVehicle:
    """A vehicle that came into stock."""

    vin: str
    model: str
    dealer: str


@dataclass
class Showroom:
    """The sale of cars in each store."""

    stores: dict[str, Store]
    now: datetime

    async def receive_stock(self) -> list[StockVehicle]:
        """Register, buy, receive and inspect the vehicles of the file."""
        with (INPUT / "vehicles.csv").open(encoding="utf-8") as file:
            vehicles = [StockVehicle(**row) for row in csv.DictReader(file)]
        await asyncio.gather(*map(self.receive, vehicles))
        return vehicles

    async def receive(self, vehicle: StockVehicle) -> None:
        """Register, buy, receive and inspect a vehicle."""
        store = self.stores[vehicle.dealer]
        sales, vin = store.sales_manager.sales, vehicle.vin
        await sales.RegisterVehicle(
            vehicle_pb2.RegisterVehicleRequest(vin=vin, model=vehicle.model, colour="white", model_year=2026)
        )
        await sales.PurchaseVehicle(
            vehicle_pb2.PurchaseVehicleRequest(
                vin=vin, supplier="Hongtong Motor", price=money(PRICE - 20_000)
            )
        )
        await sales.ReceiveIntoStock(
            vehicle_pb2.ReceiveIntoStockRequest(vin=vin, store=vehicle.dealer, odometer_km=8)
        )
        await store.technician.sales.PassPdi(vehicle_pb2.PassPdiRequest(vin=vin, inspector="T-01"))

    async def capture_leads(self) -> list[tuple[str, str]]:
        """Send all ADF leads; answers (dealer, lead id) of those that are leads."""
        files = sorted((INPUT / "leads").glob("*.xml"))
        dealers = [DEALERS[(number + 1) % len(DEALERS)] for number in range(len(files))]
        answers = await asyncio.gather(
            *(
                self.stores[dealer].seller.sales.CaptureAdfLead(
                    lead_pb2.CaptureAdfLeadRequest(xml=file.read_bytes())
                )
                for dealer, file in zip(dealers, files, strict=True)
            )
        )
        return [
            (dealer, answer.prospects[0].lead_id if answer.prospects else answer.id)
            for dealer, answer in zip(dealers, answers, strict=True)
            if not answer.quarantined
        ]

    async def capture(self, dealer: str, document: str) -> tuple[str, int]:
        """Send an ADF lead with one prospect; its id, and the position of its last event."""
        answer = await self.stores[dealer].seller.sales.CaptureAdfLead(
            lead_pb2.CaptureAdfLeadRequest(xml=document.encode())
        )
        return answer.id, answer.position

    async def sell(self, vehicles: list[StockVehicle], leads: list[tuple[str, str]]) -> list[str]:
        """Sell a vehicle of its store to a lead of each store, twenty in all; answers the customers' ids."""
        waiting: dict[str, list[str]] = {dealer: [] for dealer in DEALERS}
        for dealer, lead_id in leads:
            waiting[dealer].append(lead_id)
        deals = [(vehicle, waiting[vehicle.dealer].pop(0)) for vehicle in vehicles[:SOLD]]
        buyers = await asyncio.gather(*(self.sell_one(vehicle, lead_id) for vehicle, lead_id in deals))
        rest = [(dealer, lead_id) for dealer, ids in waiting.items() for lead_id in ids]
        await asyncio.gather(*(self._lose(dealer, lead_id) for dealer, lead_id in rest[:LOST]))
        await asyncio.gather(*(self.disqualify(dealer, lead_id) for dealer, lead_id in rest[LOST : LOST + 5]))
        return list(buyers)

    async def _opportunity(self, dealer: str, lead_id: str, model: str, position: int = 0) -> tuple[str, str]:
        """From lead to customer and opportunity: (customer id, opportunity id)."""
        seller = self.stores[dealer].seller
        lead = await seller.sales.GetLead(lead_pb2.GetLeadRequest(lead_id=lead_id), after=position)
        points = [customer.ContactPoint(kind=customer.CONTACT_KIND_MOBILE, value=lead.phone)]
        if lead.email:
            points.append(customer.ContactPoint(kind=customer.CONTACT_KIND_EMAIL, value=lead.email))
        registered = await seller.customer.RegisterCustomer(
            customer.RegisterCustomerRequest(
                kind=customer.CUSTOMER_KIND_PROSPECT,
                name=lead.name,
                source="car-portal",
                contact_points=points,
                consents=[customer.Consent(purpose=customer.PURPOSE_SERVICE, channel=customer.CHANNEL_SMS)],
            )
        )
        await seller.sales.QualifyLead(
            lead_pb2.QualifyLeadRequest(lead_id=lead_id, customer_id=registered.id, model=model)
        )
        opportunity = await seller.sales.ConvertLead(
            lead_pb2.ConvertLeadRequest(lead_id=lead_id, salesperson=seller.actor)
        )
        return registered.id, opportunity.id

    async def sell_one(self, vehicle: StockVehicle, lead_id: str, position: int = 0) -> str:
        """From a lead, captured at ``position``, to a car from stock, reserved, then delivered; the customer's id."""
        sales = self.stores[vehicle.dealer].seller.sales
        customer_id, opportunity_id = await self._opportunity(
            vehicle.dealer, lead_id, vehicle.model, position
        )
        await self._test_drive(vehicle, opportunity_id)
        car = opportunity_pb2.SaleLine(
            kind=opportunity_pb2.LINE_KIND_VEHICLE,
            description=vehicle.model,
            quantity=1,
            unit_price=money(PRICE),
        )
        await sales.IssueQuote(
            opportunity_pb2.IssueQuoteRequest(
                opportunity_id=opportunity_id,
                lines=[car],
                valid_until=(self.now + timedelta(days=14)).date().isoformat(),
            )
        )
        await sales.ReserveVehicle(
            vehicle_pb2.ReserveVehicleRequest(vin=vehicle.vin, customer_id=customer_id)
        )
        order = await sales.PlaceOrder(
            order_pb2.PlaceOrderRequest(
                customer_id=customer_id, model=vehicle.model, lines=[car], opportunity_id=opportunity_id
            )
        )
        await sales.WinOpportunity(
            opportunity_pb2.WinOpportunityRequest(opportunity_id=opportunity_id, order_id=order.id)
        )
        await sales.AllocateVehicle(order_pb2.AllocateVehicleRequest(order_id=order.id, vin=vehicle.vin))
        await self._pay(vehicle, order.id)
        await self._hand_over(vehicle, order.id)
        await self.stores[vehicle.dealer].seller.customer.ChangeCategory(
            customer.ChangeCategoryRequest(customer_id=customer_id, category=customer.CUSTOMER_KIND_BUYER)
        )
        return customer_id

    async def _test_drive(self, vehicle: StockVehicle, opportunity_id: str) -> None:
        sales = self.stores[vehicle.dealer].seller.sales
        starts = self.now + timedelta(hours=1)
        drive = await sales.ScheduleTestDrive(
            opportunity_pb2.ScheduleTestDriveRequest(
                opportunity_id=opportunity_id,
                test_drive_id=_id(f"drive:{vehicle.vin}"),
                vin=vehicle.vin,
                starts_at=timestamp(starts),
                ends_at=timestamp(starts + timedelta(minutes=45)),
            )
        )
        assert drive.version
        await sales.CompleteTestDrive(
            opportunity_pb2.CompleteTestDriveRequest(
                opportunity_id=opportunity_id,
                test_drive_id=_id(f"drive:{vehicle.vin}"),
                odometer_km=20,
                impression="quiet, good brakes",
            )
        )

    async def _pay(self, vehicle: StockVehicle, order_id: str) -> None:
        sales, cashier = self.stores[vehicle.dealer].seller.sales, self.stores[vehicle.dealer].cashier.sales
        await cashier.RecordDeposit(
            order_pb2.RecordDepositRequest(
                order_id=order_id, amount=money(DEPOSIT), method=order_pb2.PAYMENT_METHOD_MOBILE
            )
        )
        await sales.AddAncillaryOrder(
            order_pb2.AddAncillaryOrderRequest(
                order_id=order_id,
                kind=order_pb2.ANCILLARY_KIND_INSURANCE,
                description="comprehensive, one year",
                amount=money(INSURANCE),
            )
        )
        await cashier.RecordPayment(
            order_pb2.RecordPaymentRequest(
                order_id=order_id,
                amount=money(PRICE + INSURANCE - DEPOSIT),
                method=order_pb2.PAYMENT_METHOD_BANK_TRANSFER,
            )
        )
        await cashier.IssueInvoice(
            order_pb2.IssueInvoiceRequest(order_id=order_id, invoice_number=f"INV-{vehicle.vin[-6:]}")
        )

    async def _hand_over(self, vehicle: StockVehicle, order_id: str) -> None:
        store = self.stores[vehicle.dealer]
        sales, manager = store.seller.sales, store.sales_manager.sales
        await sales.NotifyOutbound(order_pb2.NotifyOutboundRequest(order_id=order_id))
        await manager.ApproveOutbound(order_pb2.ApproveOutboundRequest(order_id=order_id))
        for sheet, items in SHEETS.items():
            checks = [order_pb2.HandoverCheck(item=item, passed=True) for item in items]
            await sales.CompleteHandoverSheet(
                order_pb2.CompleteHandoverSheetRequest(order_id=order_id, sheet=sheet, checks=checks)
            )
        await sales.DeliverVehicle(
            order_pb2.DeliverVehicleRequest(
                order_id=order_id,
                odometer_km=25,
                insurance_until=(self.now + timedelta(days=365)).date().isoformat(),
            )
        )

    async def _lose(self, dealer: str, lead_id: str) -> None:
        _, opportunity_id = await self._opportunity(dealer, lead_id, "Hongtong E5")
        await self.stores[dealer].seller.sales.LoseOpportunity(
            opportunity_pb2.LoseOpportunityRequest(
                opportunity_id=opportunity_id,
                reason=opportunity_pb2.LOSS_REASON_COMPETITOR,
                competitor="another make",
            )
        )

    async def disqualify(self, dealer: str, lead_id: str) -> None:
        """Put a lead aside that is none."""
        await self.stores[dealer].seller.sales.DisqualifyLead(
            lead_pb2.DisqualifyLeadRequest(lead_id=lead_id, reason="not reachable under this number")
        )


def _id(label: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"demo:{label}"))
