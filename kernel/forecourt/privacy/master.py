"""The master key, with which the keys of persons are wrapped: from the environment, a file, or Vault Transit.

`LocalMaster` holds one or more keys of 32 bytes in Base64: the first wraps, all of them unwrap. So the master
key is changed in three steps, each on all processes before the next: add the new key behind the old one; put it
first and run ``forecourt keys rotate``; take the old one away. With it go the wrapped keys of erased persons that
backups still hold. `WithOld` is for the way from local keys to Vault.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from forecourt.errors import Unavailable
from forecourt.made_once import made_once
from forecourt.privacy.cipher import KEY_BYTES, NONCE_BYTES, new_key, randoms


class MasterKeyUnavailable(Unavailable):
    """The server that holds the master key does not answer, or refuses us."""


class Wrapped(msgspec.Struct, frozen=True):
    """A person's key as it is stored: encrypted with the master key of that id."""

    master_id: str
    blob: bytes


class MasterKey(Protocol):
    """Wraps and unwraps persons' keys, many at once. ``owner`` is authenticated: the person's id."""

    async def current_id(self) -> str:
        """The id of the master key that wraps. Raises `MasterKeyUnavailable`."""

    def knows(self, master_id: str) -> bool:
        """Whether keys wrapped with that master key can be unwrapped here."""

    async def wrap(self, keys: Sequence[tuple[bytes, bytes]]) -> list[Wrapped]:
        """Each (owner, key) wrapped. Raises `MasterKeyUnavailable`."""

    async def unwrap(self, keys: Sequence[tuple[bytes, Wrapped]]) -> list[bytes | None]:
        """Each (owner, wrapped key) unwrapped, None where it cannot be. Raises `MasterKeyUnavailable`."""

    async def close(self) -> None:
        """Let go of connections."""


class LocalMaster:
    """A master key that this process holds itself."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """The first of ``keys`` wraps. Raises `ValueError` where there is none, or one of another length."""
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"must be {KEY_BYTES} bytes in Base64, or several of them separated by commas")
        self._ciphers = {_id_of(key): AESGCM(key) for key in keys}
        self._current = _id_of(keys[0])

    @classmethod
    def parse(cls, text: str) -> "LocalMaster":
        """The keys of a text: Base64, separated by commas or white space. Raises `ValueError`."""
        try:
            keys = [base64.b64decode(part, validate=True) for part in text.replace(",", " ").split()]
        except ValueError:
            keys = []
        return cls(keys)

    async def current_id(self) -> str:
        """The id of the master key that wraps."""
        return self._current

    def knows(self, master_id: str) -> bool:
        """Whether that key is one of ours."""
        return master_id in self._ciphers

    async def wrap(self, keys: Sequence[tuple[bytes, bytes]]) -> list[Wrapped]:
        """Each (owner, key) wrapped."""
        current, cipher = self._current, self._ciphers[self._current]
        return [
            Wrapped(current, nonce + cipher.encrypt(nonce, key, owner))
            for (owner, key), nonce in zip(keys, randoms(len(keys), NONCE_BYTES), strict=True)
        ]

    async def unwrap(self, keys: Sequence[tuple[bytes, Wrapped]]) -> list[bytes | None]:
        """Each (owner, wrapped key) unwrapped, None where it cannot be."""
        return [self._unwrap(owner, wrapped) for owner, wrapped in keys]

    def _unwrap(self, owner: bytes, wrapped: Wrapped) -> bytes | None:
        cipher = self._ciphers.get(wrapped.master_id)
        if cipher is None:
            return None
        try:
            return cipher.decrypt(wrapped.blob[:NONCE_BYTES], wrapped.blob[NONCE_BYTES:], owner)
        except (InvalidTag, ValueError):
            return None

    async def close(self) -> None:
        """Nothing to let go of."""


def _id_of(key: bytes) -> str:
    return "local:" + hashlib.sha256(b"forecourt master key" + key).hexdigest()[:16]


def development_master(folder: Path) -> str:
    """The master key of this folder, generated when first needed, for its owner only."""
    return made_once(folder / "master.key", lambda: base64.b64encode(new_key()) + b"\n").decode()


class WithOld:
    """A master key, and local ones from before it that only unwrap."""

    def __init__(self, master: MasterKey, old: LocalMaster) -> None:
        self._master = master
        self._old = old

    async def current_id(self) -> str:
        """The id of the master key that wraps. Raises `MasterKeyUnavailable`."""
        return await self._master.current_id()

    def knows(self, master_id: str) -> bool:
        """Whether one of them unwraps it."""
        return self._master.knows(master_id) or self._old.knows(master_id)

    async def wrap(self, keys: Sequence[tuple[bytes, bytes]]) -> list[Wrapped]:
        """Each (owner, key) wrapped, never with an old one. Raises `MasterKeyUnavailable`."""
        return await self._master.wrap(keys)

    async def unwrap(self, keys: Sequence[tuple[bytes, Wrapped]]) -> list[bytes | None]:
        """Each (owner, wrapped key) unwrapped, None where it cannot be. Raises `MasterKeyUnavailable`."""
        found = await self._old.unwrap(keys)
        others = [n for n, (_, wrapped) in enumerate(keys) if not self._old.knows(wrapped.master_id)]
        for n, key in zip(others, await self._master.unwrap([keys[n] for n in others]), strict=True):
            found[n] = key
        return found

    async def close(self) -> None:
        """Let go of connections."""
        await self._master.close()


class VaultTransit:
    """A master key that never leaves Vault's Transit engine (a key of type ``aes256-gcm96``).

    A token in a file is read for every call: whoever renews it writes it there.
    """

    def __init__(
        self, address: str, token: str | Path, key: str, *, mount: str = "transit", timeout: float = 5.0
    ) -> None:
        self._base = f"{address.rstrip('/')}/v1/{mount}"
        self._key = key
        self._token = token
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def current_id(self) -> str:
        """The key's name and latest version. Raises `MasterKeyUnavailable`."""
        answer = await self._call("GET", f"keys/{self._key}")
        return self._id(int(answer["latest_version"]))

    def knows(self, master_id: str) -> bool:
        """Whether that is a version of our key; whether Vault still allows it shows when it is used."""
        return master_id.startswith(f"vault:{self._key}:v")

    async def wrap(self, keys: Sequence[tuple[bytes, bytes]]) -> list[Wrapped]:
        """Each (owner, key) wrapped. Raises `MasterKeyUnavailable`."""
        batch = [{"plaintext": _b64(key), "associated_data": _b64(owner)} for owner, key in keys]
        wrapped = []
        for result in await self._batch("encrypt", batch):
            if "ciphertext" not in result:
                raise MasterKeyUnavailable("vault: refuses to encrypt")
            text = str(result["ciphertext"])
            wrapped.append(Wrapped(self._id(int(text.split(":")[1].removeprefix("v"))), text.encode()))
        return wrapped

    async def unwrap(self, keys: Sequence[tuple[bytes, Wrapped]]) -> list[bytes | None]:
        """Each (owner, wrapped key) unwrapped, None where it cannot be. Raises `MasterKeyUnavailable`."""
        batch = [
            {
                "ciphertext": wrapped.blob.decode("ascii", errors="replace"),
                "associated_data": _b64(owner),
            }
            for owner, wrapped in keys
        ]
        results = await self._batch("decrypt", batch)
        return [base64.b64decode(found) if (found := result.get("plaintext")) else None for result in results]

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _id(self, version: int) -> str:
        return f"vault:{self._key}:v{version}"

    async def _batch(self, action: str, batch: list[dict[str, str]]) -> list[dict[str, Any]]:
        if not batch:
            return []
        answer = await self._call("POST", f"{action}/{self._key}", {"batch_input": batch})
        results: list[dict[str, Any]] = answer.get("batch_results") or []
        if len(results) != len(batch):
            raise MasterKeyUnavailable(f"vault: {action} gave no answer")
        return results

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        headers = {"X-Vault-Token": self._present_token()}
        try:
            async with self._session.request(
                method, f"{self._base}/{path}", json=body, headers=headers
            ) as response:
                answer = await response.json(content_type=None)
                data = answer.get("data") if isinstance(answer, dict) else None
                # A batch of which some items failed is a 400 with the results of all.
                if response.status == 200 or (response.status == 400 and data and "batch_results" in data):
                    return data or {}
                raise MasterKeyUnavailable(f"vault: answers {response.status} for {path}")
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise MasterKeyUnavailable(f"vault: does not answer ({type(error).__name__})") from error

    def _present_token(self) -> str:
        if isinstance(self._token, str):
            return self._token
        try:
            return self._token.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise MasterKeyUnavailable(f"vault: no token from its file ({type(error).__name__})") from error


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
