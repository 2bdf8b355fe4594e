"""Stores: what their file may say, what is refused in it, and that all that depends on a store follows it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from forecourt.config import ConfigError, load, load_from
from forecourt.deciders import Decider
from forecourt.testing.given import CONTEXT, Given, an_id
from service_desk import stores as stores_module
from service_desk.appointment import OutsideOpeningHours, slots_of
from service_desk.business_hours import BusinessCalendar, Shift, add_business_time, business_time_between
from service_desk.complaint.commands import ReceiveComplaint
from service_desk.complaint.decisions import complaint
from service_desk.complaint.events import SlaStarted
from service_desk.reminder import ReminderScheduled, ScheduleReminder, reminder
from service_desk.service import service
from service_desk.stores import ServiceDeskSettings, calendar_of, store_of
from service_desk.stores_file import WEEKDAYS, Stores, StoresError

GROUP = """
[default]
workshop = "all-week"
office = "office-2"
bays = 6
technicians = 5

[stores.D002]
bays = 2
workshop = "split"

[stores.M001]
workshop = "bavaria"
office = "bavaria"

[calendars.all-week]
time_zone = "Asia/Shanghai"
monday = ["08:30-18:00"]
sunday = ["08:30-18:00"]

[calendars.office-2]
time_zone = "Asia/Shanghai"
holidays = "CN"
closed = [2026-01-07]
working = [2026-01-10, 2026-02-17]
make_up_like = "tuesday"
tuesday = ["10:00-16:00"]
wednesday = ["09:00-18:00"]

[calendars.split]
time_zone = "Asia/Shanghai"
monday = ["08:30-12:00", "13:30-18:00"]

[calendars.bavaria]
time_zone = "Europe/Berlin"
holidays = "DE-BY"
monday = ["07:00-19:00"]
tuesday = ["07:00-19:00"]
wednesday = ["07:00-19:00"]
"""
MONDAY = date(2026, 1, 5)
SHANGHAI, BERLIN = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Berlin")


def stores_of(folder: Path, text: str) -> Stores:
    """The stores of a file with a text."""
    path = folder / "stores.toml"
    path.write_text(text, encoding="utf-8")
    return Stores.read(path)


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    """The stores of `GROUP`, which the whole process has meanwhile."""
    stores = stores_of(tmp_path, GROUP)
    monkeypatch.setenv("FORECOURT_STORES_FILE", str(tmp_path / "stores.toml"))
    stores_module._stores.cache_clear()
    yield stores
    stores_module._stores.cache_clear()


# The file


def test_the_file_that_comes_along_is_the_group_of_the_demo() -> None:
    every_day = dict.fromkeys(range(7), ((time(8, 30), time(18)),))
    working_days = dict.fromkeys(range(5), ((time(9), time(12)), (time(13, 30), time(18))))
    for dealer in ("D001", "D007", "new"):
        store = store_of(dealer)
        assert (store.bays, store.technicians) == (6, 6)
        assert store.workshop == BusinessCalendar("workshop-1", "Asia/Shanghai", every_day)
        assert store.office == BusinessCalendar("cn-1", "Asia/Shanghai", working_days, country="CN")
    assert load(ServiceDeskSettings).forecourt_stores_file is None


def test_a_store_has_what_is_its_own_and_else_what_all_have(group: Stores) -> None:
    assert (store_of("D001").bays, store_of("D001").workshop.name) == (6, "all-week")
    assert (store_of("D002").bays, store_of("D002").workshop.name) == (2, "split")
    assert (store_of("D002").technicians, store_of("D002").office.name) == (5, "office-2")
    assert (
        store_of("M001").local(datetime(2026, 7, 1, 22, 30, tzinfo=UTC)).isoformat()
        == "2026-07-02T00:30:00+02:00"
    )


def test_days_of_its_own_count_more_than_the_countrys(group: Stores) -> None:
    office = group.calendars["office-2"]
    assert office.shifts_on(date(2026, 1, 6)) == ((time(10), time(16)),)
    assert office.shifts_on(date(2026, 1, 7)) == ()
    assert office.shifts_on(date(2026, 1, 14)) == ((time(9), time(18)),)
    assert office.shifts_on(date(2026, 1, 10)) == ((time(10), time(16)),), "a Saturday, worked like a Tuesday"
    assert office.shifts_on(date(2026, 2, 17)) == ((time(10), time(16)),), "a holiday, worked all the same"
    assert office.shifts_on(date(2026, 2, 18)) == ()


def test_a_part_of_a_country_has_holidays_of_its_own(group: Stores) -> None:
    epiphany = date(2026, 1, 6)
    assert group.calendars["bavaria"].shifts_on(epiphany) == ()
    whole = BusinessCalendar("x", "Europe/Berlin", group.calendars["bavaria"].shifts, country="DE")
    assert whole.shifts_on(epiphany) != ()


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        ("bays = 2", "bays = -2", r"stores\.D002\.bays: "),
        ("bays = 2", 'bays = "two"', r"stores\.D002\.bays: "),
        ("bays = 2", "boxes = 2", r"stores\.D002\.boxes: "),
        ("bays = 6\n", "", r"default\.bays: "),
        (
            'workshop = "split"',
            'workshop = "spilt"',
            r"stores\.D002\.workshop: no calendar spilt; there are all-week",
        ),
        ('office = "office-2"', 'office = "x"', r"default\.office: no calendar x"),
        (
            '"Europe/Berlin"',
            '"Europe/Munich"',
            r"calendars\.bavaria\.time_zone: Europe/Munich is no time zone",
        ),
        ('"Europe/Berlin"', '"../secret"', r"calendars\.bavaria\.time_zone: "),
        ('"DE-BY"', '"DE-XX"', r"calendars\.bavaria\.holidays: of DE-XX none are known"),
        ('"08:30-12:00"', '"8:30-12"', r"calendars\.split\.monday\.0: must be two times of day"),
        (
            '"08:30-12:00"',
            '"12:00-08:30"',
            r"calendars\.split\.monday: hours are empty, overlap or are out of order",
        ),
        ('"08:30-12:00"', '"08:30-13:31"', r"calendars\.split\.monday: hours"),
        ('monday = ["08:30-12:00", "13:30-18:00"]', "monday = []", r"calendars\.split: no weekday has hours"),
        ("[2026-01-07]", "[2026-01-10]", r"calendars\.office-2: closed, working: 2026-01-10 is in both"),
        ("[2026-01-07]", '["soon"]', r"calendars\.office-2\.closed\.0: "),
        ('"tuesday"', '"friday"', r"calendars\.office-2: make_up_like: friday has no hours"),
        ('"tuesday"', '"feast"', r"calendars\.office-2\.make_up_like: "),
        ("[default]", "[default", r"stores\.toml: "),
    ],
)
def test_what_does_not_fit_is_named_with_file_store_and_field(
    tmp_path: Path, before: str, after: str, where: str
) -> None:
    assert before in GROUP
    path = tmp_path / "stores.toml"
    with pytest.raises(StoresError, match=where):
        stores_of(tmp_path, GROUP.replace(before, after, 1))
    with pytest.raises(ConfigError, match=f"FORECOURT_STORES_FILE: .*{path}: .*"):
        load_from(ServiceDeskSettings, {"FORECOURT_STORES_FILE": str(path)})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"FORECOURT_STORES_FILE: .*{tmp_path}/none: cannot be read"):
        load_from(ServiceDeskSettings, {"FORECOURT_STORES_FILE": str(tmp_path / "none")})


def test_the_service_checks_it_when_it_starts() -> None:
    assert service.settings is ServiceDeskSettings


def test_the_example_of_the_documentation_fits(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/stores.md").read_text(encoding="utf-8")
    stores = stores_of(tmp_path, page.partition("```toml\n")[2].partition("```")[0])
    assert stores.of("D002").workshop.name == "split-1"


# What depends on it


def at_store(decider: Decider[Any], dealer: str) -> Given:
    """An aggregate without history, and somebody who acts for a store."""
    return Given(decider, (), replace(CONTEXT, dealer_id=dealer))


def test_appointments_keep_to_the_hours_of_the_workshop(group: Stores) -> None:
    def slots(dealer: str, hour: int, minutes: int, zone: ZoneInfo = SHANGHAI) -> tuple[date, int, int]:
        return slots_of(store_of(dealer), datetime.combine(MONDAY, time(hour), zone), minutes)

    assert slots("D001", 12, 60) == (MONDAY, 24, 2)
    with pytest.raises(OutsideOpeningHours):
        slots("D002", 12, 60)
    with pytest.raises(OutsideOpeningHours):
        slots("D002", 11, 120)
    assert slots("D002", 11, 60) == (MONDAY, 22, 2)
    assert slots("D002", 9, 480) == (MONDAY, 18, 16), "over the break the car keeps its bay"
    assert slots("M001", 7, 60, BERLIN) == (MONDAY, 14, 2)
    for hour in (6, 19):
        with pytest.raises(OutsideOpeningHours):
            slots("M001", hour, 60, BERLIN)
    epiphany = datetime(2026, 1, 6, 9, tzinfo=BERLIN)
    with pytest.raises(OutsideOpeningHours):
        slots_of(store_of("M001"), epiphany, 60)


def test_the_clock_of_a_complaint_counts_the_hours_of_the_stores_office(group: Stores) -> None:
    received = ReceiveComplaint(
        complaint_id=an_id("c"),
        customer_id=an_id("w"),
        channel="phone",
        subject="Noise",
        description="It rattles.",
        severity="high",
    )
    started = {
        dealer: at_store(complaint, dealer).at(datetime(2026, 1, 5, 8, tzinfo=UTC)).when(received).events[1]
        for dealer in ("D001", "M001")
    }
    first = {}
    for dealer, event in started.items():
        assert isinstance(event, SlaStarted)
        first[dealer] = (event.calendar, event.deadlines[0].due_at)
    assert first["D001"] == ("office-2", datetime(2026, 1, 6, 12, tzinfo=SHANGHAI))
    assert first["M001"] == ("bavaria", datetime(2026, 1, 5, 11, tzinfo=BERLIN))


def test_a_clock_goes_on_in_the_calendar_that_it_began_with(group: Stores) -> None:
    assert calendar_of("bavaria", "D001").name == "bavaria"
    assert calendar_of("cn-1", "D001").name == "office-2", "is not in the file any more"


def test_reminders_fall_due_in_the_morning_of_the_store(group: Stores) -> None:
    plan = ScheduleReminder(
        reminder_id=uuid4(),
        customer_id=uuid4(),
        vin="LVSHCAMEX1F123456",
        kind="annual_inspection",
        cycle="1",
        due_on=date(2026, 7, 1),
        read_on=date(2026, 1, 5),
        rule_version=1,
    )
    for dealer, zone in (("D001", SHANGHAI), ("M001", BERLIN)):
        (event,) = at_store(reminder, dealer).when(plan).events
        assert isinstance(event, ReminderScheduled)
        assert event.due_at == datetime(2026, 7, 1, 9, tzinfo=zone)


# Whatever the file says


@st.composite
def shifts(draw: st.DrawFn) -> tuple[Shift, ...]:
    """Up to three shifts of a day."""
    edges = sorted(draw(st.sets(st.integers(0, 24 * 12 - 1), max_size=6)))
    times = [time(edge // 12, edge % 12 * 5) for edge in edges[: len(edges) // 2 * 2]]
    return tuple(zip(times[::2], times[1::2], strict=True))


@st.composite
def files(draw: st.DrawFn) -> str:
    """A file with one calendar that has hours on some day of the week."""
    week = draw(st.lists(shifts(), min_size=7, max_size=7).filter(any))
    days = st.dates(date(2025, 12, 1), date(2026, 12, 31))
    closed = draw(st.sets(days, max_size=8))
    working = draw(st.sets(days, max_size=8)) - closed
    like = draw(st.sampled_from([name for name, hours in zip(WEEKDAYS, week, strict=True) if hours]))
    lines = [
        f"{name} = {[f'{a:%H:%M}-{b:%H:%M}' for a, b in hours]}"
        for name, hours in zip(WEEKDAYS, week, strict=True)
    ]
    return "\n".join(
        [
            "[default]",
            "workshop = 'x'\noffice = 'x'\nbays = 1\ntechnicians = 1",
            "[calendars.x]",
            f"time_zone = '{draw(st.sampled_from(['Asia/Shanghai', 'Europe/Berlin', 'America/St_Johns']))}'",
            f"holidays = '{draw(st.sampled_from(['', 'CN', 'DE-BY']))}'",
            f"closed = [{', '.join(map(str, sorted(closed)))}]",
            f"working = [{', '.join(map(str, sorted(working)))}]",
            f"make_up_like = '{like}'",
            *lines,
        ]
    )


moments = st.integers(0, 366 * 86_400).map(lambda s: datetime(2025, 12, 1, tzinfo=UTC) + timedelta(seconds=s))


@settings(max_examples=100)
@for_all(files(), moments, st.integers(1, 60 * 60), st.integers(0, 20 * 86_400), st.integers(0, 20 * 86_400))
def test_what_is_due_is_due_in_opening_hours_and_elapsed_time_adds_up(
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    start: datetime,
    minutes: int,
    first: int,
    second: int,
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    calendar = stores_of(folder, text).default.office
    amount = timedelta(minutes=minutes)
    due = add_business_time(calendar, start, amount)
    clock = due.astimezone(ZoneInfo(calendar.time_zone))
    assert any(opens < clock.time() <= closes for opens, closes in calendar.shifts_on(clock.date()))
    assert business_time_between(calendar, start, due) == amount

    middle = start + timedelta(seconds=first)
    end = middle + timedelta(seconds=second)
    parts = business_time_between(calendar, start, middle) + business_time_between(calendar, middle, end)
    assert parts == business_time_between(calendar, start, end) <= end - start
