"""A vehicle: one car, from the order with the manufacturer to the customer, and back if need be.

Its id follows from its VIN, so there is one stream per car. What must not happen twice to one car is guarded
here: it has at most one live reservation, and nobody else's test drive at the same time.
"""

from sales.vehicle import commands, decisions, events, refusals
from sales.vehicle.state import Vehicle, vehicle

__all__ = ["Vehicle", "commands", "decisions", "events", "refusals", "vehicle"]
