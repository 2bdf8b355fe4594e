"""Email over SMTP: multipart text and HTML, one connection a message.

SMTP honours no keys. Until the message's content is sent, every failure means that nothing was sent; after that,
only the server's reply tells. A Message-ID derived from our id makes a repeated mail recognisable, not harmless.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, parseaddr
from urllib.parse import unquote, urlsplit

import aiosmtplib

from forecourt.clock import Clock
from notify.notification import Channel
from notify.providers.port import Accepted, Answer, Failed, Outgoing

NETWORK = (
    aiosmtplib.SMTPConnectError,
    aiosmtplib.SMTPServerDisconnected,
    aiosmtplib.SMTPTimeoutError,
    OSError,
)


@dataclass(frozen=True)
class SmtpServer:
    """A server: ``smtp://user:password@host:587?starttls=yes`` or ``smtps://host:465``.

    ``starttls``: ``yes`` (refuse to send without), ``no``, or ``auto`` (if the server offers it).
    """

    host: str
    port: int
    user: str | None
    password: str | None
    tls: bool
    starttls: bool | None

    @classmethod
    def parse(cls, url: str) -> "SmtpServer":
        """The server that a URL names. Raises `ValueError`."""
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("must be smtp://host:port or smtps://host:port")
        options = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
        starttls = options.get("starttls", "auto")
        if starttls not in ("yes", "no", "auto"):
            raise ValueError("starttls: must be yes, no or auto")
        tls = parts.scheme == "smtps"
        return cls(
            host=parts.hostname,
            port=parts.port or (465 if tls else 25),
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=tls,
            starttls=False if tls else {"yes": True, "no": False, "auto": None}[starttls],
        )


class SmtpMail:
    """The adapter. ``sender`` is the From header; its domain is that of the Message-IDs."""

    channel: Channel = "email"
    repeats_safely = False
    can_find_out = False

    def __init__(
        self,
        server: SmtpServer,
        *,
        name: str,
        sender: str,
        timeout: float,
        clock: Clock,
        tls_context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self.name = name
        self._server = server
        self._sender = sender
        self._domain = parseaddr(sender)[1].rpartition("@")[2]
        self._timeout = timeout
        self._clock = clock
        # Reading the system's certificates takes longer than sending a mail: once is enough.
        self._tls = tls_context() if server.tls or server.starttls is not False else None

    async def send(self, message: Outgoing) -> Answer:
        """Hand a message over."""
        try:
            mail = self.compose(message)
            content = mail.as_bytes(policy=SMTP_POLICY)
            message.address.encode("ascii")
        except (ValueError, UnicodeError):
            return Failed("refused", "malformed_message")
        client = self._client()
        try:
            failed = await self._prepare(client, message.address)
            return failed or await self._hand_over(client, content, mail["Message-ID"])
        finally:
            client.close()

    async def find_out(self, message: Outgoing) -> Answer:
        """A mail server cannot be asked."""
        return Failed("unknown", "cannot_be_asked")

    def compose(self, message: Outgoing) -> EmailMessage:
        """The mail. Raises `ValueError` for headers that hold line breaks."""
        mail = EmailMessage(policy=SMTP_POLICY)
        mail["From"] = self._sender
        mail["To"] = message.address
        mail["Subject"] = message.subject
        mail["Date"] = format_datetime(self._clock.now())
        mail["Message-ID"] = f"<{message.key}@{self._domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        mail.add_alternative(message.html, subtype="html")
        return mail

    def _client(self) -> aiosmtplib.SMTP:
        server = self._server
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user,
            password=server.password,
            use_tls=server.tls,
            start_tls=server.starttls,
            timeout=self._timeout,
            local_hostname=self._domain,
            tls_context=self._tls,
        )

    async def _prepare(self, client: aiosmtplib.SMTP, address: str) -> Failed | None:
        """Everything before the content: whatever fails here, nothing was sent."""
        try:
            await client.connect()
            await client.mail(parseaddr(self._sender)[1])
            await client.rcpt(address)
        except (aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPSenderRefused) as error:
            return _refusal(error.code)
        except aiosmtplib.SMTPAuthenticationError:
            return Failed("not_sent", "authentication_failed")
        except NETWORK:
            return Failed("not_sent", "connect_failed")
        except aiosmtplib.SMTPException as error:
            return Failed("not_sent", _code(error))
        return None

    async def _hand_over(self, client: aiosmtplib.SMTP, content: bytes, reference: str) -> Answer:
        try:
            await client.data(content)
        except aiosmtplib.SMTPDataError as error:
            return _refusal(error.code)
        except aiosmtplib.SMTPReadTimeoutError:
            return Failed("unknown", "timeout")
        except (aiosmtplib.SMTPException, OSError) as error:
            return Failed("unknown", _code(error))
        return Accepted(reference.strip("<>"))


def _refusal(status: int) -> Failed:
    """A reply that begins with 5 is final, one with 4 is not."""
    return Failed("refused" if 500 <= status < 600 else "not_sent", f"smtp_{status}")


def _code(error: Exception) -> str:
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"smtp_{error.code}"
    return "connection_lost"
