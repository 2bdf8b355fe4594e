"""Field types of the service desk, beside those of the whole trade."""

from datetime import UTC, datetime
from typing import Annotated, TypeVar

from pydantic import AfterValidator, AwareDatetime, Field

from trade.fields import Code, Line, Paragraph

__all__ = ["Code", "LongText", "Moment", "OdometerKm", "OptionalText", "ShortText", "Some"]

T = TypeVar("T")

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Points in time that the trade is about."""


def _some(items: tuple[T, ...]) -> tuple[T, ...]:
    if not items:
        raise ValueError("must not be empty")
    return items


Some = Annotated[tuple[T, ...], AfterValidator(_some)]
"""At least one. A minimal length would count valid items only, and complain of it beside each bad one."""

ShortText = Line
"""One line: a reason, a name, a finding."""

LongText = Annotated[Paragraph, Field(min_length=1)]
"""A description."""

OptionalText = Paragraph
"""A remark, empty where there is none."""

OdometerKm = Annotated[int, Field(ge=0, le=2_000_000)]
"""A reading of the odometer, in kilometres."""


def _in_our_years(moment: datetime) -> datetime:
    # Near the ends of the calendar the local time of a store could not be told any more.
    if not EARLIEST <= moment < LATEST:
        raise ValueError("must lie between the years 1970 and 2199")
    return moment.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_in_our_years)]
"""A point in time of the years 1970 to 2199, in UTC whatever zone it was given in."""
