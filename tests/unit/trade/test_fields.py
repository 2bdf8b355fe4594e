"""What people type: which text, numbers and addresses are taken, and the reason where they are not."""

import sys
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from trade.fields import Code, Email, Line, Paragraph, TypedPhone, e164, parsed_e164


class _Form(BaseModel):
    line: Line = "x"
    paragraph: Paragraph = ""
    code: Code = "x"
    phone: TypedPhone = "13800138000"
    email: Email = "a@example.com"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("line", "", "at least 1"),
        ("line", "x" * 201, "at most 200"),
        ("line", "a\nb", "single line"),
        ("line", "a\x00b", r"U\+0000"),
        ("paragraph", "a\x1bb", r"U\+001B"),
        ("paragraph", "x" * 4001, "at most 4000"),
        ("code", "two words", "pattern"),
        ("code", "x" * 41, "pattern"),
        ("phone", "", "not a telephone number"),
        ("phone", "call me", "not a telephone number"),
        ("phone", "123", "not a valid"),
        ("phone", "1" * 41, "at most 40"),
        ("email", "nobody", "not a mail address"),
        ("email", "a@b@example.com", "not a mail address"),
    ],
)
def test_refused_with_the_reason(field: str, value: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason) as refusal:
        _Form(**{field: value})
    assert refusal.value.errors()[0]["loc"] == (field,)


def test_exactly_what_unicode_calls_a_control_character_is_refused_but_for_tab_and_line_feed() -> None:
    paragraph = TypeAdapter(Paragraph)
    for letter in map(chr, range(0x250)):
        if unicodedata.category(letter) == "Cc" and letter not in "\t\n":
            with pytest.raises(ValidationError, match=rf"U\+{ord(letter):04X}"):
                paragraph.validate_python(letter)
        else:
            assert paragraph.validate_python(letter) == letter
    assert not [
        letter
        for letter in map(chr, range(0x250, sys.maxunicode + 1))
        if unicodedata.category(letter) == "Cc"
    ]


@pytest.mark.parametrize("typed", ["138 0013 8000", "+86 138-0013-8000", "\uff11\uff13\uff1800138000"])
def test_a_phone_is_kept_as_typed_and_has_one_normal_form(typed: str) -> None:
    assert _Form(phone=typed).phone == typed
    assert e164(typed) == "+8613800138000"


def test_text_in_any_script_is_taken() -> None:
    form = _Form(line="王小明 Ünal", paragraph="first\n\tsecond 🚗")
    assert (form.line, form.paragraph) == ("王小明 Ünal", "first\n\tsecond 🚗")


def test_a_mail_address_gets_its_normal_form() -> None:
    assert _Form(email="Wang@EXAMPLE.com").email == "Wang@example.com"


def _read(reader: Callable[[str], str], text: str) -> str:
    try:
        return reader(text)
    except ValueError as error:
        return str(error)


@settings(max_examples=500)
@given(
    st.from_regex(r"1[0-9]{2}[ -]?[0-9]{4}[ -]?[0-9]{4}", fullmatch=True)
    | st.text("0123456789 +-x", max_size=16)
)
def test_the_short_way_reads_a_number_as_the_parser_does(text: str) -> None:
    assert _read(e164, text) == _read(parsed_e164, text)
