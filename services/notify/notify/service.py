"""The notify service, put together."""

from forecourt.service import Service
from notify.api import api
from notify.callbacks import ROUTES
from notify.catalogue import catalogue
from notify.foreign import CUSTOMER_EVENTS, REASONS
from notify.notification import notification
from notify.read_models import contacts, history, notifications
from notify.settings import NotifySettings

catalogue()
"""Loaded with the service: a missing or broken template is found when a process starts."""

service = Service(
    name="notify",
    deciders=[notification],
    foreign=[*CUSTOMER_EVENTS, *REASONS],
    projections=[contacts, notifications, history],
    apis=[api],
    workers=["notify.worker:NotifyReactions"],
    http=ROUTES,
    settings=NotifySettings,
)
