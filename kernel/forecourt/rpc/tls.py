"""TLS of the gRPC servers: certificates from files, taken up anew for new connections when they change.

gRPC for Python either requires client certificates on an address or does not ask for them; that is why callers with
and without one may have an address each.
"""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509

from forecourt import logs, metrics

log = logs.get(__name__)

RECHECK_SECONDS = 1.0


class CertificateFiles:
    """A server's certificate and key, and the authorities of its clients' certificates, all PEM."""

    def __init__(
        self,
        cert: Path,
        key: Path,
        client_ca: Path | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `OSError` or `ValueError` where they cannot be read, or do not belong together."""
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._monotonic = monotonic
        self._looked = monotonic()
        self._stamps = self._stamp()
        self._configuration = self._load()

    @property
    def has_client_ca(self) -> bool:
        """Whether there are authorities for client certificates."""
        return self._client_ca is not None

    def credentials(self, *, require_client: bool) -> grpc.ServerCredentials:
        """Credentials for one address, which follow the files."""
        given = self._configuration

        def newer() -> grpc.ServerCertificateConfiguration | None:
            # gRPC asks at each new connection, from a thread of its own.
            nonlocal given
            self._look()
            if given is self._configuration:
                return None
            given = self._configuration
            return given

        # None, which the types do not know, stands for no change.
        return grpc.dynamic_ssl_server_credentials(given, newer, require_client)  # type: ignore[arg-type]

    def _look(self) -> None:
        now = self._monotonic()
        if now - self._looked < RECHECK_SECONDS:
            return
        self._looked = now
        try:
            stamps = self._stamp()
            if stamps == self._stamps:
                return
            # Half of a change, a new certificate with the old key, is tried again with the next connection.
            self._configuration = self._load()
            self._stamps = stamps
        except (OSError, ValueError) as error:
            metrics.TLS_RELOADS.labels("failed").inc()
            log.error("certificates not read", reason=type(error).__name__)
        else:
            metrics.TLS_RELOADS.labels("ok").inc()
            log.info("certificates read")

    def _stamp(self) -> list[tuple[int, int]]:
        files = [path for path in (self._cert, self._key, self._client_ca) if path is not None]
        return [(found.st_mtime_ns, found.st_ino) for found in (path.stat() for path in files)]

    def _load(self) -> grpc.ServerCertificateConfiguration:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # ssl.SSLError is an OSError: a key that does not fit, or no PEM at all.
        context.load_cert_chain(self._cert, self._key)
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
        chain = self._cert.read_bytes()
        expires = x509.load_pem_x509_certificate(chain).not_valid_after_utc
        metrics.TLS_EXPIRES.set(expires.timestamp())
        authorities = None if self._client_ca is None else self._client_ca.read_bytes()
        return grpc.ssl_server_certificate_configuration([(self._key.read_bytes(), chain)], authorities)


@dataclass(frozen=True)
class Tls:
    """How a server speaks TLS. ``second`` is the host and port for callers with a client certificate."""

    files: CertificateFiles
    second: tuple[str, int] | None = None
