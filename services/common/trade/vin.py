"""Vehicle identification numbers: ISO 3779 and GB 16735.

A VIN has 17 characters, capital letters without I, O and Q, and digits. Its ninth character is a check digit
where the law says so: China (VINs that begin with L) and North America (1 to 5). There a wrong check digit
means a wrong VIN. Elsewhere the makers use that place as they like, so a mismatch is only worth a warning.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import AfterValidator, Field

CheckDigit = Literal["valid", "invalid", "not_applicable"]
"""``not_applicable``: the ninth character cannot be a check digit at all (neither a digit nor X)."""

VIN_LENGTH = 17

_CHARACTERS = re.compile(r"[A-HJ-NPR-Z0-9]*")
_CHECKED_REGIONS = frozenset("L12345")
_CHECK_PLACE = 8
_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_VALUES = {
    **{str(digit): digit for digit in range(10)},
    **dict(zip("ABCDEFGH", range(1, 9), strict=True)),
    **dict(zip("JKLMN", range(1, 6), strict=True)),
    "P": 7,
    "R": 9,
    **dict(zip("STUVWXYZ", range(2, 10), strict=True)),
}


@dataclass(frozen=True)
class Vin:
    """A well-formed VIN and what its check digit says."""

    vin: str
    check_digit: CheckDigit

    @property
    def suspicious(self) -> bool:
        """Whether somebody should look again: the check digit does not fit, where none is prescribed."""
        return self.check_digit == "invalid"


def check_vin(text: str) -> Vin:
    """The VIN that ``text`` spells (case, outer blanks and full-width forms do not matter).

    Raises `ValueError` with the reason: wrong length, a character that no VIN has, or a wrong check digit
    on a VIN of China or North America.
    """
    vin = unicodedata.normalize("NFKC", text).strip()
    vin = vin.upper() if vin.isascii() else vin
    if not _CHARACTERS.fullmatch(vin):
        raise ValueError("a VIN has only digits and the letters A to Z without I, O and Q")
    if len(vin) != VIN_LENGTH:
        raise ValueError(f"a VIN has {VIN_LENGTH} characters, this one has {len(vin)}")
    result = _check_digit(vin)
    if result != "valid" and vin[0] in _CHECKED_REGIONS:
        raise ValueError("the check digit (ninth character) is wrong: the VIN is mistyped")
    return Vin(vin, result)


def _check_digit(vin: str) -> CheckDigit:
    if vin[_CHECK_PLACE] not in "0123456789X":
        return "not_applicable"
    return "valid" if vin[_CHECK_PLACE] == expected_check_digit(vin) else "invalid"


def expected_check_digit(vin: str) -> str:
    """The check digit, ``0`` to ``9`` or ``X``, that the other sixteen characters of a VIN call for."""
    remainder = sum(_VALUES[letter] * weight for letter, weight in zip(vin, _WEIGHTS, strict=True)) % 11
    return "X" if remainder == 10 else str(remainder)


def _normalised(text: str) -> str:
    return check_vin(text).vin


VinStr = Annotated[str, Field(max_length=40), AfterValidator(_normalised)]
"""A field that accepts a VIN in any spelling and holds it normalised; use it in commands and queries."""


def vehicle_id(vin: str) -> UUID:
    """The id of the vehicle with this (normalised) VIN: the same in every service."""
    return uuid5(NAMESPACE_URL, f"vin:{vin}")
