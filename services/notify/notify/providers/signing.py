"""Signatures of the SMS providers, in both directions. Pure.

Signatures are dated by the real clock: the other side knows nothing of a virtual one.
"""

import base64
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha1, sha256

TIMESTAMP = "X-Timestamp"
SIGNATURE = "X-Signature"
TWILIO_SIGNATURE = "X-Twilio-Signature"

TOLERANCE = timedelta(minutes=5)
"""How far a timestamp may lie from now: an old request cannot be played again later."""


def sign(key: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over ``<timestamp>.<body>``, in hexadecimal digits."""
    return hmac.new(key.encode(), timestamp.encode() + b"." + body, sha256).hexdigest()


def signed_headers(key: str, body: bytes, now: datetime) -> dict[str, str]:
    """The headers that date and sign a body. The timestamp is in whole seconds since 1970."""
    timestamp = str(int(now.timestamp()))
    return {TIMESTAMP: timestamp, SIGNATURE: sign(key, timestamp, body)}


def is_signed(key: str, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Whether a body is signed with ``key``, and lately."""
    timestamp, signature = headers.get(TIMESTAMP, ""), headers.get(SIGNATURE, "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        return False
    return hmac.compare_digest(sign(key, timestamp, body).encode(), signature.encode())


def basic_auth(user: str, password: str) -> str:
    """The ``Authorization`` header of a user and a password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def twilio_signature(token: str, url: str, form: Mapping[str, str]) -> str:
    """Twilio's signature of a callback: HMAC-SHA1 over the URL and the sorted form fields, in Base64."""
    text = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), sha1).digest()).decode()


def is_twilio_signed(token: str, url: str, form: Mapping[str, str], signature: str) -> bool:
    """Whether a callback to ``url`` bears Twilio's signature."""
    return hmac.compare_digest(twilio_signature(token, url, form).encode(), signature.encode())
