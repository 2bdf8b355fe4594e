"""SMS through a plain HTTP gateway with signed requests and idempotency keys.

The gateway's contract (``docs/sms-gateway.md``): ``POST /v1/messages`` with JSON and an ``Idempotency-Key``
answers 202 ``{"id": ...}``, and the same for the same key again. 400 and 422 ``{"error": ...}`` refuse the
message for good; other 4xx, 429 and 503 say that nothing was taken. ``DELETE /v1/messages/<key>`` answers 200
when the message was not and will not be sent, and 409 ``{"id": ...}`` when it was taken.
"""

import json

from forecourt.clock import Clock, SystemClock
from notify.notification import Channel
from notify.providers.http import NOT_NOW, HttpClient, Reply, text_field
from notify.providers.port import Accepted, Answer, Failed, Outgoing, code_of
from notify.providers.signing import signed_headers


class GenericSms:
    """The adapter. ``callback_url`` is where the gateway reports deliveries to."""

    name = "generic"
    channel: Channel = "sms"
    repeats_safely = True
    can_find_out = True

    def __init__(
        self, url: str, key: str, *, callback_url: str, timeout: float, clock: Clock | None = None
    ) -> None:
        self._url = f"{url.rstrip('/')}/v1/messages"
        self._key = key
        self._callback_url = callback_url
        self._clock = clock or SystemClock()
        self._http = HttpClient(timeout)

    async def send(self, message: Outgoing) -> Answer:
        """Hand a message over."""
        body = json.dumps(
            {"to": message.address, "text": message.text, "callback_url": self._callback_url},
            ensure_ascii=False,
        ).encode()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": str(message.key),
            **signed_headers(self._key, body, self._clock.now()),
        }
        reply = await self._http.request("POST", self._url, data=body, headers=headers)
        return reply if isinstance(reply, Failed) else _answer(reply)

    async def find_out(self, message: Outgoing) -> Answer:
        """Withdraw the message, which tells whether it is too late for that."""
        url, body = f"{self._url}/{message.key}", str(message.key).encode()
        headers = signed_headers(self._key, body, self._clock.now())
        reply = await self._http.request("DELETE", url, headers=headers)
        if isinstance(reply, Failed):
            return Failed("unknown", reply.code)
        if reply.status == 409 and (reference := text_field(reply.body, "id")):
            return Accepted(reference)
        if reply.status == 200 and reply.body.get("status") == "withdrawn":
            return Failed("withdrawn", "withdrawn")
        return Failed("unknown", f"http_{reply.status}")


def _answer(reply: Reply) -> Answer:
    if 200 <= reply.status < 300:
        reference = text_field(reply.body, "id")
        return Accepted(reference) if reference else Failed("unknown", "unreadable_answer")
    if reply.status in (400, 422):
        return Failed("refused", code_of(reply.body.get("error", reply.status), "refused_"))
    if reply.status in NOT_NOW or 300 <= reply.status < 500:
        return Failed("not_sent", f"http_{reply.status}")
    return Failed("unknown", f"http_{reply.status}")
