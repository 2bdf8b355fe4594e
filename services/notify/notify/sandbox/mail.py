"""A mail server that keeps every mail."""

import asyncio
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any
from weakref import WeakSet

from aiosmtpd.smtp import SMTP, Envelope, Session

from notify.sandbox.evidence import Evidence
from notify.sandbox.faults import Faults

HANG_SECONDS = 60.0


class Mailbox:
    """Takes mails from aiosmtpd."""

    def __init__(self, evidence: Evidence, faults: Faults) -> None:
        self._evidence = evidence
        self._faults = faults

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient, or refuse it."""
        if self._faults.take("smtp", address, "refuse"):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail, or misbehave."""
        to = envelope.rcpt_tos[0]
        fault = self._faults.take("smtp", to, "busy", "error", "timeout", "drop")
        if fault is None or fault.taken:
            self._take(envelope)
        if fault is None:
            return "250 OK"
        match fault.kind:
            case "timeout":
                await asyncio.sleep(HANG_SECONDS)
            case "drop" if isinstance(server.transport, asyncio.WriteTransport):
                server.transport.abort()
            case "error":
                return "554 5.0.0 transaction failed"
        return "451 4.3.0 try again later"

    def _take(self, envelope: Envelope) -> None:
        content = envelope.content or b""
        raw = content if isinstance(content, bytes) else content.encode()
        mail = message_from_bytes(raw, _class=EmailMessage, policy=default)
        for to in envelope.rcpt_tos:
            self._evidence.add(
                channel="email",
                provider="smtp",
                to=to,
                sender=str(envelope.mail_from),
                subject=str(mail["Subject"] or ""),
                text=_part(mail, "plain"),
                html=_part(mail, "html"),
                reference=str(mail["Message-ID"] or "").strip("<>"),
            )


def _part(mail: EmailMessage, kind: str) -> str:
    part: Any = mail.get_body(preferencelist=(kind,))
    return "" if part is None else str(part.get_content()).replace("\r\n", "\n").strip()


class MailServer:
    """Serves SMTP until it is closed."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._sessions: WeakSet[SMTP] = WeakSet()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and answer the port."""
        self._server = await asyncio.get_running_loop().create_server(self._session, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    def _session(self) -> SMTP:
        session = SMTP(self._mailbox, hostname="sandbox.invalid", enable_SMTPUTF8=True)
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """Stop listening, and cut the connections that are left."""
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            if isinstance(session.transport, asyncio.WriteTransport):
                session.transport.abort()
        await asyncio.sleep(0)
