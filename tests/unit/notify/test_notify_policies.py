"""From an event and a contact to a request: rules, consent, text, quiet hours."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from forecourt.errors import InvalidInput
from forecourt.events import ForeignEvent
from forecourt.testing.given import an_id, recorded
from forecourt.values import Money
from notify import foreign
from notify.catalogue import catalogue
from notify.consent import Allowed, NotAllowed, choose_channel
from notify.notification import RequestNotification, key_of
from notify.policies import ContactUnknown, House, requests_for
from notify.read_models import ContactRow
from notify.rules import RULES, rules_for, values_of

CUSTOMER, STREAM = an_id("customer"), an_id("order")
NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
NIGHT = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
VIN = "LSVAA4180C2184841"

CONTACT = ContactRow(
    customer_id=CUSTOMER,
    name="王小明",
    mobile="+8613800000001",
    email="wang@example.com",
    language="zh",
    time_zone="Asia/Shanghai",
    granted=(),
    withdrawn=(),
    dealer_id="D001",
    brand="hongtong",
)

MONEY = Money(amount=Decimal("2680.00"), currency="CNY")
REMINDERS = (
    "first_maintenance",
    "regular_maintenance",
    "insurance_renewal",
    "annual_inspection",
    "warranty_end",
)
EVENTS: list[ForeignEvent] = [
    foreign.OrderPlaced(customer_id=CUSTOMER, model="H5", total=MONEY),
    foreign.VehicleArrived(customer_id=CUSTOMER, vin=VIN),
    foreign.VehicleDelivered(customer_id=CUSTOMER, vin=VIN, model="H5", delivered_at=NOON),
    foreign.AppointmentBooked(customer_id=CUSTOMER, vin=VIN, starts_at=NOON + timedelta(days=2)),
    foreign.RepairQuoted(customer_id=CUSTOMER, total=MONEY),
    foreign.VehicleHandedBack(customer_id=CUSTOMER, vin=VIN, odometer_km=15000, handed_back_at=NOON),
    foreign.ComplaintAcknowledged(customer_id=CUSTOMER),
    foreign.ComplaintClosed(customer_id=CUSTOMER),
    foreign.ReturnVisitBecameDue(customer_id=CUSTOMER, trigger="repair"),
    *(
        foreign.ReminderBecameDue(customer_id=CUSTOMER, vin=VIN, kind=kind, due_on=date(2026, 6, 30))
        for kind in REMINDERS
    ),
]
ARRIVED = EVENTS[1]
BOOKED = EVENTS[3]
HANDED_BACK = EVENTS[5]


def requests(
    event: ForeignEvent,
    contact: ContactRow | None = CONTACT,
    *,
    now: datetime = NOON,
    ago: timedelta = timedelta(),
    **house: Any,
) -> list[RequestNotification]:
    happened = recorded(event, stream_id=STREAM, time=now - ago)
    return requests_for(happened, contact, catalogue(), House(**house), now)


def request(event: ForeignEvent, contact: ContactRow = CONTACT, **more: Any) -> RequestNotification:
    (only,) = requests(event, contact, **more)
    return only


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: getattr(event, "kind", type(event).__name__))
@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_reason_leads_to_one_message_that_can_be_sent(event: ForeignEvent, language: str) -> None:
    asked = request(event, replace(CONTACT, language=language))
    assert asked.suppress is None
    assert asked.language == language
    assert CONTACT.name in asked.text
    assert asked.notification_id == key_of(uuid5(STREAM, "1"), asked.rule)
    assert asked.reason_event_type == type(event).event_type
    assert (asked.subject != "") == (asked.html != "") == (asked.channel == "email")


def test_every_event_that_is_listened_to_has_a_rule_and_every_rule_an_event() -> None:
    assert {rule.event for rule in RULES} == set(foreign.REASONS) == {type(event) for event in EVENTS}
    assert {rule.template for rule in RULES} == set(catalogue().templates)
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert sum(len(rules_for(event)) for event in EVENTS) == len(RULES)


def test_the_second_channel_is_taken_where_the_first_has_no_address() -> None:
    assert request(ARRIVED).channel == "sms"
    assert request(ARRIVED, replace(CONTACT, mobile="")).channel == "email"
    assert request(ARRIVED, replace(CONTACT, mobile="")).address == "wang@example.com"


def test_nobody_is_written_to_without_an_address_and_no_text_is_kept() -> None:
    asked = request(ARRIVED, replace(CONTACT, mobile="", email=""))
    assert (asked.suppress, asked.text, asked.address, asked.consent) == ("no_address", "", "", None)


ELSEWHERE = {
    "another store's": {"dealer_id": "D002"},
    "shared with a third one": {"dealer_id": "D002", "shared_with": ("D003",)},
    "another brand's": {"brand": "chery"},
    "another brand's, shared": {"dealer_id": "D002", "brand": "chery", "shared_with": ("D001",)},
}


@pytest.mark.parametrize("whose", ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: getattr(event, "kind", type(event).__name__))
def test_a_customer_outside_the_stores_scope_is_not_written_to_and_nothing_of_them_is_told(
    event: ForeignEvent, whose: dict[str, Any]
) -> None:
    contact = replace(CONTACT, language="en", time_zone="Europe/Berlin", mobile="", **whose)
    asked = request(event, contact)
    assert (asked.suppress, asked.customer_id) == ("out_of_scope", CUSTOMER)
    told = asked.model_dump(exclude={"customer_id"}).values()
    assert not {contact.name, contact.email, contact.language, contact.time_zone} & set(map(str, told))
    assert (asked.address, asked.subject, asked.text, asked.html, asked.consent) == ("", "", "", "", None)
    assert asked.channel == rules_for(event)[0].channels[0]


def test_a_store_writes_to_customers_that_are_shared_with_it() -> None:
    assert request(ARRIVED, replace(CONTACT, dealer_id="D002", shared_with=("D001", "D003"))).suppress is None


def test_a_service_message_respects_an_opt_out_a_contract_message_passes_it() -> None:
    objects = replace(
        CONTACT,
        withdrawn=("contract:sms", "marketing:sms", "service:email", "service:sms"),
    )
    assert request(HANDED_BACK, objects).suppress == "opted_out"
    assert request(ARRIVED, objects).suppress is None
    assert request(ARRIVED, objects).consent == "contract"


def test_an_opt_out_of_one_channel_leaves_the_other() -> None:
    asked = request(HANDED_BACK, replace(CONTACT, withdrawn=("service:sms",)))
    assert (asked.channel, asked.consent) == ("email", "service_default")


ADDRESSES: Any = {"sms": "+8613800000001", "email": "a@b.cn"}


def test_marketing_needs_a_grant_for_the_channel() -> None:
    both: Any = ("sms", "email")
    assert choose_channel("marketing", both, ADDRESSES, {}) == NotAllowed("sms", "no_consent")
    assert choose_channel("marketing", both, ADDRESSES, {"email": "granted"}) == Allowed(
        "email", "a@b.cn", "granted"
    )
    assert choose_channel("marketing", both, ADDRESSES, {"sms": "withdrawn"}) == NotAllowed(
        "sms", "opted_out"
    )
    assert choose_channel("safety", both, ADDRESSES, {"sms": "withdrawn"}) == Allowed(
        "sms", ADDRESSES["sms"], "safety"
    )


@pytest.mark.parametrize("channel", ["sms", "email"])
@pytest.mark.parametrize(
    ("category", "granted", "silent", "withdrawn"),
    [
        ("contract", "contract", "contract", "contract"),
        ("safety", "safety", "safety", "safety"),
        ("service", "granted", "service_default", "opted_out"),
        ("marketing", "granted", "no_consent", "opted_out"),
    ],
)
def test_each_purpose_has_its_answer_on_each_channel(
    channel: Any, category: Any, granted: str, silent: str, withdrawn: str
) -> None:
    """The other channel says the opposite, which is not asked for."""
    other: Any = {"sms": "email", "email": "sms"}[channel]
    for state, answer in (("granted", granted), ("silent", silent), ("withdrawn", withdrawn)):
        opposite: Any = "withdrawn" if state == "granted" else "granted"
        said: Any = {channel: state, other: opposite}
        choice = choose_channel(category, (channel,), ADDRESSES, said)
        if answer in ("opted_out", "no_consent"):
            assert choice == NotAllowed(channel, cast(Any, answer))
        else:
            assert choice == Allowed(channel, ADDRESSES[channel], cast(Any, answer))


STATES = st.sampled_from(["granted", "withdrawn", "silent"])


@given(
    st.sampled_from(["service", "marketing"]),
    st.permutations(["sms", "email"]),
    st.fixed_dictionaries({"sms": STATES, "email": STATES}),
    st.fixed_dictionaries({"sms": st.sampled_from(["", "+86"]), "email": st.sampled_from(["", "a@b"])}),
)
def test_nobody_is_written_to_against_their_will(
    category: Any, channels: list[Any], consents: dict[Any, Any], addresses: dict[Any, str]
) -> None:
    choice = choose_channel(category, channels, addresses, consents)
    if isinstance(choice, Allowed):
        assert choice.address
        assert consents[choice.channel] != "withdrawn"
        assert category == "service" or consents[choice.channel] == "granted"


def test_at_night_the_message_waits_for_the_morning() -> None:
    asked = request(ARRIVED, now=NIGHT)
    assert asked.defer_until == datetime(2026, 3, 3, 0, 0, tzinfo=UTC)
    assert asked.defer_reason == "quiet_hours"
    assert request(ARRIVED, replace(CONTACT, time_zone="Europe/Berlin"), now=NIGHT).defer_until is None


def test_its_lifetime_counts_from_the_event_not_from_when_it_is_heard_of() -> None:
    lifetime = timedelta(hours=rules_for(ARRIVED)[0].lifetime_hours)
    assert request(ARRIVED).expires_at == NOON + lifetime
    late = request(ARRIVED, ago=timedelta(days=3))
    assert (late.expires_at, late.too_late) == (NOON + lifetime - timedelta(days=3), False)


def test_quiet_hours_that_the_event_fell_into_do_not_count() -> None:
    at_night = request(ARRIVED, now=NIGHT)
    assert at_night.defer_until is not None
    assert at_night.expires_at == at_night.defer_until + timedelta(hours=at_night.lifetime_hours)


@pytest.mark.parametrize("now", [NOON, NIGHT])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: getattr(event, "kind", type(event).__name__))
def test_what_is_heard_of_after_its_lifetime_is_too_late_and_no_text_is_kept(
    event: ForeignEvent, now: datetime
) -> None:
    asked = request(event, now=now, ago=timedelta(days=31))
    assert (asked.too_late, asked.suppress, asked.defer_until) == (True, None, None)
    assert (asked.address, asked.subject, asked.text, asked.html) == ("", "", "", "")
    assert asked.notification_id == request(event).notification_id


def test_nobody_is_told_of_an_appointment_that_has_begun() -> None:
    begins = NOON + timedelta(days=2)
    assert request(BOOKED).expires_at == begins
    assert not request(BOOKED, now=begins - timedelta(minutes=1), ago=timedelta(days=1)).too_late
    assert request(BOOKED, now=begins, ago=timedelta(days=1)).too_late


def test_what_expires_before_the_quiet_hours_end_is_too_late() -> None:
    early = foreign.AppointmentBooked(customer_id=CUSTOMER, vin=VIN, starts_at=NIGHT + timedelta(hours=8))
    assert request(early, now=NIGHT).too_late


def test_an_objection_outweighs_that_it_is_too_late() -> None:
    asked = request(ARRIVED, replace(CONTACT, mobile="", email=""), ago=timedelta(days=31))
    assert (asked.suppress, asked.too_late) == ("no_address", False)


def test_a_customer_who_is_not_known_yet_is_waited_for() -> None:
    with pytest.raises(ContactUnknown):
        requests(ARRIVED, None)


def test_odd_profiles_fall_back_to_the_habits_of_the_house() -> None:
    odd = replace(CONTACT, language="tlh", time_zone="Mars/Olympus")
    asked = request(ARRIVED, odd)
    assert (asked.language, asked.time_zone) == ("zh", "Asia/Shanghai")


def test_the_store_is_named() -> None:
    assert request(ARRIVED, store_names=(("D001", "鸿通浦东店"),)).text.startswith("【鸿通浦东店】")
    assert request(ARRIVED).text.startswith("【D001】")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: getattr(event, "kind", type(event).__name__))
def test_a_preview_is_what_is_sent(event: ForeignEvent) -> None:
    asked = request(event)
    values = {**values_of(event), "name": CONTACT.name, "store": "D001"}
    preview = catalogue().render(
        asked.template, asked.template_version, asked.language, asked.channel, values, asked.time_zone
    )
    assert (preview.subject, preview.text, preview.html) == (asked.subject, asked.text, asked.html)


def test_a_missing_value_is_an_error_not_a_gap() -> None:
    with pytest.raises(InvalidInput) as refused:
        catalogue().render("vehicle_arrived", 1, "zh", "sms", {"name": "王", "store": "x"}, "Asia/Shanghai")
    assert "vin" in refused.value.fields["values"]
