"""Who calls: from a bearer token to an `Identity`. All that the edge knows about tokens is in this module.

Tokens are JWTs (RFC 7519) signed with HS256 and a development key. Claims: ``sub`` (actor), ``roles``,
``dealers``, ``brands`` (lists; ``"*"`` stands for all), ``exp`` and ``aud``.
"""

import contextlib
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import jwt

from forecourt.access.scope import ALL
from forecourt.clock import Clock, SystemClock
from forecourt.errors import Unauthenticated

AUDIENCE = "forecourt"
MIN_KEY_BYTES = 32
MAX_TOKEN = 8_000
_CACHED = 10_000


@dataclass(frozen=True)
class Identity:
    """A caller that is who it says: actor, roles, and the dealers and brands that it may act for."""

    actor_id: str
    roles: frozenset[str]
    dealers: tuple[str, ...]
    brands: tuple[str, ...]
    expires: float
    """Seconds since 1970, in real time: tokens do not follow a virtual clock."""

    def acts_for(self, dealer_id: str) -> bool:
        """Whether the caller may act for a dealer."""
        return dealer_id in self.dealers or ALL in self.dealers


class IdentityVerifier(Protocol):
    """Turns the credentials of a call into an identity."""

    def verify(self, authorization: str | None) -> Identity:
        """The identity behind an ``authorization`` header. Raises `forecourt.errors.Unauthenticated`."""


class DevelopmentTokens:
    """Issues and verifies tokens with a shared key. Verified tokens are remembered until they expire."""

    def __init__(self, key: str, *, clock: Clock | None = None) -> None:
        if len(key.encode()) < MIN_KEY_BYTES:
            raise ValueError(f"must have at least {MIN_KEY_BYTES} bytes")
        self._key = key
        self._clock = clock or SystemClock()
        self._verified: OrderedDict[str, Identity] = OrderedDict()

    def issue(
        self,
        actor_id: str,
        *,
        roles: Iterable[str] = (),
        dealers: Iterable[str] = (),
        brands: Iterable[str] = (),
        valid_for: timedelta = timedelta(hours=12),
    ) -> str:
        """A signed token for an actor."""
        claims = {
            "sub": actor_id,
            "roles": sorted(roles),
            "dealers": sorted(dealers),
            "brands": sorted(brands),
            "aud": AUDIENCE,
            "iat": self._clock.now(),
            "exp": self._clock.now() + valid_for,
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def verify(self, authorization: str | None) -> Identity:
        """The identity behind an ``authorization`` header. Raises `forecourt.errors.Unauthenticated`."""
        if not authorization:
            raise Unauthenticated("authorization: is missing; send 'Bearer <token>'")
        known = self._verified.get(authorization)
        if known is not None:
            if known.expires > self._clock.now().timestamp():
                return known
            del self._verified[authorization]
            raise Unauthenticated("authorization: the token has expired")
        identity = self._verify(authorization)
        self._verified[authorization] = identity
        if len(self._verified) > _CACHED:
            self._verified.popitem(last=False)
        return identity

    def _verify(self, authorization: str) -> Identity:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
            raise Unauthenticated("authorization: must be 'Bearer <token>'")
        try:
            claims = jwt.decode(
                token.strip(),
                self._key,
                algorithms=["HS256"],
                audience=AUDIENCE,
                options={"require": ["sub", "exp", "aud"], "verify_exp": False, "verify_iat": False},
            )
            identity = Identity(
                actor_id=str(claims["sub"]),
                roles=frozenset(_texts(claims, "roles")),
                dealers=_texts(claims, "dealers"),
                brands=_texts(claims, "brands"),
                expires=float(claims["exp"]),
            )
        except (jwt.InvalidTokenError, ValueError, TypeError):
            raise Unauthenticated("authorization: the token is not valid") from None
        if not identity.actor_id:
            raise Unauthenticated("authorization: the token names nobody")
        if identity.expires <= self._clock.now().timestamp():
            raise Unauthenticated("authorization: the token has expired")
        return identity


def _texts(claims: dict[str, Any], name: str) -> tuple[str, ...]:
    value = claims.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name}: must be a list of strings")
    return tuple(value)


def development_key(folder: Path) -> str:
    """The key of this folder's development tokens, generated when first needed, for its owner only."""
    path = folder / "token.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".token.key.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        # A link fails where another process was faster, and never shows a half-written key.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()
