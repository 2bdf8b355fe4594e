"""One person's key at work: AES-256-GCM, and the text form of what it encrypts; and hashes with a key.

The text form is ``enc:v2:`` and the Base64 of two marks (4 bytes each), nonce (12 bytes), ciphertext and tag (16
bytes). What a text is bound to (whose it is, and where it stands) is authenticated: moved elsewhere, it does not
decrypt. The marks, of that and of the key, tell a text that was tampered with from one whose key is lost and whose
person has another one now. Texts of the first form, ``enc:v1:``, have no marks; those of events are bound to person
and type only.
"""

import hashlib
import hmac
import os
from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64
from typing import TypeGuard

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX = "enc:v2:"
FIRST_PREFIX = "enc:v1:"
KEY_BYTES = 32
NONCE_BYTES = 12
MARK_BYTES = 4
"""Of 2**32 lost keys one is taken for tampering: it is a hint, the tag is what protects."""

_SKIP = len(PREFIX)
_FIRST_NONCE = (0, NONCE_BYTES)
_NONCE = (2 * MARK_BYTES, 2 * MARK_BYTES + NONCE_BYTES)


class TamperedCiphertext(Exception):
    """An encrypted text is damaged, or was put where it does not belong."""


class KeyLost(TamperedCiphertext):
    """An encrypted text is of a key that the person does not have any more."""


def new_key() -> bytes:
    """A fresh random key."""
    return os.urandom(KEY_BYTES)


def randoms(count: int, size: int) -> list[bytes]:
    """``count`` fresh random values of ``size`` bytes, such as keys, from one call of the system."""
    source = os.urandom(count * size)
    return [source[start : start + size] for start in range(0, count * size, size)]


def is_sealed(value: object) -> TypeGuard[str]:
    """Whether a value from stored data is in an encrypted text form."""
    return isinstance(value, str) and value.startswith((PREFIX, FIRST_PREFIX))


def place(text: str, person: str, type_: str, stream: str, sequence: int) -> bytes:
    """What the encrypted text of an event is bound to: whose it is and, but for the first form, where it stands."""
    if text.startswith(FIRST_PREFIX):
        return f"{person}|{type_}".encode()
    return f"{person}|{type_}|{stream}|{sequence}".encode()


class OpenKey:
    """A person's key, ready for use. For the moment only: it takes a microsecond to make, and 2.5 KB."""

    __slots__ = ("_decrypt", "_encrypt", "_key")

    def __init__(self, key: bytes) -> None:
        cipher = AESGCM(key)
        self._key, self._encrypt, self._decrypt = key, cipher.encrypt, cipher.decrypt

    def seal(self, plain: bytes, bound_to: bytes) -> str:
        """``plain`` encrypted, in the text form."""
        nonce = os.urandom(NONCE_BYTES)
        marks = _mark(bound_to) + _mark(self._key)
        return (
            PREFIX + b2a_base64(marks + nonce + self._encrypt(nonce, plain, bound_to), newline=False).decode()
        )

    def unseal(self, text: str, bound_to: bytes) -> bytes:
        """What was sealed. Raises `TamperedCiphertext`, as `KeyLost` where it was sealed here with another key."""
        start, end = _FIRST_NONCE if text.startswith(FIRST_PREFIX) else _NONCE
        try:
            sealed = a2b_base64(text[_SKIP:])
            return self._decrypt(sealed[start:end], sealed[end:], bound_to)
        except InvalidTag:
            if (
                start
                and sealed[:MARK_BYTES] == _mark(bound_to)
                and sealed[MARK_BYTES:start] != _mark(self._key)
            ):
                raise KeyLost("encrypted text is of another key") from None
            raise TamperedCiphertext("encrypted text does not decrypt (InvalidTag)") from None
        except (NotBase64, ValueError) as error:
            raise TamperedCiphertext(f"encrypted text does not decrypt ({type(error).__name__})") from None

    def __reduce__(self) -> str:
        raise TypeError("a person's key is not pickled")


class PersonKey:
    """A person's key as it is kept. It does not tell what it is: neither ``repr`` nor pickling gives it away."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def opened(self) -> OpenKey:
        """The key ready for use, for several texts."""
        return OpenKey(self._key)

    def seal(self, plain: bytes, bound_to: bytes) -> str:
        """As `OpenKey.seal`."""
        return self.opened().seal(plain, bound_to)

    def unseal(self, text: str, bound_to: bytes) -> bytes:
        """As `OpenKey.unseal`."""
        return self.opened().unseal(text, bound_to)

    def __reduce__(self) -> str:
        raise TypeError("a person's key is not pickled")


def _mark(what: bytes) -> bytes:
    return hashlib.sha256(b"forecourt mark" + what).digest()[:MARK_BYTES]


class KeyedHash:
    """Tells whether two values are the same, to nobody without the key: HMAC-SHA-256.

    For values that are easily guessed, such as numbers of documents: against a hash without a key all could be tried.
    It does not tell what its key is.
    """

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        self._keyed = hmac.new(key, digestmod=hashlib.sha256)

    def of(self, *parts: str) -> str:
        """The hash of a value that has several parts, in hex."""
        keyed = self._keyed.copy()
        for part in parts:
            encoded = part.encode()
            # With their lengths, or else "ab" and "c" would be the same as "a" and "bc".
            keyed.update(len(encoded).to_bytes(8, "big") + encoded)
        return keyed.hexdigest()

    def __reduce__(self) -> str:
        raise TypeError("the key of a hash is not pickled")
