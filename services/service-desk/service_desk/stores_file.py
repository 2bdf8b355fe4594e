"""The file that says what the service desk must know of each store: `stores.toml` beside this one, or another."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import holidays
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from service_desk.business_hours import BusinessCalendar, Shift
from service_desk.workshop_day import Places

FILE = Path(__file__).with_name("stores.toml")

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)

_HOURS = re.compile(r"(([01]\d|2[0-3]):[0-5]\d)-(([01]\d|2[0-3]):[0-5]\d)")


class StoresError(ValueError):
    """The file does not fit; the message names it, the store or calendar, and the field."""


@dataclass(frozen=True)
class Store:
    """A store's workshop, and the office that answers its complaints. Times are those of the workshop's zone."""

    workshop: BusinessCalendar
    office: BusinessCalendar
    bays: int
    technicians: int

    @property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.workshop.time_zone)

    def local(self, moment: datetime) -> datetime:
        """A moment as the store's wall clock shows it."""
        return moment.astimezone(self._zone)

    def moment(self, day: date, at: time) -> datetime:
        """The UTC moment at which the store's wall clock shows ``at`` on ``day``."""
        return datetime.combine(day, at, self._zone).astimezone(UTC)


@dataclass(frozen=True)
class Stores:
    """All stores: those that the file names, and the ``default`` that every other one is like."""

    default: Store
    named: Mapping[str, Store]
    calendars: Mapping[str, BusinessCalendar]

    @classmethod
    def read(cls, path: Path) -> "Stores":
        """The stores of a file. Raises `StoresError`."""
        try:
            return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).stores_of_group()
        except (OSError, UnicodeDecodeError) as error:
            raise StoresError(f"{path}: cannot be read ({type(error).__name__})") from None
        except tomllib.TOMLDecodeError as error:
            raise StoresError(f"{path}: {error}") from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            reason = first["msg"].removeprefix("Value error, ")
            raise StoresError(f"{path}: {where}: {reason}" if where else f"{path}: {reason}") from None

    def of(self, dealer_id: str) -> Store:
        """A store."""
        return self.named.get(dealer_id, self.default)


def _shift(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = _HOURS.fullmatch(value)
    if found is None:
        raise ValueError("must be two times of day, such as 08:30-12:00")
    return time.fromisoformat(found[1]), time.fromisoformat(found[3])


def _in_order(shifts: tuple[Shift, ...]) -> tuple[Shift, ...]:
    edges = [edge for shift in shifts for edge in shift]
    if edges != sorted(set(edges)):
        raise ValueError("hours are empty, overlap or are out of order")
    return shifts


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name} is no time zone") from None
    return name


def _country(code: str) -> str:
    country, _, subdivision = code.partition("-")
    try:
        if code:
            holidays.country_holidays(country, subdivision or None)
    except NotImplementedError:
        raise ValueError(
            f"of {code} none are known; write a country, such as CN, or its part, DE-BY"
        ) from None
    return code


Hours = Annotated[tuple[Annotated[Shift, BeforeValidator(_shift)], ...], AfterValidator(_in_order)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Calendar(_Table):
    time_zone: Annotated[str, AfterValidator(_time_zone)]
    holidays: Annotated[str, AfterValidator(_country)] = ""
    closed: tuple[date, ...] = ()
    working: tuple[date, ...] = ()
    make_up_like: Weekday = "monday"
    monday: Hours = ()
    tuesday: Hours = ()
    wednesday: Hours = ()
    thursday: Hours = ()
    friday: Hours = ()
    saturday: Hours = ()
    sunday: Hours = ()

    @property
    def shifts(self) -> dict[int, tuple[Shift, ...]]:
        return {number: getattr(self, name) for number, name in enumerate(WEEKDAYS) if getattr(self, name)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.shifts:
            raise ValueError("no weekday has hours")
        if both := set(self.closed) & set(self.working):
            raise ValueError(f"closed, working: {min(both)} is in both")
        if self.working and not getattr(self, self.make_up_like):
            raise ValueError(
                f"make_up_like: {self.make_up_like} has no hours, and days in working have those"
            )
        return self

    def named(self, name: str) -> BusinessCalendar:
        country, _, subdivision = self.holidays.partition("-")
        return BusinessCalendar(
            name=name,
            time_zone=self.time_zone,
            shifts=self.shifts,
            country=country,
            subdivision=subdivision,
            closed=frozenset(self.closed),
            working=frozenset(self.working),
            make_up_like=WEEKDAYS.index(self.make_up_like),
        )


class _Default(_Table):
    workshop: str
    office: str
    bays: Places
    technicians: Places


class _Different(_Table):
    workshop: str | None = None
    office: str | None = None
    bays: Places | None = None
    technicians: Places | None = None


class _File(_Table):
    default: _Default
    stores: dict[str, _Different] = {}
    calendars: dict[str, _Calendar]

    @model_validator(mode="after")
    def _name_calendars(self) -> Self:
        for table, one in {
            "default": self.default,
            **{f"stores.{k}": v for k, v in self.stores.items()},
        }.items():
            for field in ("workshop", "office"):
                name = getattr(one, field)
                if name is not None and name not in self.calendars:
                    raise ValueError(
                        f"{table}.{field}: no calendar {name}; there are {', '.join(self.calendars)}"
                    )
        return self

    def stores_of_group(self) -> Stores:
        calendars = {name: one.named(name) for name, one in self.calendars.items()}
        usual = self.default.model_dump()

        def store(given: dict[str, Any]) -> Store:
            return Store(
                workshop=calendars[given["workshop"]],
                office=calendars[given["office"]],
                bays=given["bays"],
                technicians=given["technicians"],
            )

        named = {k: store(usual | one.model_dump(exclude_none=True)) for k, one in self.stores.items()}
        return Stores(store(usual), named, calendars)
