"""When two customers look like the same one."""

from typing import Literal

from customer.read_models import CustomerRow

Shared = Literal["mobile", "email", "name"]

POINTS: dict[Shared, int] = {"mobile": 50, "email": 40, "name": 20}
"""What each thing that two customers share counts for; the sum, at most 100, is the score."""

THRESHOLD = 40
"""Scores below are coincidence: a common name alone says nothing."""


def likeness(one: CustomerRow, other: CustomerRow) -> tuple[int, tuple[Shared, ...]]:
    """Score 0 to 100, and what the two share."""
    shared = tuple(
        column for column in POINTS if getattr(one, column) and getattr(one, column) == getattr(other, column)
    )
    return min(100, sum(POINTS[column] for column in shared)), shared
