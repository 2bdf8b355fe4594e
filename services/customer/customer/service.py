"""The customer service, put together."""

from customer.api import api
from customer.customer import customer
from customer.customer_import import customer_import
from customer.foreign import FOREIGN
from customer.read_models import PROJECTIONS
from forecourt.service import Service

service = Service(
    name="customer",
    deciders=[customer, customer_import],
    foreign=FOREIGN,
    projections=PROJECTIONS,
    apis=[api],
    workers=["customer.worker:CustomerReactions"],
    person_field="customer_id",
)
