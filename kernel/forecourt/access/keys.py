"""The public keys that tokens are verified with: a JWK set (RFC 7517) in a file or at a URL, and its rotation.

Only signing keys of asymmetric algorithms count, and each only for its own algorithm. A set that cannot be read or
fetched changes nothing: the last good one goes on. A set without keys is a set: whoever empties it ends all tokens.
Only to begin with it is refused, as the mistake that it is then.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from forecourt import logs, metrics
from forecourt.errors import Unavailable
from forecourt.http import read_up_to

log = logs.get(__name__)

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""JSON Web Algorithms (RFC 7518, RFC 8037) whose keys have a public half."""

MIN_RSA_BITS = 2_048
MAX_SET = 1_000_000
"""Bytes of a key set that are read."""

FETCH_SECONDS = 5.0
FILE_SECONDS = 1.0
"""How often a file is looked at."""

FIRST_SECONDS = 1.0
"""Between attempts to fetch the first set: until then nobody is let in."""

_MAX_AGE = 10
"""Intervals after which keys are fetched again though none was missing."""


class TokenKeysUnavailable(Unavailable):
    """No key set could be fetched yet, so that no token can be verified."""


class PublicKey(NamedTuple):
    """A key and the one algorithm that it is for."""

    key: Any
    algorithm: str


class TokenKeys(Protocol):
    """A set of public keys that may change."""

    generation: int
    """Grows whenever the keys are others than before: what was verified with the old ones no longer counts."""

    async def refresh(self) -> None:
        """Look for a newer set where that is due. Raises nothing."""

    async def find(self, key_id: str) -> PublicKey | None:
        """A key by its id. Raises `TokenKeysUnavailable` where there has been no set yet."""

    async def ready(self) -> None:
        """Return where there is a set. Raises `TokenKeysUnavailable`."""


def parse_keys(text: str | bytes) -> dict[str, PublicKey]:
    """The usable keys of a JWK set by their ids, which may be none. Raises `ValueError` where it is no JWK set."""
    try:
        document = json.loads(text)
        listed = document["keys"] if isinstance(document, dict) else None
    except (ValueError, KeyError, RecursionError):
        listed = None
    if not isinstance(listed, list):
        raise ValueError("is not a JWK set")
    return {str(jwk["kid"]): key for jwk in listed if (key := _key(jwk)) is not None}


def _not_empty(keys: dict[str, PublicKey]) -> dict[str, PublicKey]:
    """The keys of a first set. Raises `ValueError` where there are none."""
    if not keys:
        raise ValueError("holds no public key for signatures that has a kid")
    return keys


def _key(jwk: Any) -> PublicKey | None:
    """One key of a set, None where it is not one of ours to use."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig" or not isinstance(jwk.get("kid"), str):
        return None
    if jwk.get("kty") not in ("RSA", "EC", "OKP") or "d" in jwk:
        return None
    try:
        parsed = jwt.PyJWK(jwk)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if parsed.algorithm_name not in ALGORITHMS:
        return None
    if isinstance(parsed.key, RSAPublicKey) and parsed.key.key_size < MIN_RSA_BITS:
        return None
    return PublicKey(parsed.key, parsed.algorithm_name)


class FixedKeys:
    """Keys that never change."""

    def __init__(self, keys: dict[str, PublicKey]) -> None:
        self._keys = keys
        self.generation = 0

    async def refresh(self) -> None:
        """Nothing to look for."""

    async def find(self, key_id: str) -> PublicKey | None:
        """A key by its id."""
        return self._keys.get(key_id)

    async def ready(self) -> None:
        """There was a set from the beginning."""


class FileKeys:
    """Keys from a file, read again when it changes."""

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Raises `OSError` or `ValueError` where the file cannot be read, or has no key, to begin with."""
        self._path = path
        self._monotonic = monotonic
        self._looked = monotonic()
        self._stamp = _stamp(path)
        self._keys = _not_empty(self._read())
        self.generation = 0

    async def refresh(self) -> None:
        """Read the file again where it has changed; it is looked at once a second."""
        now = self._monotonic()
        if now - self._looked < FILE_SECONDS:
            return
        self._looked = now
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            keys = self._read()
        except (OSError, ValueError) as error:
            _failed("file", error)
            return
        self.generation += keys != self._keys
        self._keys = keys
        _taken("file", keys)

    async def find(self, key_id: str) -> PublicKey | None:
        """A key by its id."""
        return self._keys.get(key_id)

    async def ready(self) -> None:
        """There was a set from the beginning."""

    def _read(self) -> dict[str, PublicKey]:
        with self._path.open("rb") as file:
            return parse_keys(file.read(MAX_SET))


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


Fetch = Callable[[str], Awaitable[bytes]]


async def fetch(url: str) -> bytes:
    """What is at a URL. Raises `aiohttp.ClientError`, `TimeoutError`, or `ValueError` for another status or size."""
    timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        # A redirect could lead away from https, or from the house.
        session.get(url, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise ValueError(f"answers {response.status}")
        body = await read_up_to(response.content, MAX_SET + 1)
        if len(body) > MAX_SET:
            raise ValueError(f"has more than {MAX_SET} bytes")
        return body


class UrlKeys:
    """Keys from a URL: fetched when first needed, at times, and when a token names one that is not there.

    ``interval`` is the least time between two fetches, in seconds, so that a flood of invented key ids does not
    reach the other server. Ten intervals later the keys are fetched in the background. While the server is away
    the last good keys go on.
    """

    def __init__(
        self,
        url: str,
        *,
        interval: float,
        monotonic: Callable[[], float] = time.monotonic,
        fetch: Fetch = fetch,
    ) -> None:
        self._url = url
        self._interval = interval
        self._monotonic = monotonic
        self._fetch = fetch
        self._keys: dict[str, PublicKey] | None = None
        self._tried: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self.generation = 0

    async def refresh(self) -> None:
        """Begin to fetch the keys in the background where they have grown old."""
        if self._tried is None or self._monotonic() - self._tried >= _MAX_AGE * self._interval:
            self._begin()

    async def find(self, key_id: str) -> PublicKey | None:
        """A key by its id. Raises `TokenKeysUnavailable` where there has been no set yet."""
        if self._keys is not None and key_id in self._keys:
            return self._keys[key_id]
        wait = self._interval if self._keys is not None else min(self._interval, FIRST_SECONDS)
        if self._tried is None or self._monotonic() - self._tried >= wait:
            self._begin()
        if self._fetching is not None:
            # Many calls wait for one fetch; that one of them is cancelled does not end it.
            await asyncio.shield(self._fetching)
        if self._keys is None:
            raise TokenKeysUnavailable("the keys of tokens cannot be fetched")
        return self._keys.get(key_id)

    async def ready(self) -> None:
        """Return where there is a set. Raises `TokenKeysUnavailable`."""
        if self._keys is None:
            await self.find("")

    def _begin(self) -> None:
        if self._fetching is None:
            self._tried = self._monotonic()
            self._fetching = asyncio.create_task(self._update())

    async def _update(self) -> None:
        try:
            keys = parse_keys(await self._fetch(self._url))
            if self._keys is None:
                _not_empty(keys)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            _failed("url", error)
        else:
            self.generation += self._keys is not None and keys != self._keys
            self._keys = keys
            _taken("url", keys)
        finally:
            self._fetching = None


def _taken(source: str, keys: dict[str, PublicKey]) -> None:
    """A set that counts from now on: say so where it lets nobody in."""
    metrics.TOKEN_KEY_READS.labels(source, "ok").inc()
    if not keys:
        log.error("token keys all gone", source=source)


def _failed(source: str, error: Exception) -> None:
    """A set that is not taken: say so; the keys that we have go on."""
    metrics.TOKEN_KEY_READS.labels(source, "failed").inc()
    reason = str(error) if isinstance(error, ValueError) else type(error).__name__
    log.error("token keys not read", source=source, reason=reason)
