"""From an event and a contact to a request for a message: channel, consent, text, quiet hours. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from forecourt.errors import NotFound
from forecourt.events import ForeignEvent, Recorded
from notify.catalogue import Catalogue, Rendered
from notify.consent import Allowed, ConsentState, choose_channel
from notify.notification import Category, Channel, Language, RequestNotification, key_of
from notify.quiet_hours import QuietHours, quiet_until
from notify.read_models import ContactRow
from notify.rules import Rule, rules_for, values_of

NOTHING = Rendered("", "", "")


class ContactUnknown(NotFound):
    """The customer that an event is about is not known here yet; trying again later may help."""


@dataclass(frozen=True)
class House:
    """What the house has decided: quiet hours, names of stores, and what holds for silent customers."""

    quiet: QuietHours = QuietHours()
    store_names: tuple[tuple[str, str], ...] = ()
    default_language: Language = "zh"
    default_time_zone: str = "Asia/Shanghai"

    def store(self, dealer_id: str) -> str:
        """The name of a store, its number where it has none."""
        return dict(self.store_names).get(dealer_id, dealer_id)

    def language_of(self, contact: ContactRow) -> Language:
        """The customer's language, if we write in it."""
        return (
            "en" if contact.language == "en" else "zh" if contact.language == "zh" else self.default_language
        )

    def time_zone_of(self, contact: ContactRow) -> str:
        """The customer's time zone, if there is such a one."""
        try:
            return ZoneInfo(contact.time_zone).key
        except (ZoneInfoNotFoundError, ValueError):
            return self.default_time_zone


def requests_for(
    recorded: Recorded[Any], contact: ContactRow | None, catalogue: Catalogue, house: House, now: datetime
) -> list[RequestNotification]:
    """What to ask for because of an event, one request a rule.

    Raises `ContactUnknown` where there is a rule but no contact, `InvalidInput` where a value is missing.
    """
    event: ForeignEvent = recorded.event
    rules = rules_for(event)
    if not rules:
        return []
    if contact is None:
        raise ContactUnknown("contact: the customer is not known here yet")
    if not contact.reached_by(recorded.meta.dealer_id, recorded.meta.brand):
        stranger = _nobody(contact.customer_id)
        asked = (_request(rule, recorded, stranger, catalogue, house, now) for rule in rules)
        return [one.model_copy(update={"suppress": "out_of_scope"}) for one in asked]
    return [_request(rule, recorded, contact, catalogue, house, now) for rule in rules]


def _nobody(customer_id: UUID) -> ContactRow:
    """What a store is told of a customer outside its scope: nothing, not even the language."""
    return ContactRow(customer_id, "", "", "", "", "", (), (), "", "")


def _request(
    rule: Rule,
    recorded: Recorded[Any],
    contact: ContactRow,
    catalogue: Catalogue,
    house: House,
    now: datetime,
) -> RequestNotification:
    event, meta = recorded.event, recorded.meta
    choice = choose_channel(
        rule.category,
        rule.channels,
        {channel: contact.address(channel) for channel in rule.channels},
        consents_of(contact, rule.category, rule.channels),
    )
    allowed = choice if isinstance(choice, Allowed) else None
    language, time_zone = house.language_of(contact), house.time_zone_of(contact)
    version = catalogue.latest(rule.template)
    expires_at = expiry(rule, event, meta.time, time_zone, house.quiet)
    until = wait_until(rule.category, time_zone, house.quiet, now)
    too_late = allowed is not None and (until or now) >= expires_at
    goes = allowed is not None and not too_late
    rendered = NOTHING
    if goes:
        values = {**values_of(event), "name": contact.name, "store": house.store(meta.dealer_id)}
        rendered = catalogue.render(rule.template, version, language, choice.channel, values, time_zone)
    return RequestNotification(
        notification_id=key_of(meta.id, rule.name),
        customer_id=contact.customer_id,
        category=rule.category,
        channel=choice.channel,
        rule=rule.name,
        reason_event_id=meta.id,
        reason_event_type=type(event).event_type,
        reason_stream=meta.stream,
        consent=None if allowed is None else allowed.consent,
        template=rule.template,
        template_version=version,
        language=language,
        time_zone=time_zone,
        address=allowed.address if allowed is not None and goes else "",
        subject=rendered.subject,
        text=rendered.text,
        html=rendered.html,
        lifetime_hours=rule.lifetime_hours,
        expires_at=expires_at,
        suppress=None if isinstance(choice, Allowed) else choice.reason,
        too_late=too_late,
        defer_until=until if goes else None,
        defer_reason="quiet_hours" if goes and until is not None else None,
    )


def expiry(
    rule: Rule, event: ForeignEvent, happened_at: datetime, time_zone: str, quiet: QuietHours
) -> datetime:
    """When a message is of no use any more.

    Its lifetime counts from the event, not from when the event is heard of: what was held up for weeks, or is heard
    again, must not look like news. Quiet hours that the event fell into do not count.
    """
    could_go = wait_until(rule.category, time_zone, quiet, happened_at) or happened_at
    expires_at = could_go + timedelta(hours=rule.lifetime_hours)
    worthless_from = rule.worthless_from(event)
    return expires_at if worthless_from is None else min(expires_at, worthless_from)


def consents_of(
    contact: ContactRow, category: Category, channels: tuple[Channel, ...]
) -> dict[Channel, ConsentState]:
    """The customer's word on each channel for a category."""
    return {channel: contact.consent(category, channel) for channel in channels}


def wait_until(category: Category, time_zone: str, quiet: QuietHours, now: datetime) -> datetime | None:
    """The moment that a message has to wait for, None where it may go now. Safety does not wait."""
    return None if category == "safety" else quiet_until(now, time_zone, quiet)
