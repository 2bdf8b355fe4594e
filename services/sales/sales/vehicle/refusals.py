"""Why a command to a vehicle may be refused."""

from forecourt.errors import Refused


class VehicleNotInStock(Refused):
    """The car does not stand in a store."""


class VehicleNotAvailable(Refused):
    """The car is neither bought nor in stock, or delivered already."""


class VehicleAlreadyInStock(Refused):
    """The car stands in a store already."""


class VehicleAlreadyPurchased(Refused):
    """The car was bought already."""


class VehicleIsReserved(Refused):
    """The car is held for somebody else."""


class VehicleIsHeldForOrder(Refused):
    """The car is held for an order; it may only be moved to that order's store."""


class ReservationIsForOrder(Refused):
    """The reservation belongs to an order; cancel the order to release it."""


class NoSuchReservation(Refused):
    """The car has no such live reservation."""


class VehicleNotInspected(Refused):
    """The car has not passed its pre-delivery inspection."""


class VehicleDoubleBooked(Refused):
    """Another test drive takes place in that time."""


class OdometerRunsBackwards(Refused):
    """The reading is less than an earlier one."""


class WrongModel(Refused):
    """The car is of another model than was ordered."""


class VehicleNotDelivered(Refused):
    """The car was not delivered under that order."""
