"""When two customers look like the same one."""

from typing import Literal

from customer.customer import Shared
from customer.read_models import CustomerRow

POINTS: dict[Literal["mobile", "email", "name"], int] = {"mobile": 50, "email": 40, "name": 20}
"""What each thing that two customers share counts for; the sum, at most 100, is the score."""

OF_A_DOCUMENT = 80
"""What the same identity document counts for: nobody but its owner has it, or somebody mistyped."""

THRESHOLD = 40
"""Scores below are coincidence: a common name alone says nothing."""


def likeness(
    one: CustomerRow, other: CustomerRow, *, same_document: bool = False
) -> tuple[int, tuple[Shared, ...]]:
    """Score 0 to 100, and what the two share."""
    alike = [
        column for column in POINTS if getattr(one, column) and getattr(one, column) == getattr(other, column)
    ]
    score = sum(POINTS[column] for column in alike) + (OF_A_DOCUMENT if same_document else 0)
    return min(100, score), (*alike, "document") if same_document else tuple(alike)
