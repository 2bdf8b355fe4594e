"""From a bearer token to an identity: JWTs (RFC 7519, RFC 8725) signed with an asymmetric key of the issuer's set.

Claims: ``sub`` (actor), ``exp``, ``aud``, ``iss`` where one is configured, ``nbf``; ``roles``, ``dealers`` and
``brands`` (lists; ``"*"`` stands for all); ``cnf`` with ``x5t#S256`` (RFC 8705) binds a token to a client certificate.
"""

import math
from collections import OrderedDict
from typing import Any

import jwt

from forecourt.access import identity as refusals
from forecourt.access.identity import Identity
from forecourt.access.keys import PublicKey, TokenKeys
from forecourt.clock import Clock, SystemClock

MAX_TOKEN = 8_000
"""Characters; gRPC itself takes 16 KiB of metadata."""

MAX_ACTOR = 200
MAX_NAMES = 1_000
"""Names in one of the lists of a token."""

RECHECK_SECONDS = 1.0
"""How long a key that is taken back, or a file that is changed, may go unnoticed."""

_CACHED = 10_000

_UNCHECKED = {
    # Time is ours to check: with the clock that was given, and with nothing that is not a number.
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
    "require": ["sub", "exp", "aud"],
}


class TokenVerifier:
    """Verifies tokens. Good ones are remembered until they expire or the keys change, bad ones never."""

    def __init__(
        self, keys: TokenKeys, *, audience: str, issuer: str | None = None, clock: Clock | None = None
    ) -> None:
        """Without ``issuer`` the claim ``iss`` is not looked at."""
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._clock = clock or SystemClock()
        self._verified: OrderedDict[str, Identity] = OrderedDict()
        self._generation = keys.generation
        self._recheck = -math.inf

    def known(self, authorization: str) -> Identity | None:
        """The identity of a token that was verified before and still holds, else None."""
        identity = self._verified.get(authorization)
        if identity is None:
            return None
        now = self._clock.now().timestamp()
        if identity.expires <= now:
            del self._verified[authorization]
            return None
        return identity if now < self._recheck else None

    async def ready(self) -> None:
        """Return where tokens can be verified. Raises `forecourt.access.keys.TokenKeysUnavailable`."""
        await self._keys.ready()

    async def verify(self, authorization: str) -> Identity:
        """The identity behind an ``authorization`` header.

        Raises `forecourt.access.identity.CredentialsRefused`, `forecourt.access.keys.TokenKeysUnavailable`.
        """
        await self._look_for_new_keys()
        known = self.known(authorization)
        if known is not None:
            return known
        token = _bearer(authorization)
        header = _header(token)
        key = await self._keys.find(str(header["kid"])) if isinstance(header.get("kid"), str) else None
        if key is None:
            raise refusals.TokenKeyUnknown
        generation = self._generation
        identity = self._identity(token, key)
        if generation == self._keys.generation:
            self._remember(authorization, identity)
        return identity

    async def _look_for_new_keys(self) -> None:
        await self._keys.refresh()
        if self._keys.generation != self._generation:
            self._generation = self._keys.generation
            self._verified.clear()
        self._recheck = self._clock.now().timestamp() + RECHECK_SECONDS

    def _remember(self, authorization: str, identity: Identity) -> None:
        self._verified[authorization] = identity
        if len(self._verified) > _CACHED:
            self._verified.popitem(last=False)

    def _identity(self, token: str, key: PublicKey) -> Identity:
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options=_UNCHECKED,  # type: ignore[arg-type]  # PyJWT's type has every option
            )
        except jwt.PyJWTError as error:
            raise _refusal(error) from None
        except (ValueError, TypeError, RecursionError):
            raise refusals.TokenMalformed from None
        now = self._clock.now().timestamp()
        expires = _moment(claims["exp"])
        if expires <= now:
            raise refusals.TokenExpired
        if "nbf" in claims and _moment(claims["nbf"]) > now:
            raise refusals.TokenNotYetValid
        return Identity(
            actor_id=_actor(claims),
            roles=frozenset(_names(claims, "roles")),
            dealers=_names(claims, "dealers"),
            brands=_names(claims, "brands"),
            expires=expires,
            bound_to=_binding(claims),
        )


_REFUSALS: tuple[tuple[type[jwt.PyJWTError], type[refusals.CredentialsRefused]], ...] = (
    (jwt.InvalidSignatureError, refusals.TokenSignatureWrong),
    (jwt.InvalidAlgorithmError, refusals.TokenAlgorithmNotAllowed),
    (jwt.InvalidAudienceError, refusals.TokenAudienceWrong),
    (jwt.InvalidIssuerError, refusals.TokenIssuerWrong),
    (jwt.MissingRequiredClaimError, refusals.TokenClaimsWrong),
)


def _refusal(error: jwt.PyJWTError) -> refusals.CredentialsRefused:
    return next((made() for kind, made in _REFUSALS if isinstance(error, kind)), refusals.TokenMalformed())


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise refusals.NotABearerToken
    if len(token) > MAX_TOKEN:
        raise refusals.TokenTooLarge
    return token


def _header(token: str) -> dict[str, Any]:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise refusals.TokenMalformed from None
    # "none" and shared secrets are refused as such, before a key is looked for.
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm == "none" or algorithm.startswith("HS"):
        raise refusals.TokenAlgorithmNotAllowed
    return header


def _moment(value: object) -> float:
    """A NumericDate. What is no number, or none that a clock will reach, is refused: NaN would never expire."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
        raise refusals.TokenClaimsWrong
    return float(value)


def _actor(claims: dict[str, Any]) -> str:
    actor = claims.get("sub")
    if not isinstance(actor, str) or not 0 < len(actor) <= MAX_ACTOR or not actor.isprintable():
        raise refusals.TokenClaimsWrong
    return actor


def _names(claims: dict[str, Any], claim: str) -> tuple[str, ...]:
    value = claims.get(claim, [])
    if not isinstance(value, list) or len(value) > MAX_NAMES:
        raise refusals.TokenClaimsWrong
    if not all(isinstance(name, str) and 0 < len(name) <= MAX_ACTOR for name in value):
        raise refusals.TokenClaimsWrong
    return tuple(value)


def _binding(claims: dict[str, Any]) -> str:
    confirmation = claims.get("cnf")
    if confirmation is None:
        return ""
    # Another way of binding (RFC 7800) would have to be checked, and we know no other.
    thumbprint = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
    if not isinstance(thumbprint, str) or not thumbprint:
        raise refusals.TokenClaimsWrong
    return thumbprint
