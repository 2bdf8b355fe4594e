"""VINs: which are refused, which are only suspicious, and that every spelling leads to one vehicle."""

import string
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import given, strategies
from pydantic import BaseModel, ValidationError

from trade.vin import Vin, VinStr, check_vin, expected_check_digit, vehicle_id

LETTERS = "".join(sorted(set(string.ascii_uppercase + string.digits) - set("IOQ")))


@pytest.mark.parametrize(
    "vin",
    [
        "1M8GDM9AXKP042788",  # the example of 49 CFR 565, check digit X
        "11111111111111111",
        "5GZCZ43D13S812715",
        "LSVNV2182E2100001",
    ],
)
def test_a_vin_with_its_computed_check_digit_is_valid(vin: str) -> None:
    fixed = vin[:8] + expected_check_digit(vin) + vin[9:]
    assert check_vin(fixed) == Vin(fixed, "valid")


@pytest.mark.parametrize("vin", ["1M8GDM9AXKP042788", "LSVAA49J132047371", "5GZCZ43D13S812715"])
def test_published_vins_are_valid_as_they_stand(vin: str) -> None:
    assert check_vin(vin).check_digit == "valid"


@pytest.mark.parametrize("vin", ["1M8GDM9A1KP042788", "LSVAA49J232047371", "31111111111111111"])
def test_a_wrong_check_digit_is_refused_where_the_law_prescribes_one(vin: str) -> None:
    with pytest.raises(ValueError, match="check digit"):
        check_vin(vin)


def test_a_letter_as_check_digit_is_refused_where_the_law_prescribes_a_digit() -> None:
    with pytest.raises(ValueError, match="check digit"):
        check_vin("LSVAA49JZ32047371")


def test_elsewhere_a_mismatch_is_only_suspicious() -> None:
    vin = check_vin("WVWAA71K18W201031")
    assert (vin.check_digit, vin.suspicious) == ("invalid", True)


def test_elsewhere_a_filler_letter_is_not_a_check_digit() -> None:
    vin = check_vin("WVWZZZ1KZ8W201030")
    assert (vin.check_digit, vin.suspicious) == ("not_applicable", False)


@pytest.mark.parametrize("text", ["", "1", "1" * 16, "1" * 18])
def test_a_wrong_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"this one has {len(text)}"):
        check_vin(text)


@pytest.mark.parametrize("letter", ["I", "O", "Q", "i", "-", " ", "é", "中", "\x00", "ß", "ſ\u0301", "٣"])
def test_characters_that_no_vin_has_are_refused(letter: str) -> None:
    with pytest.raises(ValueError, match="digits and the letters"):
        check_vin("1M8GDM9A" + letter + "KP042788")


@pytest.mark.parametrize("text", [" 1m8gdm9axkp042788\n", "\uff11M8GDM9AXKP042788"])
def test_case_blanks_and_full_width_do_not_matter(text: str) -> None:
    assert check_vin(text).vin == "1M8GDM9AXKP042788"


@given(strategies.text(LETTERS, min_size=17, max_size=17))
def test_with_its_expected_check_digit_every_vin_is_valid(text: str) -> None:
    vin = text[:8] + expected_check_digit(text) + text[9:]
    assert check_vin(vin).check_digit == "valid"


@given(strategies.text(string.digits, min_size=16, max_size=16), strategies.integers(0, 15))
def test_any_single_mistyped_digit_is_found(digits: str, place: int) -> None:
    text = digits[:8] + "0" + digits[8:]
    vin = "L" + text[1:8] + expected_check_digit("L" + text[1:]) + text[9:]
    at = place + 1
    wrong = vin[:at] + str((int(vin[at], 36) + 1) % 10) + vin[at + 1 :]
    if wrong != vin:
        with pytest.raises(ValueError, match="check digit"):
            check_vin(wrong)


@given(strategies.text(max_size=40))
def test_any_text_is_answered_with_a_vin_or_a_reason(text: str) -> None:
    try:
        answer = check_vin(text).vin
    except ValueError as error:
        answer = str(error)
    assert len(answer) >= 17


class _Form(BaseModel):
    vin: VinStr


def test_a_field_holds_the_normalised_vin_and_names_the_reason() -> None:
    assert _Form(vin="1m8gdm9axkp042788").vin == "1M8GDM9AXKP042788"
    with pytest.raises(ValidationError, match="this one has 2"):
        _Form(vin="LS")
    with pytest.raises(ValidationError, match="at most 40"):
        _Form(vin="1" * 41)


def test_the_vehicles_id_is_the_agreed_one() -> None:
    assert vehicle_id("1M8GDM9AXKP042788") == uuid5(NAMESPACE_URL, "vin:1M8GDM9AXKP042788")
