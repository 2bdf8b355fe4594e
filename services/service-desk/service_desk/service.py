"""The service desk, put together."""

from forecourt.service import Service
from service_desk.api import api
from service_desk.appointment import appointment
from service_desk.complaint.decisions import complaint
from service_desk.foreign import FOREIGN
from service_desk.read_models import PROJECTIONS
from service_desk.reminder import reminder
from service_desk.repair_order.decisions import repair_order
from service_desk.return_visit import return_visit
from service_desk.stores import ServiceDeskSettings
from service_desk.workshop_day import workshop_day

service = Service(
    name="service_desk",
    deciders=[workshop_day, appointment, repair_order, complaint, return_visit, reminder],
    foreign=FOREIGN,
    projections=PROJECTIONS,
    apis=[api],
    workers=["service_desk.worker:CareReactions"],
    settings=ServiceDeskSettings,
)
