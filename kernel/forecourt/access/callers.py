"""Who calls, by token or by certificate.

A token decides where there is one, also over a connection with a certificate: a console or gateway has a certificate
of its own and passes on the tokens of the people who use it. A token that is refused is never made up for by the
certificate. A token with ``cnf`` comes over the connection with that certificate, or not at all.
"""

from forecourt.access.certificates import CertificateIdentities
from forecourt.access.identity import (
    CredentialsMissing,
    Identity,
    Peer,
    TokenBoundToAnotherCertificate,
)
from forecourt.access.tokens import TokenVerifier


class Callers:
    """The identity verifier of a server."""

    def __init__(self, tokens: TokenVerifier, certificates: CertificateIdentities) -> None:
        self._tokens = tokens
        self._certificates = certificates

    def known(self, authorization: str | None) -> Identity | None:
        """The identity of a token that was verified before and may come over any connection."""
        if authorization is None:
            return None
        identity = self._tokens.known(authorization)
        return identity if identity is not None and not identity.bound_to else None

    async def verify(self, authorization: str | None, peer: Peer) -> Identity:
        """The identity behind an ``authorization`` header, or else behind the connection's certificate.

        Raises `forecourt.access.identity.CredentialsRefused`, `forecourt.access.keys.TokenKeysUnavailable`.
        """
        if authorization is None:
            identity = self._certificates.identify(peer)
            if identity is None:
                raise CredentialsMissing
            return identity
        identity = await self._tokens.verify(authorization)
        if identity.bound_to and identity.bound_to != self._certificates.thumbprint(peer):
            raise TokenBoundToAnotherCertificate
        return identity

    async def ready(self) -> None:
        """Return where tokens can be verified. Raises `forecourt.access.keys.TokenKeysUnavailable`."""
        await self._tokens.ready()
