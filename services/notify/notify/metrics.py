"""What notify counts beside the kernel's deliveries. Labels are words of the domain, never ids or addresses."""

from itertools import product
from typing import get_args

from prometheus_client import Counter, Gauge

from notify.notification.events import Channel, DeadLetterReason, SuppressReason

REQUESTED = Counter("forecourt_notifications_requested", "Messages asked for", ["rule", "channel"])
SUPPRESSED = Counter("forecourt_notifications_suppressed", "Messages not sent", ["channel", "reason"])
DEFERRED = Counter("forecourt_notifications_deferred", "Messages made to wait", ["channel", "reason"])
EXPIRED = Counter("forecourt_notifications_expired", "Messages not sent in time", ["channel"])
DEAD_LETTERED = Counter("forecourt_notifications_dead_lettered", "Messages given up", ["channel", "reason"])
DEAD_LETTERS = Gauge(
    "forecourt_notification_dead_letters", "Messages given up, waiting for somebody", ["reason"]
)
RECEIPTS = Counter("forecourt_delivery_receipts", "Reports of providers", ["provider", "outcome"])
# From the start, so that Prometheus sees the first of each kind as an increase.
for _channel, _reason in product(get_args(Channel), get_args(SuppressReason)):
    SUPPRESSED.labels(_channel, _reason)
for _channel, _reason in product(get_args(Channel), get_args(DeadLetterReason)):
    DEAD_LETTERED.labels(_channel, _reason)
