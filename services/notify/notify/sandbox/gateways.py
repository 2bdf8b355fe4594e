"""Two SMS gateways over HTTP: the generic one with signed requests and keys, and one in the shape of Twilio."""

import asyncio
import hmac
import json
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import phonenumbers
from aiohttp import web

from forecourt.clock import SystemClock
from notify.providers.signing import TWILIO_SIGNATURE, basic_auth, is_signed, signed_headers, twilio_signature
from notify.sandbox.evidence import Arrived, Evidence
from notify.sandbox.faults import Fault, Faults, Kind

HANG_SECONDS = 60.0
RECEIPT_ATTEMPTS = 20
BEFORE: tuple[Kind, ...] = ("error", "busy", "timeout", "garbage", "drop", "refuse")


@dataclass
class Gateways:
    """The routes of both gateways. ``receipt_seconds`` is the pause before a delivery is reported."""

    evidence: Evidence
    faults: Faults
    key: str
    account_sid: str
    auth_token: str
    receipt_seconds: float = 0.2
    _clock: SystemClock = field(default_factory=SystemClock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def app(self) -> web.Application:
        """The application that serves both."""
        app = web.Application()
        app.router.add_post("/v1/messages", self._generic_send)
        app.router.add_delete("/v1/messages/{key}", self._generic_withdraw)
        app.router.add_post("/2010-04-01/Accounts/{sid}/Messages.json", self._twilio_send)
        app.on_cleanup.append(self._cleanup)
        return app

    async def _cleanup(self, app: web.Application) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _generic_send(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        key = request.headers.get("Idempotency-Key", "")
        if not is_signed(self.key, request.headers, raw, self._clock.now()):
            return web.json_response({"error": "bad_signature"}, status=401)
        try:
            body = json.loads(raw)
            to, text, callback = str(body["to"]), str(body["text"]), str(body.get("callback_url", ""))
        except (ValueError, KeyError, TypeError):
            return web.json_response({"error": "malformed"}, status=400)
        if not key or not text or not _is_number(to):
            return web.json_response({"error": "invalid_number" if key and text else "missing"}, status=422)
        fault = self.faults.take("generic", to, *BEFORE)
        if fault is None or fault.taken:
            message = self._generic_take(key, to, text, callback)
            if fault is None:
                return web.json_response({"id": message.reference, "status": "accepted"}, status=202)
        return await _misbehave(request, fault, {"error": fault.kind})

    def _generic_take(self, key: str, to: str, text: str, callback: str) -> Arrived:
        known = self.evidence.by_key("generic", key)
        if known is not None:
            return self.evidence.repeated(known)
        message = self.evidence.add(channel="sms", provider="generic", to=to, text=text, key=key)
        if callback:
            self._later(self._generic_receipt(message, callback))
        return message

    async def _generic_withdraw(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        if not is_signed(self.key, request.headers, key.encode(), self._clock.now()):
            return web.json_response({"error": "bad_signature"}, status=401)
        known = self.evidence.by_key("generic", key)
        if known is not None:
            return web.json_response({"id": known.reference, "status": "accepted"}, status=409)
        return web.json_response({"status": "withdrawn"})

    async def _generic_receipt(self, message: Arrived, url: str) -> None:
        fault = self.faults.take("generic", message.to, "bounce", "no_receipt")
        if fault is not None and fault.kind == "no_receipt":
            return
        status = "delivered" if fault is None else "bounced"
        body = json.dumps(
            {
                "id": message.reference,
                "key": message.key,
                "status": status,
                "code": "" if fault is None else "absent",
            }
        ).encode()

        async def post(session: aiohttp.ClientSession) -> int:
            headers = signed_headers(self.key, body, self._clock.now())
            async with session.post(url, data=body, headers=headers) as response:
                return response.status

        await self._report(message, status, post)

    async def _twilio_send(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        if request.match_info["sid"] != self.account_sid or not self._is_authorized(request):
            return web.json_response({"code": 20003, "message": "Authenticate"}, status=401)
        to, text = str(form.get("To", "")), str(form.get("Body", ""))
        if not _is_number(to) or not text:
            return web.json_response({"code": 21211 if text else 21602, "message": "Invalid"}, status=400)
        fault = self.faults.take("twilio", to, *BEFORE)
        if fault is None or fault.taken:
            message = self._twilio_take(
                to, text, str(form.get("From", "")), str(form.get("StatusCallback", ""))
            )
            if fault is None:
                return web.json_response({"sid": message.reference, "status": "queued"}, status=201)
        return await _misbehave(request, fault, {"code": {"refuse": 21610}.get(fault.kind, 20500)})

    def _twilio_take(self, to: str, text: str, sender: str, callback: str) -> Arrived:
        sid = f"SM{secrets.token_hex(16)}"
        message = self.evidence.add(
            channel="sms", provider="twilio", to=to, text=text, sender=sender, reference=sid
        )
        if callback:
            self._later(self._twilio_receipt(message, callback))
        return message

    def _is_authorized(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), basic_auth(self.account_sid, self.auth_token).encode())

    async def _twilio_receipt(self, message: Arrived, url: str) -> None:
        fault = self.faults.take("twilio", message.to, "bounce", "no_receipt")
        if fault is not None and fault.kind == "no_receipt":
            return
        status = "delivered" if fault is None else "undelivered"
        form = {"MessageSid": message.reference, "MessageStatus": status, "To": message.to}
        if fault is not None:
            form["ErrorCode"] = "30003"

        async def post(session: aiohttp.ClientSession) -> int:
            headers = {TWILIO_SIGNATURE: twilio_signature(self.auth_token, url, form)}
            async with session.post(url, data=form, headers=headers) as response:
                return response.status

        await self._report(message, status, post)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report(self, message: Arrived, status: str, post: Any) -> None:
        """Report a delivery until the house answers 2xx, or refuses."""
        pause = self.receipt_seconds
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            for _ in range(RECEIPT_ATTEMPTS):
                await asyncio.sleep(pause)
                try:
                    answer = await post(session)
                except (aiohttp.ClientError, OSError, TimeoutError):
                    answer = 503
                if answer < 500:
                    self.evidence.received(message, status if answer < 300 else f"refused:{answer}")
                    return
                pause = min(max(pause, 0.2) * 2, 10.0)


def _is_number(text: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(text))
    except phonenumbers.NumberParseException:
        return False


async def _misbehave(request: web.Request, fault: Fault, body: dict[str, Any]) -> web.StreamResponse:
    match fault.kind:
        case "timeout":
            await asyncio.sleep(HANG_SECONDS)
        case "drop":
            if request.transport is not None:
                request.transport.abort()
        case "garbage":
            return web.Response(text="<html>\u2603 this is not JSON", content_type="text/html")
        case "busy":
            return web.json_response(body, status=503)
        case "refuse":
            return web.json_response(body, status=400)
    return web.json_response(body, status=500)
