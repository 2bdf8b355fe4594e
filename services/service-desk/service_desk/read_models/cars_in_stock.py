"""New cars, and the store that has each: until a customer has it, that store sees what became of it on its way."""

import msgspec
from msgspec.structs import replace

from forecourt.events import Meta
from forecourt.projections.projection import Projection
from service_desk import foreign


class CarInStockRow(msgspec.Struct, frozen=True):
    """A car that no customer has yet; ``dealer_id`` is the store that has it, or that made it known."""

    vin: str
    dealer_id: str
    brand: str


cars_in_stock = Projection("car_in_stock", version=1, row=CarInStockRow, key="vin")


@cars_in_stock.on(key=lambda e, m: e.vin)
def _(row: CarInStockRow | None, e: foreign.VehicleRegistered, m: Meta) -> CarInStockRow:
    return CarInStockRow(e.vin, m.dealer_id, m.brand)


@cars_in_stock.on(key=lambda e, m: e.vin)
def _(row: CarInStockRow | None, e: foreign.ReceivedIntoStock, m: Meta) -> CarInStockRow | None:
    return row and replace(row, dealer_id=e.store)


@cars_in_stock.on(key=lambda e, m: e.vin)
def _(row: CarInStockRow | None, e: foreign.VehicleTransferred, m: Meta) -> CarInStockRow | None:
    return row and replace(row, dealer_id=e.to_store)


@cars_in_stock.on(key=lambda e, m: e.vin)
def _(row: CarInStockRow | None, e: foreign.VehicleDelivered, m: Meta) -> None:
    """From now on it is a customer's: what happens to it is each store's own business."""
