"""Field types for what people type, for commands and queries: text, numbers of telephones, times, mileages."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, AwareDatetime, Field

DEFAULT_REGION = "CN"
"""The region whose rules a number without country code is read by."""


# Unicode's category Cc but for tab and line feed.
_control = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]").search


def _printable(text: str) -> str:
    # Control characters break tables, message templates and terminals; PostgreSQL cannot store NUL at all.
    if found := _control(text):
        raise ValueError(f"must not contain the control character U+{ord(found[0]):04X}")
    return text


MAX_LINE = 200


def one_line(text: str) -> str:
    """A text of one line, without control characters. Raises `ValueError` with the reason."""
    if "\n" in text or "\t" in text:
        raise ValueError("must be a single line")
    return _printable(text)


Line = Annotated[str, Field(min_length=1, max_length=MAX_LINE), AfterValidator(one_line)]
"""A line of text: 1 to 200 characters."""

OptionalLine = Annotated[str, Field(max_length=MAX_LINE), AfterValidator(one_line)]
"""A line of text, empty where there is none."""

Code = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,39}$")]
"""A short code without blanks: a store, a number of a document, a member of staff. Up to 40 characters."""

Paragraph = Annotated[str, Field(max_length=4000), AfterValidator(_printable)]
"""Text of up to 4,000 characters, several lines are fine."""


_MOBILE_DIGITS = 11


def _mobile_pattern() -> re.Pattern[str]:
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(DEFAULT_REGION)
    assert metadata is not None
    assert metadata.mobile is not None
    return re.compile(metadata.mobile.national_number_pattern or "")


_MOBILE = _mobile_pattern()
_BLANKS = str.maketrans("", "", " -")


def e164(text: str) -> str:
    """A telephone number in E.164 form (``+8613800138000``). Raises `ValueError` with the reason."""
    # Nearly all are mobile numbers of the region: the library's own pattern tells, without its parser.
    digits = text.translate(_BLANKS)
    if len(digits) == _MOBILE_DIGITS and digits.isascii() and _MOBILE.fullmatch(digits):
        return f"+86{digits}"
    return parsed_e164(text)


def parsed_e164(text: str) -> str:
    """`e164` by the library's parser, for numbers of any country in any spelling. Raises `ValueError`."""
    try:
        number = phonenumbers.parse(unicodedata.normalize("NFKC", text), DEFAULT_REGION)
    except phonenumbers.NumberParseException:
        raise ValueError("is not a telephone number") from None
    if not phonenumbers.is_valid_number(number):
        raise ValueError("is not a valid telephone number of its country")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _checked_phone(text: str) -> str:
    e164(one_line(text))
    return text


def email_address(text: str) -> str:
    """A mail address in its normal form. Raises `ValueError`."""
    try:
        return validate_email(text, check_deliverability=False).normalized
    except EmailNotValidError:
        raise ValueError("is not a mail address") from None


TypedPhone = Annotated[str, Field(max_length=40), AfterValidator(_checked_phone)]
"""A valid telephone number, as it was typed; `e164` gives its normal form."""

Email = Annotated[str, Field(max_length=254), AfterValidator(email_address)]
"""A mail address in its normal form."""

Kilometres = Annotated[int, Field(ge=0, le=3_000_000)]
"""A reading of the odometer in whole kilometres."""

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Points in time that the trade is about."""


def _in_our_years(moment: datetime) -> datetime:
    # Near the ends of the calendar the local time of a store could not be told any more.
    if not EARLIEST <= moment < LATEST:
        raise ValueError("must lie between the years 1970 and 2199")
    return moment.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_in_our_years)]
"""A point in time of the years 1970 to 2199, in UTC whatever zone it was given in."""
