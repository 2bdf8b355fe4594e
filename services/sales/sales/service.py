"""The sales service, put together."""

from forecourt.service import Service
from sales.api import api
from sales.foreign import FOREIGN
from sales.lead import lead
from sales.opportunity import opportunity
from sales.order import order
from sales.read_models import leads, opportunities, orders, quarantined_leads, vehicles
from sales.settings import SalesSettings
from sales.vehicle import vehicle

service = Service(
    name="sales",
    deciders=[lead, opportunity, vehicle, order],
    foreign=FOREIGN,
    projections=[leads, quarantined_leads, opportunities, vehicles, orders],
    apis=[api],
    workers=["sales.worker:SalesReactions"],
    settings=SalesSettings,
)
