"""What can be asked about sales: leads, opportunities, vehicles, orders."""

from sales.read_models.leads import LeadRow, QuarantinedRow, leads, quarantined_leads
from sales.read_models.opportunities import OpportunityRow, opportunities
from sales.read_models.orders import OrderRow, orders
from sales.read_models.vehicles import VehicleRow, vehicles

__all__ = [
    "LeadRow",
    "OpportunityRow",
    "OrderRow",
    "QuarantinedRow",
    "VehicleRow",
    "leads",
    "opportunities",
    "orders",
    "quarantined_leads",
    "vehicles",
]
