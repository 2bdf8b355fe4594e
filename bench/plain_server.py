"""The service customer with nothing that protects it, for `bench.commands`: ``python -m bench.plain_server``.

No tokens, permissions, scope, rates, audit or encryption. There is no setting for that: the parts are exchanged here.
"""

import math

from forecourt import roles, runtime
from forecourt.access.identity import Identity, Peer
from forecourt.access.rates import RateLimiter
from forecourt.access.scope import UNRESTRICTED, Scope
from forecourt.codec import Codec
from forecourt.config import Settings, load
from forecourt.discovery import find_services
from forecourt.privacy.keys import KeyStore
from forecourt.registry import Registry
from forecourt.rpc import calls, wiring

ANYBODY = Identity("bench", frozenset({"salesperson"}), ("D001",), ("hongtong",), math.inf)


class Anybody:
    """Believes everybody to be the same."""

    def known(self, _authorization: str | None) -> Identity:
        """Always the same."""
        return ANYBODY

    async def verify(self, _authorization: str | None, _peer: Peer) -> Identity:
        """Always the same."""
        return ANYBODY

    async def ready(self) -> None:
        """Nothing is needed."""


class Everything:
    """Permissions of which everybody has all."""

    def of(self, _roles: frozenset[str]) -> "Everything":
        """All of them."""
        return self

    def __contains__(self, _permission: str) -> bool:
        return True


def plain_codec(registry: Registry, _keys: KeyStore, **_options: object) -> Codec:
    """A codec that leaves personal fields as they are."""
    return Codec(registry)


def no_scope(_dealers: tuple[str, ...], _brands: tuple[str, ...]) -> Scope:
    """Everything."""
    return UNRESTRICTED


def main() -> None:
    """Serve until killed."""
    exchanged = {
        (wiring, "callers"): lambda _settings: Anybody(),
        (wiring, "rates"): lambda _settings: RateLimiter(0, 1),
        (roles, "permissions_of"): lambda *_: Everything(),
        (runtime, "Codec"): plain_codec,
        (calls, "scope_of"): no_scope,
        (calls, "provenance"): lambda *_: "{}",
    }
    for (module, name), part in exchanged.items():
        if not hasattr(module, name):
            raise LookupError(f"{module.__name__}.{name} is not there any more")
        setattr(module, name, part)
    roles.run(find_services(["customer"]), ["serve"], load(Settings))


if __name__ == "__main__":
    main()
