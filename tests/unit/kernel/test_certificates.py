"""Client certificates that cannot be read: they name nobody, and are no error of ours."""

import base64
import hashlib
import ssl
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from forecourt.access.certificates import CertificateIdentities
from forecourt.access.development import DevelopmentAuthority
from forecourt.access.identity import CertificateUnknown, Identity, Peer, no_peer
from forecourt.audit.trail import Origin
from forecourt.clock import ManualClock
from forecourt.rpc.calls import MetadataReader
from tests.odd_certificates import ODD, odd_certificate

TABLE = """
[[identity]]
subject = "CN=feed"
actor = "manufacturer:hongtong"
"""
CALL = UUID("6f0f2c4e-0000-4000-8000-000000000001")


@pytest.fixture
def identities(tmp_path: Path) -> CertificateIdentities:
    (tmp_path / "identities.toml").write_text(TABLE)
    return CertificateIdentities(tmp_path / "identities.toml")


@pytest.fixture(scope="module")
def authority() -> DevelopmentAuthority:
    return DevelopmentAuthority.create()


def peer_with(pem: bytes) -> Peer:
    """The other end of a connection with a certificate."""
    return lambda: {"x509_pem_cert": [pem]}


@pytest.mark.parametrize("kind", ODD)
def test_a_certificate_that_cannot_be_read_names_nobody(
    identities: CertificateIdentities, authority: DevelopmentAuthority, kind: str
) -> None:
    """Also where the table has its subject: what cannot be read may be what limits it."""
    assert identities.identify(peer_with(authority.issue("feed").certificate)) is not None
    odd = odd_certificate(authority, kind).certificate
    for _ in range(2):
        with pytest.raises(CertificateUnknown):
            identities.identify(peer_with(odd))
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(odd.decode())).digest()
    assert identities.thumbprint(peer_with(odd)) == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_what_is_no_certificate_names_nobody(identities: CertificateIdentities) -> None:
    with pytest.raises(CertificateUnknown):
        identities.identify(peer_with(b"nonsense"))
    assert identities.thumbprint(peer_with(b"nonsense")) == ""


class Broken:
    """Cannot tell who calls, for a reason that nobody foresaw."""

    def known(self, _authorization: str | None) -> Identity | None:
        return None

    async def verify(self, _authorization: str | None, _peer: Peer) -> Identity:
        raise ZeroDivisionError


async def test_who_called_is_asked_without_an_error() -> None:
    metadata: list[tuple[str, Any]] = [("correlation-id", str(CALL))]
    reader = MetadataReader(Broken(), ManualClock())
    with pytest.raises(ZeroDivisionError):
        await reader.read(metadata, writes=False)
    assert await reader.caller(metadata, no_peer, ZeroDivisionError()) == (None, Origin(CALL))
