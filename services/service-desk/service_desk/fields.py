"""Field types of the service desk, beside those of the whole trade."""

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from trade.fields import Code, Kilometres, Line, Moment, Paragraph

__all__ = ["Code", "Kilometres", "LongText", "Moment", "OptionalText", "ShortText", "Some"]

T = TypeVar("T")


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
