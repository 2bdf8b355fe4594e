"""The rule table: which event makes us write to the customer, about what, with which template, and how.

One rule is one message. An event may have several rules; each of them writes once.

A rule's ``channels`` are in order of preference: the first one that the customer can be reached on, and does
not object to, is taken. ``lifetime_hours`` is how long after the event the message is worth sending, and
``worthless_from`` the moment from which it is not in any case.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from forecourt.events import ForeignEvent
from forecourt.values import Money
from notify.foreign import (
    AppointmentBooked,
    ComplaintAcknowledged,
    ComplaintClosed,
    OrderPlaced,
    ReminderBecameDue,
    RepairQuoted,
    ReturnVisitBecameDue,
    VehicleArrived,
    VehicleDelivered,
    VehicleHandedBack,
)
from notify.notification import Category, Channel

DAY = 24


def _always(event: Any) -> bool:
    return True


def _no_moment(event: Any) -> datetime | None:
    return None


@dataclass(frozen=True)
class Rule:
    """When ``event`` happens (and the rule ``applies``), the customer gets ``template``."""

    name: str
    event: type[ForeignEvent]
    category: Category
    template: str
    channels: tuple[Channel, ...]
    lifetime_hours: int
    applies: Callable[[Any], bool] = _always
    worthless_from: Callable[[Any], datetime | None] = _no_moment


def _reminder(kind: str, channels: tuple[Channel, ...]) -> Rule:
    return Rule(
        name=f"reminder_{kind}",
        event=ReminderBecameDue,
        category="service",
        template=f"reminder_{kind}",
        channels=channels,
        lifetime_hours=30 * DAY,
        applies=lambda event: event.kind == kind,
    )


SMS_FIRST: tuple[Channel, ...] = ("sms", "email")
MAIL_FIRST: tuple[Channel, ...] = ("email", "sms")

RULES: tuple[Rule, ...] = (
    Rule("order_placed", OrderPlaced, "contract", "order_placed", MAIL_FIRST, 14 * DAY),
    Rule("vehicle_arrived", VehicleArrived, "contract", "vehicle_arrived", SMS_FIRST, 14 * DAY),
    Rule("vehicle_delivered", VehicleDelivered, "service", "vehicle_delivered", MAIL_FIRST, 14 * DAY),
    Rule(
        "appointment_booked",
        AppointmentBooked,
        "contract",
        "appointment_booked",
        SMS_FIRST,
        7 * DAY,
        worthless_from=lambda event: event.starts_at,
    ),
    Rule("repair_quoted", RepairQuoted, "contract", "repair_quoted", SMS_FIRST, 7 * DAY),
    Rule("vehicle_handed_back", VehicleHandedBack, "service", "vehicle_handed_back", SMS_FIRST, 7 * DAY),
    Rule(
        "complaint_acknowledged",
        ComplaintAcknowledged,
        "contract",
        "complaint_acknowledged",
        SMS_FIRST,
        14 * DAY,
    ),
    Rule("complaint_closed", ComplaintClosed, "contract", "complaint_closed", MAIL_FIRST, 14 * DAY),
    Rule("return_visit_due", ReturnVisitBecameDue, "service", "return_visit_due", SMS_FIRST, 14 * DAY),
    _reminder("first_maintenance", SMS_FIRST),
    _reminder("regular_maintenance", SMS_FIRST),
    _reminder("insurance_renewal", MAIL_FIRST),
    _reminder("annual_inspection", SMS_FIRST),
    _reminder("warranty_end", MAIL_FIRST),
)


def rules_for(event: ForeignEvent) -> list[Rule]:
    """The rules that an event sets off."""
    return [rule for rule in RULES if rule.event is type(event) and rule.applies(event)]


def values_of(event: ForeignEvent) -> dict[str, str]:
    """The fields of an event as a template gets them: times in ISO 8601, money as ``123.40 CNY``."""
    return {
        name: _text(value)
        for name, value in ((name, getattr(event, name)) for name in type(event).model_fields)
        if value is not None
    }


def _text(value: Any) -> str:
    if isinstance(value, Money):
        return f"{value.amount} {value.currency}"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
