"""Calls of the sales API without a network: real flows and deciders on the store in memory."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from forecourt.access.identity import Identity
from forecourt.access.scope import UNRESTRICTED, Scope
from forecourt.clock import ManualClock
from forecourt.codec import Codec
from forecourt.command_handler import CommandHandler, Outcome
from forecourt.deciders import Command, Decider
from forecourt.events import Event
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.privacy.export import Export
from forecourt.privacy.keys import MemoryKeys
from forecourt.projections.queries import ReadModels
from forecourt.rpc.calls import Call, CallMetadata
from forecourt.testing.given import CONTEXT, NAMESPACE
from sales.order import order
from sales.order.commands import PlaceOrder
from sales.service import service
from sales.vehicle import vehicle
from sales.vehicle.commands import PassPdi, PurchaseVehicle, ReceiveIntoStock, RegisterVehicle
from tests.unit.sales.samples import CUSTOMER, MODEL, ORDER, VIN, a_line, yuan


@dataclass
class Showroom:
    """A store of events and those who call."""

    store: MemoryEventStore = field(default_factory=MemoryEventStore)
    clock: ManualClock = field(default_factory=ManualClock)
    keys: MemoryKeys = field(default_factory=MemoryKeys)
    calls: int = 0

    def __post_init__(self) -> None:
        self.handler = CommandHandler(self.store, Codec(service.registry))

    def call(
        self,
        command_id: UUID | None = None,
        *,
        actor: str = "seller",
        expected: int | None = None,
        handler: CommandHandler | None = None,
        scope: Scope = UNRESTRICTED,
    ) -> Call:
        """A call with an id of its own, unless it repeats another."""
        self.calls += 1
        context = replace(
            CONTEXT,
            now=self.clock.now(),
            actor_id=actor,
            scope=scope,
            command_id=command_id or uuid5(NAMESPACE, f"call {self.calls}"),
        )
        identity = Identity(actor, frozenset(), ("D001",), ("hongtong",), 0)
        metadata = CallMetadata(identity, context, expected, 0)
        return Call(
            metadata,
            commands=handler or self.handler,
            read_models=ReadModels(None, "sales"),
            clock=self.clock,
            settings=None,
            hashes=self.keys,
            export=Export(self.store, self.keys, ()),
        )

    def another_process(self) -> CommandHandler:
        """A handler of another process, which has its own memory."""
        return CommandHandler(self.store, Codec(service.registry))

    async def run(self, decider: Decider[Any], *commands: Command) -> Outcome:
        """Run commands one after the other; answers the last outcome."""
        outcomes = [await self.call().commands.execute(decider, command) for command in commands]
        return outcomes[-1]

    async def state(self, decider: Decider[Any], aggregate_id: UUID) -> Any:
        """The present state of an aggregate."""
        return (await self.another_process().load(decider, aggregate_id)).state

    async def events(self, decider: Decider[Any], aggregate_id: UUID) -> list[Event]:
        """The events of an aggregate."""
        codec = Codec(service.registry)
        found: list[Any] = []
        async for page in self.store.read_stream(decider.stream(aggregate_id)):
            found += [recorded.event for recorded in await codec.decode(page)]
        return found

    async def car(self, vin: str = VIN, *, arrived: bool = True) -> None:
        """A car that we bought; in stock and inspected unless it has not arrived."""
        bought = [
            RegisterVehicle(vin=vin, model=MODEL),
            PurchaseVehicle(vin=vin, supplier="Hongtong", price=yuan("100000.00")),
        ]
        await self.run(vehicle, *bought)
        if arrived:
            await self.run(vehicle, ReceiveIntoStock(vin=vin, odometer_km=5), PassPdi(vin=vin))

    async def order(self, order_id: UUID = ORDER, customer_id: UUID = CUSTOMER) -> None:
        """An order for a car."""
        lines = (a_line("128000.00"),)
        await self.run(
            order, PlaceOrder(order_id=order_id, customer_id=customer_id, model=MODEL, lines=lines)
        )

    def at(self, moment: datetime) -> None:
        """Let time pass until ``moment``."""
        self.clock.advance(moment - self.clock.now())
