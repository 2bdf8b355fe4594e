"""Why a command to an order may be refused."""

from forecourt.errors import Refused


class OrderClosed(Refused):
    """The order is cancelled, or its car is delivered."""


class VehicleAlreadyAllocated(Refused):
    """The order has another car already."""


class VehicleNotAllocated(Refused):
    """The order has no car yet."""


class VehicleNotArrived(Refused):
    """The order's car is not in the store yet."""


class PaymentExceedsBalance(Refused):
    """More than is still due."""


class NotPaidInFull(Refused):
    """Something is still due."""


class AlreadyInvoiced(Refused):
    """The invoice is issued: what is sold cannot change any more."""


class NotInvoiced(Refused):
    """The invoice is not issued yet."""


class OutboundNotNotified(Refused):
    """Nobody has asked yet to let the car out."""


class OutboundNotApproved(Refused):
    """Nobody has let the car out yet."""


class HandoverCheckFailed(Refused):
    """A sheet on which a check did not pass is not complete."""


class HandoverIncomplete(Refused):
    """Of the three handover sheets at least one is not complete."""


class OrderNotDelivered(Refused):
    """Only a delivered car can be given back."""
