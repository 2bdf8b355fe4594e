"""Tokens and certificates for a laptop and for tests, signed with keys of its own. Never used in production."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from forecourt.access.keys import FixedKeys, PublicKey
from forecourt.clock import Clock, SystemClock
from forecourt.made_once import made_once

KEY_FILE = "token-key.pem"
KEY_ID = "development"
CLIENT_URI = "spiffe://forecourt.development/"
"""What stands before a client's name in its certificate."""
CERTIFICATE_DAYS = 365
CA_FILE, CA_KEY_FILE = "ca.pem", "ca-key.pem"


class DevelopmentTokens:
    """Issues tokens with the key of a data folder, made there when first needed, for its owner only."""

    def __init__(
        self, folder: Path, *, audience: str, issuer: str | None = None, clock: Clock | None = None
    ) -> None:
        """Raises `ValueError` where the folder's key file holds something else."""
        pem = made_once(folder / KEY_FILE, lambda: _pem(Ed25519PrivateKey.generate()))
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{KEY_FILE} is not an Ed25519 key")  # a wrong file, not a wrong type
        self._key = key
        self._audience = audience
        self._issuer = issuer
        self._clock = clock or SystemClock()

    @property
    def keys(self) -> FixedKeys:
        """The public key, for those who verify."""
        return FixedKeys({KEY_ID: PublicKey(self._key.public_key(), "EdDSA")})

    def issue(
        self,
        actor_id: str,
        *,
        roles: Iterable[str] = (),
        dealers: Iterable[str] = (),
        brands: Iterable[str] = (),
        valid_for: timedelta = timedelta(hours=12),
        **claims: Any,
    ) -> str:
        """A signed token for an actor; ``claims`` are added, or stand instead of the usual ones."""
        now = self._clock.now()
        usual: dict[str, Any] = {
            "sub": actor_id,
            "roles": sorted(roles),
            "dealers": sorted(dealers),
            "brands": sorted(brands),
            "aud": self._audience,
            "iat": now,
            "exp": now + valid_for,
        }
        if self._issuer is not None:
            usual["iss"] = self._issuer
        return jwt.encode(usual | claims, self._key, algorithm="EdDSA", headers={"kid": KEY_ID})


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes


class DevelopmentAuthority:
    """A certificate authority of one's own."""

    def __init__(self, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, name: str = "Forecourt development CA") -> "DevelopmentAuthority":
        """A new authority."""
        key = generate_private_key(SECP256R1())
        subject = _name(name)
        usage = _usage(key_cert_sign=True, crl_sign=True)
        built = (
            _builder(subject, subject, key, _now() - timedelta(days=1), timedelta(days=10 * CERTIFICATE_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(built.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, found: Certificate) -> "DevelopmentAuthority":
        """An authority that was created before. Raises `ValueError`."""
        key = load_pem_private_key(found.key, password=None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise ValueError(f"{CA_KEY_FILE} is not an EC key")  # a wrong file, not a wrong type
        return cls(x509.load_pem_x509_certificate(found.certificate), key)

    @property
    def pair(self) -> Certificate:
        """The authority's own certificate, which others trust, and its key."""
        return Certificate(self._certificate.public_bytes(Encoding.PEM), _pem(self._key))

    def issue(
        self,
        name: str,
        *,
        hosts: Sequence[str] = (),
        uris: Sequence[str] = (),
        days: float = CERTIFICATE_DAYS,
    ) -> Certificate:
        """A certificate for a server (``hosts``: names and addresses) or a client (``uris``)."""
        key = generate_private_key(SECP256R1())
        alternatives: list[x509.GeneralName] = [_host(host) for host in hosts]
        alternatives += [x509.UniformResourceIdentifier(uri) for uri in uris]
        start = _now() - timedelta(days=1 + max(0.0, -days))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH] if hosts else []
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        built = (
            _builder(
                _name(name), self._certificate.subject, key, start, _now() + timedelta(days=days) - start
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([*usages, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(issuer, critical=False)
        )
        if alternatives:
            built = built.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        signed = built.sign(self._key, hashes.SHA256())
        return Certificate(signed.public_bytes(Encoding.PEM), _pem(key))


def development_authority(folder: Path) -> DevelopmentAuthority:
    """The authority of a folder, created when first needed. Raises `ValueError` where its files hold something else."""
    pair = made_once(folder / CA_KEY_FILE, lambda: _joined(DevelopmentAuthority.create().pair))
    authority = DevelopmentAuthority.load(Certificate(pair, pair))
    (folder / CA_FILE).write_bytes(authority.pair.certificate)
    return authority


def write(folder: Path, name: str, issued: Certificate) -> None:
    """Write ``<name>.pem`` and ``<name>-key.pem``, the key for its owner only, each replaced at once."""
    for file, content in ((f"{name}-key.pem", issued.key), (f"{name}.pem", issued.certificate)):
        draft = folder / f".{file}"
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600 if content is issued.key else 0o644)
        draft.write_bytes(content)
        draft.replace(folder / file)


def _joined(pair: Certificate) -> bytes:
    return pair.key + pair.certificate


def _now() -> datetime:
    return datetime.now(UTC)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, start: datetime, valid_for: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + valid_for)
    )


def _usage(**on: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: on.get(name, False) for name in names})


def _pem(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
