"""Numbers of identity documents: what is one, how it is spelled, and how much of it is shown."""

from datetime import date, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.cn import ric, uscc

from trade.identity import SHOWN, DocumentKind, countries, masked_number, normal_number

KINDS = get_args(DocumentKind)
DAYS = st.dates(date(1900, 1, 1), date(2026, 1, 1))
ALPHABET = "ABCDEFGHJKLMNPQRTUWXY0123456789"


@st.composite
def cards(draw: st.DrawFn) -> str:
    """Numbers of identity cards."""
    place, day, order = (
        draw(st.integers(110_000, 839_999)),
        draw(DAYS),
        draw(st.integers(0, 999)),
    )
    number = f"{place}{day:%Y%m%d}{order:03}"
    return number + ric.calc_check_digit(number + "0")


@st.composite
def codes(draw: st.DrawFn) -> str:
    """Unified social credit codes."""
    number = f"91{draw(st.integers(110_000, 659_999))}{draw(st.text(ALPHABET, min_size=9, max_size=9))}"
    return number + uscc.calc_check_digit(number)


@given(cards(), st.sampled_from(["", " ", "-"]), st.integers(1, 17))
def test_every_spelling_of_a_card_is_the_same_number(number: str, between: str, at: int) -> None:
    typed = (number[:at] + between + number[at:]).lower()
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in number)
    for kind in ("resident_identity_card", "hong_kong_macao_taiwan_permit", "driving_licence"):
        for text in (number, typed, wide):
            assert normal_number(kind, text) == number


@given(codes())
def test_business_licences_have_their_check_digit(number: str) -> None:
    assert normal_number("business_licence", number.lower()) == number


@given(cards() | codes(), st.data())
def test_one_wrong_character_is_found(number: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, 17))
    other = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != number[at]]))
    wrong = number[:at] + other + number[at + 1 :]
    kind: DocumentKind = "business_licence" if number.startswith("91") else "resident_identity_card"
    if normal(kind, number) is None:
        return
    assert normal(kind, wrong) is None


def normal(kind: DocumentKind, text: str) -> str | None:
    try:
        return normal_number(kind, text)
    except ValueError:
        return None


def test_a_card_whose_county_is_younger_than_its_bearer_is_right() -> None:
    """Fangshan is a district since 1986, and had its code when the numbers of its people were given out."""
    number = "11011119600101001" + ric.calc_check_digit("110111196001010010")
    assert normal_number("resident_identity_card", number) == number
    assert not ric.is_valid(number)


@pytest.mark.parametrize(
    ("kind", "country", "typed"),
    [
        ("passport", "CN", "E12345678"),
        ("passport", "CN", "ea1234567"),
        ("passport", "DE", "L01X00T47"),
        ("passport", "US", "123456789"),
        ("hong_kong_macao_taiwan_permit", None, "H12345678"),
        ("hong_kong_macao_taiwan_permit", None, "M1234567801"),
        ("hong_kong_macao_taiwan_permit", None, "12345678"),
        ("hong_kong_macao_taiwan_permit", None, "0012345678(B)".replace("(", "").replace(")", "")),
        ("driving_licence", None, "C01X00T47"),
    ],
)
def test_right_numbers(kind: DocumentKind, country: str | None, typed: str) -> None:
    assert normal_number(kind, typed, country) == typed.upper()


@pytest.mark.parametrize(
    ("kind", "country", "typed"),
    [
        ("resident_identity_card", None, "110105194912310021"),
        ("resident_identity_card", None, "110105491231002"),
        ("resident_identity_card", None, "11010519490231002X"),
        ("resident_identity_card", None, "X1010519491231002X"),
        ("passport", "CN", "12345678"),
        ("passport", "CN", "E1234567"),
        ("passport", "DE", "ABCDEFGHI"),
        ("passport", "DE", "1234"),
        ("passport", "DE", "L01X/0T47"),
        ("passport", "DE", "Ж01X00T47"),
        ("hong_kong_macao_taiwan_permit", None, "T12345678"),
        ("hong_kong_macao_taiwan_permit", None, "830000199201300023"),
        ("driving_licence", None, "110105194912310021"),
        ("driving_licence", None, "abc"),
        ("business_licence", None, "91110000600037341M"),
        ("business_licence", None, "12345"),
    ],
)
def test_wrong_numbers_are_refused_without_telling_them(
    kind: DocumentKind, country: str | None, typed: str
) -> None:
    with pytest.raises(ValueError, match=r"^(is|must|holds|the check digit)") as caught:
        normal_number(kind, typed, country)
    assert typed not in str(caught.value)


@given(st.sampled_from(KINDS), st.text(max_size=40), st.sampled_from([None, "CN", "DE"]))
def test_whatever_is_typed_is_a_number_or_is_refused_without_telling_it(
    kind: DocumentKind, typed: str, country: str | None
) -> None:
    number, reason = None, ""
    try:
        number = normal_number(kind, typed, country)
    except ValueError as error:
        reason = str(error)
    assert len(typed) < 4 or typed not in reason
    if number is not None:
        assert number.isascii()
        assert number.isalnum()
        assert normal_number(kind, number, country) == number


@given(st.text("0123456789ABCDEFGHX", min_size=1, max_size=40))
def test_a_mask_shows_the_end_and_little_of_it(number: str) -> None:
    mask = masked_number(number)
    hidden = mask.count("*")
    assert len(mask) == len(number)
    assert mask == "*" * hidden + number[hidden:]
    assert len(number) - hidden <= min(SHOWN, len(number) // 3)


@given(cards())
def test_a_mask_of_a_card_tells_neither_place_nor_birthday(number: str) -> None:
    assert masked_number(number) == "*" * 14 + number[-4:]


@given(cards(), DAYS)
def test_numbers_that_end_alike_look_alike(number: str, born: date) -> None:
    other = number[:6] + f"{born + timedelta(days=1):%Y%m%d}" + number[14:]
    assert masked_number(other) == masked_number(number)


def test_countries_are_those_of_the_standard() -> None:
    assert {"CN", "DE", "US", "HK"} < countries()
    assert len(countries()) > 240
    assert all(len(code) == 2 and code.isupper() for code in countries())
