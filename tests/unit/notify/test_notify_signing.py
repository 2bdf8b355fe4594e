"""Signatures, and the reports that they protect."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecourt.testing.given import an_id
from notify.callbacks import Malformed, Report, read_generic, read_twilio
from notify.notification import ReceiptStatus
from notify.providers.signing import (
    TOLERANCE,
    is_signed,
    is_twilio_signed,
    sign,
    signed_headers,
    twilio_signature,
)

NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
ID = an_id("notification")


def test_a_signature_is_hmac_sha256_over_timestamp_and_body() -> None:
    """As ``openssl dgst -sha256 -hmac key`` computes it."""
    assert sign("key", "1", b"body") == "91b5374b153842ad05b2c4eab9349b8321b14703165bd3fb8b034dfb8be98ae5"


@given(st.text(min_size=1), st.binary())
def test_what_is_signed_is_believed_and_nothing_else(key: str, body: bytes) -> None:
    headers = signed_headers(key, body, NOW)
    assert is_signed(key, headers, body, NOW)
    assert not is_signed(key + "x", headers, body, NOW)
    assert not is_signed(key, headers, body + b"x", NOW)


@pytest.mark.parametrize("late", [TOLERANCE + timedelta(seconds=1), -TOLERANCE - timedelta(seconds=1)])
def test_an_old_request_cannot_be_played_again(late: timedelta) -> None:
    assert not is_signed("key", signed_headers("key", b"x", NOW), b"x", NOW + late)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Timestamp": "now", "X-Signature": "x"},
        {"X-Timestamp": "-1", "X-Signature": "x"},
        {"X-Timestamp": "9" * 40, "X-Signature": "x"},
        {"X-Timestamp": "1772424000", "X-Signature": "é"},
    ],
)
def test_odd_headers_are_no_signature(headers: dict[str, str]) -> None:
    assert not is_signed("key", headers, b"x", NOW)


def test_twilios_published_example_holds() -> None:
    """The example of Twilio's documentation of request validation."""
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    form = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675309",
        "Digits": "1234",
        "From": "+14158675309",
        "To": "+18005551212",
    }
    assert twilio_signature("12345", url, form) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="
    assert is_twilio_signed("12345", url, form, "RSOYDt4T1cUTdK1PDd93/VVr8B8=")
    assert not is_twilio_signed("12345", url, {**form, "Digits": "9"}, "RSOYDt4T1cUTdK1PDd93/VVr8B8=")
    assert not is_twilio_signed("12345", url, form, "ü")


def body(**fields: Any) -> bytes:
    return json.dumps({"key": str(ID), "id": "g1", "status": "delivered", **fields}).encode()


def test_a_report_of_the_generic_gateway_is_read() -> None:
    assert read_generic(body()) == Report("generic", ID, "g1", "delivered", "")
    assert read_generic(body(status="bounced", code="Absent subscriber!")) == Report(
        "generic", ID, "g1", "bounced", "absent_subscriber"
    )
    assert read_generic(body(status="thinking")) is None


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"\xff", body(key="x"), body(key=1), body(id="r" * 201), body(status=None)]
)
def test_a_malformed_report_is_named(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read_generic(raw)


@pytest.mark.parametrize(
    ("status", "expected"),
    [("sent", "accepted"), ("delivered", "delivered"), ("undelivered", "bounced"), ("failed", "bounced")],
)
def test_a_report_of_twilio_is_read(status: str, expected: ReceiptStatus) -> None:
    report = read_twilio(str(ID), {"MessageSid": "SM1", "MessageStatus": status, "ErrorCode": "30003"})
    assert report == Report("twilio", ID, "SM1", expected, "30003")


def test_a_report_of_twilio_without_our_id_is_malformed() -> None:
    with pytest.raises(Malformed, match="notification"):
        read_twilio("", {"MessageStatus": "delivered"})
    assert read_twilio("", {"MessageStatus": "receiving"}) is None
