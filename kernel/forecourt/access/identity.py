"""Who calls: an `Identity`, and the refusals of callers who do not show that they are who they say."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from forecourt.access.scope import ALL
from forecourt.errors import Unauthenticated

Peer = Callable[[], Mapping[str, Iterable[bytes]]]
"""What is known of the other end of the connection, in the words of gRPC's ``auth_context``."""


@dataclass(frozen=True)
class Identity:
    """A caller that is who it says: actor, roles, and the dealers and brands that it may act for."""

    actor_id: str
    roles: frozenset[str]
    dealers: tuple[str, ...]
    brands: tuple[str, ...]
    expires: float
    """Seconds since 1970, in real time: credentials do not follow a virtual clock."""
    bound_to: str = ""
    """The SHA-256 of the certificate that the connection must have, in Base64 (RFC 8705); empty for any."""

    def acts_for(self, dealer_id: str) -> bool:
        """Whether the caller may act for a dealer."""
        return dealer_id in self.dealers or ALL in self.dealers


class IdentityVerifier(Protocol):
    """Turns the credentials of a call into an identity."""

    def known(self, authorization: str | None) -> Identity | None:
        """The identity behind an ``authorization`` header that was verified before and still holds, else None.

        Every call begins with this, so it is quick, waits for nothing, and raises nothing.
        """

    async def verify(self, authorization: str | None, peer: Peer) -> Identity:
        """The identity behind an ``authorization`` header and a connection.

        Raises `CredentialsRefused`, or `forecourt.errors.Unavailable` where it cannot be found out now.
        """


def no_peer() -> Mapping[str, Iterable[bytes]]:
    """The other end of a connection of which nothing is known."""
    return {}


class CredentialsRefused(Unauthenticated):
    """The credentials of a call cannot be believed. ``reason`` is the same for every call."""

    reason: ClassVar[str] = "is not valid"

    def __init__(self) -> None:
        super().__init__(f"authorization: {self.reason}", fields={"authorization": self.reason})


class CredentialsMissing(CredentialsRefused):
    """There is neither a token nor a certificate that names somebody."""

    reason = "is missing; send 'Bearer <token>'"


class NotABearerToken(CredentialsRefused):
    """The header has another form."""

    reason = "must be 'Bearer <token>'"


class TokenTooLarge(CredentialsRefused):
    """The token has more than `forecourt.access.tokens.MAX_TOKEN` characters."""

    reason = "the token is too large"


class TokenMalformed(CredentialsRefused):
    """The token is not a signed JWT."""

    reason = "the token is not well-formed"


class TokenAlgorithmNotAllowed(CredentialsRefused):
    """The token is not signed, or with something else than the key's own asymmetric algorithm."""

    reason = "the token's algorithm is not allowed"


class TokenKeyUnknown(CredentialsRefused):
    """The token names no key (``kid``), or one that is not in the key set."""

    reason = "the token's key is not known"


class TokenSignatureWrong(CredentialsRefused):
    """The token was not signed with the key that it names, or changed afterwards."""

    reason = "the token's signature is wrong"


class TokenAudienceWrong(CredentialsRefused):
    """The token is for somebody else (``aud``)."""

    reason = "the token is for another audience"


class TokenIssuerWrong(CredentialsRefused):
    """The token comes from somebody else (``iss``)."""

    reason = "the token is from another issuer"


class TokenExpired(CredentialsRefused):
    """The token's time has passed (``exp``)."""

    reason = "the token has expired"


class TokenNotYetValid(CredentialsRefused):
    """The token's time has not come (``nbf``)."""

    reason = "the token is not valid yet"


class TokenClaimsWrong(CredentialsRefused):
    """A claim that we need is missing or has another form."""

    reason = "the token's claims are not complete"


class TokenBoundToAnotherCertificate(CredentialsRefused):
    """The token is bound to a client certificate (RFC 8705) and came without it."""

    reason = "the token belongs to another certificate"


class CertificateUnknown(CredentialsRefused):
    """No token, and the client certificate names nobody whom we know."""

    reason = "is missing, and the client certificate names nobody"


class CertificateExpired(CredentialsRefused):
    """The client certificate has expired since the connection was made."""

    reason = "is missing, and the client certificate has expired"
