"""Field types of the service desk, beside those of the whole trade."""

from datetime import UTC
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field

from trade.fields import Code, Line, Paragraph

__all__ = ["Code", "LongText", "Moment", "OdometerKm", "OptionalText", "ShortText"]

ShortText = Line
"""One line: a reason, a name, a finding."""

LongText = Annotated[Paragraph, Field(min_length=1)]
"""A description."""

OptionalText = Paragraph
"""A remark, empty where there is none."""

OdometerKm = Annotated[int, Field(ge=0, le=2_000_000)]
"""A reading of the odometer, in kilometres."""

Moment = Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]
"""A point in time, in UTC whatever zone it was given in."""
