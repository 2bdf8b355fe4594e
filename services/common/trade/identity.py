"""Identity documents: kinds, how their numbers are spelled, and how much of one is shown.

The check digits of the resident identity card (GB 11643) and of the unified social credit code on a business licence
(GB 32100) are computed by python-stdnum. Its table of counties is left alone: it wants the county of a number to have
existed in the year of birth, but numbers were given out later, so it refuses right ones.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import AfterValidator
from stdnum.cn import ric, uscc
from stdnum.exceptions import ValidationError

DocumentKind = Literal[
    "resident_identity_card",
    "passport",
    "hong_kong_macao_taiwan_permit",
    "driving_licence",
    "business_licence",
]

MAX_TYPED = 40
"""Longest number as it is typed, with its blanks."""

SHOWN = 4
"""Characters at the end of a number that its mask shows at most."""

_SEPARATORS = str.maketrans("", "", " -\u2010\u2011\u2013\u00b7")
_ALPHANUMERIC = re.compile(r"[A-Z0-9]*")
_PASSPORT = re.compile(r"(?=.*\d)[A-Z0-9]{5,15}")
_CHINESE_PASSPORT = re.compile(r"(?=.{9}$)[A-Z]{1,2}\d{7,8}")
_TRAVEL_PERMIT = re.compile(r"[HM]\d{8}(?:\d{2})?|\d{8}|\d{10}[A-Z]?")
_LICENCE_OF_A_FOREIGNER = re.compile(r"(?=.*\d)[A-Z0-9]{5,17}")
_CARD_DIGITS = 18


def normal_number(kind: DocumentKind, text: str, issuing_country: str | None = None) -> str:
    """The normal form of a document's number: capital letters and digits. Raises `ValueError` with the reason.

    Case, blanks, hyphens and full-width forms do not matter. The reason never holds the number.
    """
    number = unicodedata.normalize("NFKC", text).translate(_SEPARATORS)
    number = number.upper() if number.isascii() else number
    if not _ALPHANUMERIC.fullmatch(number):
        raise ValueError("must have only letters A to Z and digits")
    if kind == "resident_identity_card":
        _check_card(number)
    elif kind == "business_licence":
        _check(uscc.validate, number, "is not a unified social credit code")
    elif kind == "passport":
        _match(
            _CHINESE_PASSPORT if issuing_country == "CN" else _PASSPORT, number, "is not a passport's number"
        )
    elif len(number) == _CARD_DIGITS:
        # The residence permit, and the driving licence of a resident, have the number of an identity card.
        _check_card(number)
    elif kind == "driving_licence":
        _match(_LICENCE_OF_A_FOREIGNER, number, "is not a driving licence's number")
    else:
        _match(_TRAVEL_PERMIT, number, "is not a permit's number")
    return number


def masked_number(number: str) -> str:
    """What is shown of a number: its last four characters at most, and never more than a third of it."""
    shown = min(SHOWN, len(number) // 3)
    return "*" * (len(number) - shown) + number[len(number) - shown :]


def _check_card(number: str) -> None:
    if len(number) != _CARD_DIGITS or not number[:-1].isdigit():
        raise ValueError(f"must have {_CARD_DIGITS} digits, of which the last may be X")
    if number[-1] != ric.calc_check_digit(number):
        raise ValueError("the check digit (the last one) is wrong: the number is mistyped")
    _check(ric.get_birth_date, number, "holds a day of birth that does not exist")


def _check(validate: Callable[[str], object], number: str, reason: str) -> None:
    try:
        validate(number)
    except ValidationError:
        raise ValueError(reason) from None


def _match(pattern: re.Pattern[str], number: str, reason: str) -> None:
    if not pattern.fullmatch(number):
        raise ValueError(reason)


@cache
def countries() -> frozenset[str]:
    """The codes of all countries, ISO 3166-1 alpha-2."""
    table = files("tzdata.zoneinfo").joinpath("iso3166.tab").read_text(encoding="utf-8")
    return frozenset(line[:2] for line in table.splitlines() if line[:1] not in ("", "#"))


def _country(text: str) -> str:
    if text not in countries():
        raise ValueError("is not the code of a country (ISO 3166-1 alpha-2, such as CN)")
    return text


Country = Annotated[str, AfterValidator(_country)]
"""A country, by its code of two letters."""
