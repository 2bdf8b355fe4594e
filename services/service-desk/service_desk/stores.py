"""The stores of the group, as decisions ask for them: read once, and the same for as long as the process lives."""

from functools import cache
from pathlib import Path

from pydantic import field_validator

from forecourt.config import ServiceSettings, load
from service_desk.business_hours import BusinessCalendar
from service_desk.stores_file import FILE, Store, Stores

__all__ = ["ServiceDeskSettings", "Store", "calendar_of", "store_of"]


class ServiceDeskSettings(ServiceSettings):
    """What the service desk needs to know."""

    forecourt_stores_file: Path | None = None
    """Opening hours, holidays, bays and technicians of each store, in TOML, instead of the file that comes with the
    service."""

    @field_validator("forecourt_stores_file")
    @classmethod
    def _fits(cls, path: Path | None) -> Path | None:
        if path is not None:
            Stores.read(path)
        return path


@cache
def _stores() -> Stores:
    return Stores.read(load(ServiceDeskSettings).forecourt_stores_file or FILE)


def store_of(dealer_id: str) -> Store:
    """What is known of a store."""
    return _stores().of(dealer_id)


def calendar_of(name: str, dealer_id: str) -> BusinessCalendar:
    """The calendar that a clock began with. Is it not in the file any more, the clock goes on in the office's."""
    return _stores().calendars.get(name) or store_of(dealer_id).office
