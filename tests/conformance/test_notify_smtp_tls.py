"""Mail over encrypted and authenticated SMTP, against a real server that demands both."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from forecourt.clock import ManualClock
from forecourt.testing.given import an_id
from notify.providers.port import Accepted, Answer, Failed, Outgoing
from notify.providers.smtp import SmtpMail, SmtpServer


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


class Box:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert session.ssl is not None
        assert session.authenticated
        self.contents.append(bytes(envelope.content or b""))  # type: ignore[arg-type]  # bytes, unless the server decodes
        return "250 OK"


def _authenticate(server: SMTP, session: Session, envelope: Envelope, kind: str, data: object) -> AuthResult:
    known = isinstance(data, LoginPassword) and (data.login, data.password) == (b"user", b"p@ss")
    return AuthResult(success=known, handled=False)


@pytest.fixture
async def server(certificate: tuple[Path, Path]) -> AsyncIterator[tuple[Box, int]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    box, sessions = Box(), list[SMTP]()

    def session() -> SMTP:
        sessions.append(
            SMTP(
                box,
                tls_context=context,
                require_starttls=True,
                auth_required=True,
                authenticator=_authenticate,
            )
        )
        return sessions[-1]

    listening = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0)
    yield box, listening.sockets[0].getsockname()[1]
    listening.close()
    for each in sessions:
        if isinstance(each.transport, asyncio.WriteTransport):
            each.transport.abort()
    await asyncio.sleep(0)


async def send(
    port: int, certificate: tuple[Path, Path], user: str = "user:p%40ss@", trust: bool = True
) -> Answer:
    def trusting() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(certificate[0]) if trust else None)

    mail = SmtpMail(
        SmtpServer.parse(f"smtp://{user}localhost:{port}?starttls=yes"),
        name="smtp",
        sender="service@forecourt.example",
        timeout=5.0,
        clock=ManualClock(),
        tls_context=trusting,
    )
    return await mail.send(Outgoing(an_id("m"), "wang@example.com", "subject", "text", "<p>html</p>"))


async def test_mail_goes_through_encryption_and_authentication(
    server: tuple[Box, int], certificate: tuple[Path, Path]
) -> None:
    box, port = server
    assert await send(port, certificate) == Accepted(f"{an_id('m')}@forecourt.example")
    assert len(box.contents) == 1


async def test_a_wrong_password_is_our_mistake_and_sends_nothing(
    server: tuple[Box, int], certificate: tuple[Path, Path]
) -> None:
    box, port = server
    assert await send(port, certificate, "user:wrong@") == Failed("not_sent", "authentication_failed")
    assert box.contents == []


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    server: tuple[Box, int], certificate: tuple[Path, Path]
) -> None:
    box, port = server
    answer = await send(port, certificate, trust=False)
    assert isinstance(answer, Failed)
    assert answer.outcome == "not_sent"
    assert box.contents == []
