"""What the service desk must know of a store: its hours, its calendar and its workshop."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from service_desk.business_hours import BusinessCalendar

_WEEKDAY_SHIFTS = ((time(9), time(12)), (time(13, 30), time(18)))

# The office that answers complaints keeps the country's working days: a Saturday inside a festival's
# holidays is free, and the weekend days that make up for them are worked.
CALENDARS = {
    calendar.name: calendar
    for calendar in (
        BusinessCalendar(
            name="cn-1",
            time_zone="Asia/Shanghai",
            shifts=dict.fromkeys(range(5), _WEEKDAY_SHIFTS),
            country="CN",
        ),
    )
}
"""By name. Events pin a calendar's name, so a changed calendar gets a new one and the old one stays."""


@dataclass(frozen=True)
class Store:
    """A store's workshop and hours; times are local. The workshop is open every day of the week."""

    time_zone: str = "Asia/Shanghai"
    calendar: str = "cn-1"
    workshop_opens: time = time(8, 30)
    workshop_closes: time = time(18)
    bays: int = 6
    technicians: int = 6

    def local(self, moment: datetime) -> datetime:
        """A moment as the store's wall clock shows it."""
        return moment.astimezone(ZoneInfo(self.time_zone))

    def moment(self, day: date, at: time) -> datetime:
        """The UTC moment at which the store's wall clock shows ``at`` on ``day``."""
        return datetime.combine(day, at, ZoneInfo(self.time_zone)).astimezone(UTC)


def store_of(dealer_id: str) -> Store:
    """The settings of a store. Every store of the group has the same today."""
    return Store()
