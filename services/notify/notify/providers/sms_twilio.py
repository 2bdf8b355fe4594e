"""SMS through Twilio's Messages resource, or a gateway of the same shape.

Twilio honours no idempotency key for messages, so an unknown outcome is never repeated by us. What helps is the
status callback: its URL carries our own id, so a report that arrives later answers the question.
"""

from notify.notification import Channel
from notify.providers.http import NOT_NOW, HttpClient, Reply, text_field
from notify.providers.port import Accepted, Answer, Failed, Outgoing, code_of
from notify.providers.signing import basic_auth


class TwilioSms:
    """The adapter. ``callback_url`` gets our id as the query ``notification``."""

    name = "twilio"
    channel: Channel = "sms"
    repeats_safely = False
    can_find_out = False

    def __init__(
        self, url: str, account_sid: str, auth_token: str, *, sender: str, callback_url: str, timeout: float
    ) -> None:
        self._url = f"{url.rstrip('/')}/2010-04-01/Accounts/{account_sid}/Messages.json"
        self._headers = {"Authorization": basic_auth(account_sid, auth_token)}
        self._sender = sender
        self._callback_url = callback_url
        self._http = HttpClient(timeout)

    async def send(self, message: Outgoing) -> Answer:
        """Hand a message over."""
        form = {
            "To": message.address,
            "From": self._sender,
            "Body": message.text,
            "StatusCallback": callback_for(self._callback_url, str(message.key)),
        }
        reply = await self._http.request("POST", self._url, data=form, headers=self._headers)
        return reply if isinstance(reply, Failed) else _answer(reply)

    async def find_out(self, message: Outgoing) -> Answer:
        """Twilio cannot be asked by our id."""
        return Failed("unknown", "cannot_be_asked")


def callback_for(url: str, notification_id: str) -> str:
    """The callback's URL for one message."""
    return f"{url}?notification={notification_id}"


def _answer(reply: Reply) -> Answer:
    if 200 <= reply.status < 300:
        reference = text_field(reply.body, "sid")
        return Accepted(reference) if reference else Failed("unknown", "unreadable_answer")
    code = reply.body.get("code")
    if reply.status == 400 and code is not None:
        return Failed("refused", code_of(code, "twilio_"))
    if reply.status in NOT_NOW or 300 <= reply.status < 500:
        return Failed("not_sent", f"http_{reply.status}")
    # With Twilio's own error in the body Twilio itself says that it failed; without, some proxy has spoken.
    return Failed("unknown" if code is None else "not_sent", f"http_{reply.status}")
