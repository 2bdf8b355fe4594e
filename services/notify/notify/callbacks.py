"""Reports of providers about messages they took, over HTTP: signed, idempotent, and never a reason to fail.

A report with a bad signature is answered 403, a malformed one 400. A well-signed report that is late, repeated
or about a message that we do not know is answered 200 and ignored: the provider could do nothing about it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode
from uuid import UUID, uuid5

from aiohttp import web

from forecourt import logs
from forecourt.clock import SystemClock
from forecourt.errors import Refused, Unavailable
from forecourt.http import read_up_to
from forecourt.rpc.calls import Call
from notify import metrics
from notify.notification import ReceiptStatus, RecordReceipt, notification
from notify.providers.port import code_of
from notify.providers.signing import TWILIO_SIGNATURE, is_signed, is_twilio_signed
from notify.settings import NotifySettings

log = logs.get(__name__)

MAX_REPORT = 64_000
"""Bytes of a report that are read."""

TWILIO_STATUS: dict[str, ReceiptStatus] = {
    "queued": "accepted",
    "accepted": "accepted",
    "sending": "accepted",
    "sent": "accepted",
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "bounced",
    "failed": "bounced",
}
GENERIC_STATUS: dict[str, ReceiptStatus] = {
    "accepted": "accepted",
    "delivered": "delivered",
    "bounced": "bounced",
}


@dataclass(frozen=True)
class Report:
    """What a provider says about a message."""

    provider: Literal["generic", "twilio"]
    notification_id: UUID
    reference: str
    status: ReceiptStatus
    code: str


class Malformed(Exception):
    """A report cannot be read; the message names the field."""


async def generic(request: web.Request, call: Call) -> web.Response:
    """A report of the generic gateway: JSON, signed like our requests to it."""
    if request.method != "POST":
        return _use_post()
    raw = await read_up_to(request.content, MAX_REPORT)
    key = call.settings.notify_sms_generic_key.get_secret_value()
    if not is_signed(key, request.headers, raw, SystemClock().now()):
        return _forbidden("generic")
    return await _answer("generic", call, lambda: read_generic(raw))


async def twilio(request: web.Request, call: Call) -> web.Response:
    """A status callback of Twilio: a form, signed over the URL that Twilio was given."""
    if request.method != "POST":
        return _use_post()
    settings: NotifySettings = call.settings
    # Not by aiohttp, which raises for forms that are none: anybody may send one.
    raw = await read_up_to(request.content, MAX_REPORT)
    form = dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
    # The URL as Twilio knows it: behind a proxy the request has another.
    url = settings.callback("twilio")
    if request.query_string:
        url = f"{url}?{urlencode(request.query)}"
    token = settings.notify_twilio_auth_token.get_secret_value()
    if not is_twilio_signed(token, url, form, request.headers.get(TWILIO_SIGNATURE, "")):
        return _forbidden("twilio")
    return await _answer("twilio", call, lambda: read_twilio(request.query.get("notification", ""), form))


async def _answer(provider: str, call: Call, read: Callable[[], Report | None]) -> web.Response:
    try:
        report = read()
    except Malformed as error:
        metrics.RECEIPTS.labels(provider, "malformed").inc()
        return web.json_response({"error": str(error)}, status=400)
    try:
        outcome = "ignored" if report is None else await record(report, call)
    except Unavailable:
        return web.json_response({"error": "try again later"}, status=503)
    metrics.RECEIPTS.labels(provider, outcome).inc()
    return web.json_response({"status": outcome})


async def record(report: Report, call: Call) -> str:
    """Record a report; answers ``recorded``, ``repeated``, ``unknown`` or ``ignored``."""
    version = await call.commands.version(notification, report.notification_id)
    if version == 0:
        return "unknown"
    dealer_id, brand = await call.commands.owner(notification, report.notification_id)
    context = replace(
        call.context,
        command_id=uuid5(report.notification_id, f"receipt:{report.provider}:{report.status}"),
        actor_id=f"provider:{report.provider}",
        dealer_id=dealer_id,
        brand=brand,
    )
    command = RecordReceipt(
        notification_id=report.notification_id,
        provider=report.provider,
        reference=report.reference,
        status=report.status,
        code=report.code,
    )
    try:
        outcome = await call.commands.execute_as(context, notification, command)
    except Refused as error:
        log.info(
            "receipt ignored",
            notification_id=str(report.notification_id),
            provider=report.provider,
            reason=error.slug,
        )
        return "ignored"
    return "recorded" if outcome.version > version else "repeated"


def read_generic(raw: bytes) -> Report | None:
    """The report in a body of the generic gateway; None for a status that says nothing. Raises `Malformed`."""
    try:
        body: Any = json.loads(raw)
    except ValueError as error:
        raise Malformed("body: is not JSON") from error
    if not isinstance(body, dict):
        raise Malformed("body: is not an object")
    fields = {name: body.get(name, "") for name in ("key", "id", "status", "code")}
    if wrong := [name for name, value in fields.items() if not isinstance(value, str)]:
        raise Malformed(f"{wrong[0]}: is not a string")
    status = GENERIC_STATUS.get(fields["status"])
    if status is None:
        return None
    return Report(
        "generic", _id("key", fields["key"]), _reference(fields["id"]), status, _code(fields["code"])
    )


def read_twilio(notification_id: str, form: dict[str, str]) -> Report | None:
    """The report in Twilio's form; None for a status that says nothing. Raises `Malformed`."""
    status = TWILIO_STATUS.get(form.get("MessageStatus", ""))
    if status is None:
        return None
    found = _id("notification", notification_id)
    return Report(
        "twilio", found, _reference(form.get("MessageSid", "")), status, _code(form.get("ErrorCode", ""))
    )


def _id(name: str, value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError as error:
        raise Malformed(f"{name}: is not a UUID") from error


def _reference(value: str) -> str:
    if len(value) > 200:
        raise Malformed("id: has more than 200 characters")
    return value


def _code(value: str) -> str:
    return code_of(value) if value else ""


def _forbidden(provider: str) -> web.Response:
    metrics.RECEIPTS.labels(provider, "forbidden").inc()
    return web.json_response({"error": "bad signature"}, status=403)


def _use_post() -> web.Response:
    return web.json_response({"error": "use POST"}, status=405, headers={"Allow": "POST"})


ROUTES = (("/callbacks/sms/generic", generic), ("/callbacks/sms/twilio", twilio))
"""What ``serve`` serves beside ``/metrics``."""
