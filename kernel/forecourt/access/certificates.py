"""From a client certificate to an identity, by a readable table::

    [[identity]]
    uri = "spiffe://hongtong.example/feed"      # or dns = "...", or subject = "CN=feed,O=Hongtong" (RFC 4514)
    actor = "manufacturer:hongtong"
    roles = ["manufacturer"]
    dealers = ["*"]
    brands = ["hongtong"]

TLS has made sure that the certificate is valid and comes from our authority before it is looked at here. One with parts
that we cannot read, though TLS could, names nobody.
"""

import base64
import time
import tomllib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from forecourt import logs
from forecourt.access.identity import CertificateExpired, CertificateUnknown, Identity, Peer
from forecourt.clock import Clock, SystemClock

log = logs.get(__name__)

RECHECK_SECONDS = 1.0
"""How often the table's file is looked at."""

_CACHED = 1_000

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Entry(BaseModel):
    """One line of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: Name | None = None
    dns: Name | None = None
    subject: Name | None = None
    actor: Name
    roles: tuple[Name, ...] = ()
    dealers: tuple[Name, ...] = ()
    brands: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _names_one(self) -> "_Entry":
        if len(self.names()) != 1:
            raise ValueError("needs exactly one of uri, dns and subject")
        return self

    def names(self) -> list[tuple[str, str]]:
        """What the certificate must say, as kind and value."""
        given = (("uri", self.uri), ("dns", self.dns), ("subject", self.subject))
        return [(kind, value) for kind, value in given if value is not None]


class _Table(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    identity: tuple[_Entry, ...] = ()


Table = Mapping[tuple[str, str], Identity]


def parse_table(text: str) -> Table:
    """Identities by what their certificates say. Raises `ValueError` naming the entry (from 1) and the field."""
    try:
        entries = _Table.model_validate(tomllib.loads(text)).identity
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is not TOML: {error}") from None
    except ValidationError as error:
        raise ValueError(
            "; ".join(_problem(p["loc"], p["msg"]) for p in error.errors(include_input=False))
        ) from None
    table: dict[tuple[str, str], Identity] = {}
    for number, entry in enumerate(entries, start=1):
        (name,) = entry.names()
        if name in table:
            raise ValueError(f"identity {number}: {name[0]}: is there twice")
        table[name] = Identity(entry.actor, frozenset(entry.roles), entry.dealers, entry.brands, 0.0)
    return table


def _problem(location: tuple[int | str, ...], message: str) -> str:
    parts = [str(part + 1) if isinstance(part, int) else part for part in location]
    return f"{' '.join(parts[:2])}: {': '.join([*parts[2:], message])}"


@dataclass(frozen=True)
class _Presented:
    """What a certificate says, taken apart once."""

    names: tuple[tuple[str, str], ...]
    expires: float
    thumbprint: str


class CertificateIdentities:
    """The identities of client certificates; the table's file is read again when it changes."""

    def __init__(
        self,
        path: Path | None,
        *,
        clock: Clock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without a file certificates name nobody. Raises `OSError` or `ValueError` where it cannot be read."""
        self._path = path
        self._clock = clock or SystemClock()
        self._monotonic = monotonic
        self._looked = monotonic()
        self._presented: OrderedDict[bytes, _Presented] = OrderedDict()
        self._stamp, self._table = self._read()

    def identify(self, peer: Peer) -> Identity | None:
        """Whom the certificate of a connection names; None where there is no certificate.

        Raises `CertificateUnknown`, `CertificateExpired`.
        """
        presented = self._of(peer)
        if presented is None:
            return None
        self._look_again()
        found = next((self._table[name] for name in presented.names if name in self._table), None)
        if found is None:
            raise CertificateUnknown
        # TLS has checked it once, and a connection can outlive the certificate.
        if presented.expires <= self._clock.now().timestamp():
            raise CertificateExpired
        return replace(found, expires=presented.expires)

    def thumbprint(self, peer: Peer) -> str:
        """The SHA-256 of the connection's certificate as a token's ``cnf`` has it, empty where there is none."""
        presented = self._of(peer)
        return presented.thumbprint if presented is not None else ""

    def _of(self, peer: Peer) -> _Presented | None:
        pem = next(iter(peer().get("x509_pem_cert", ())), None)
        if pem is None:
            return None
        presented = self._presented.get(pem)
        if presented is None:
            presented = self._presented[pem] = _taken_apart(pem)
            if len(self._presented) > _CACHED:
                self._presented.popitem(last=False)
        return presented

    def _look_again(self) -> None:
        now = self._monotonic()
        if self._path is None or now - self._looked < RECHECK_SECONDS:
            return
        self._looked = now
        try:
            if self._path.stat().st_mtime_ns != self._stamp:
                self._stamp, self._table = self._read()
        except (OSError, ValueError) as error:
            log.error("identities of certificates not read", reason=str(error))

    def _read(self) -> tuple[int, Table]:
        if self._path is None:
            return 0, {}
        return self._path.stat().st_mtime_ns, parse_table(self._path.read_text())


_UNREADABLE = (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What a certificate raises of which TLS reads less than we do."""


def _taken_apart(pem: bytes) -> _Presented:
    """What a certificate says; one that cannot be read names nobody."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except _UNREADABLE:
        return _Presented((), 0.0, "")
    digest = base64.urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).rstrip(b"=").decode()
    return _Presented(_names(certificate), certificate.not_valid_after_utc.timestamp(), digest)


def _names(certificate: x509.Certificate) -> tuple[tuple[str, str], ...]:
    """Whom a certificate may stand for, as kind and value.

    Nobody where a part of it cannot be read, not even by its subject: that part may be what limits it.
    """
    try:
        names = _alternative_names(certificate.extensions)
        names.append(("subject", certificate.subject.rfc4514_string()))
    except _UNREADABLE:
        return ()
    return tuple(names)


def _alternative_names(extensions: x509.Extensions) -> list[tuple[str, str]]:
    try:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    names = [("uri", uri) for uri in found.get_values_for_type(x509.UniformResourceIdentifier)]
    return names + [("dns", name) for name in found.get_values_for_type(x509.DNSName)]
