"""An order: a customer buys a car from us, from the signature to the handover.

placed → a car allocated → arrived → paid → invoiced → notified out → approved out → three handover sheets →
delivered. Money is exact to the cent, and the car cannot leave before all that is done.
"""

from sales.order import commands, decisions, events, refusals
from sales.order.state import Order, order

__all__ = ["Order", "commands", "decisions", "events", "order", "refusals"]
