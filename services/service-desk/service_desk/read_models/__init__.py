"""The service desk's read models."""

from typing import Any

from forecourt.projections.projection import Projection
from service_desk.read_models.appointments import appointments
from service_desk.read_models.cars_in_stock import cars_in_stock
from service_desk.read_models.complaints import complaints
from service_desk.read_models.due import due
from service_desk.read_models.reminders import reminders
from service_desk.read_models.repair_orders import repair_orders
from service_desk.read_models.return_visits import return_visits
from service_desk.read_models.vehicle_timeline import vehicle_timeline

PROJECTIONS: tuple[Projection[Any], ...] = (
    appointments,
    cars_in_stock,
    complaints,
    due,
    reminders,
    repair_orders,
    return_visits,
    vehicle_timeline,
)
