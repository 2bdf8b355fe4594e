"""Whom a bearer token makes its bearer: the one that it names, or nobody, and never an error of ours."""

import asyncio
import base64
import hashlib
import hmac
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from forecourt.access import identity as refusals
from forecourt.access.callers import Callers
from forecourt.access.certificates import CertificateIdentities
from forecourt.access.development import DevelopmentTokens
from forecourt.access.identity import CredentialsRefused, Identity, no_peer
from forecourt.access.keys import FILE_SECONDS, FileKeys, TokenKeys, TokenKeysUnavailable, UrlKeys, parse_keys
from forecourt.access.tokens import MAX_TOKEN, TokenVerifier
from forecourt.clock import ManualClock
from forecourt.testing.token_keys import Signer, jwk_set

CLOCK = ManualClock()
NOW = CLOCK.now().timestamp()
SIGNERS = {name: Signer(name) for name in ("RS256", "ES256", "EdDSA", "PS256")}
OURS = SIGNERS["EdDSA"]


def claims(**changed: Any) -> dict[str, Any]:
    """What a good token says, with changes; None takes a claim away."""
    usual = {
        "sub": "amy",
        "aud": "forecourt",
        "iss": "https://login.example",
        "exp": NOW + 3600,
        "roles": ["salesperson"],
        "dealers": ["D001"],
        "brands": ["hongtong"],
    }
    return {name: value for name, value in (usual | changed).items() if value is not None}


class FewKeys:
    """Keys of which a test can take one back."""

    def __init__(self) -> None:
        self.keys = parse_keys(json.dumps({"keys": [signer.jwk for signer in SIGNERS.values()]}))
        self.generation = 0

    async def refresh(self) -> None:
        pass

    async def find(self, key_id: str) -> Any:
        return self.keys.get(key_id)

    async def ready(self) -> None:
        pass


def verifier(clock: ManualClock = CLOCK, keys: Any = None) -> TokenVerifier:
    return TokenVerifier(keys or FewKeys(), audience="forecourt", issuer="https://login.example", clock=clock)


def verify(token: str, scheme: str = "Bearer") -> Identity:
    return asyncio.run(verifier().verify(f"{scheme} {token}"))


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_token_of_every_allowed_algorithm_names_its_bearer(algorithm: str) -> None:
    identity = verify(SIGNERS[algorithm].sign(claims()))
    assert identity == Identity("amy", frozenset({"salesperson"}), ("D001",), ("hongtong",), NOW + 3600)


def unsigned(header: dict[str, Any]) -> str:
    """A token with nothing behind its second dot."""
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims()))
    return b".".join([*parts, b""]).decode()


def confused() -> str:
    """A token whose HMAC key is our public key, as text: the oldest trick (RFC 8725, 2.1)."""
    pem = SIGNERS["RS256"].key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = unsigned({"alg": "HS256", "kid": "RS256"}).rpartition(".")[0]
    digest = hmac.new(pem, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


GOOD = OURS.sign(claims())
BAD = {
    "no token": ("", refusals.NotABearerToken),
    "garbage": ("garbage", refusals.TokenMalformed),
    "three garbage parts": ("a.b.c", refusals.TokenMalformed),
    "not ASCII": ("王.王.王", refusals.TokenMalformed),
    "deeply nested": (
        base64.urlsafe_b64encode(b"[" * 5_000).rstrip(b"=").decode() + ".e30.AA",
        refusals.TokenMalformed,
    ),
    "oversized": ("x" * (MAX_TOKEN + 1), refusals.TokenTooLarge),
    "unsigned": (unsigned({"alg": "none", "kid": "EdDSA"}), refusals.TokenAlgorithmNotAllowed),
    "signed with the public key": (confused(), refusals.TokenAlgorithmNotAllowed),
    "an algorithm that is not the key's": (
        unsigned({"alg": "ES256", "kid": "EdDSA"}) + "AA",
        refusals.TokenAlgorithmNotAllowed,
    ),
    "no key id": (OURS.sign(claims(), kid=None), refusals.TokenKeyUnknown),
    "an unknown key": (OURS.sign(claims(), kid="other"), refusals.TokenKeyUnknown),
    "a key of somebody else": (Signer("EdDSA").sign(claims()), refusals.TokenSignatureWrong),
    "tampered": (GOOD[:-5] + "AAAAA", refusals.TokenSignatureWrong),
    "another audience": (OURS.sign(claims(aud="elsewhere")), refusals.TokenAudienceWrong),
    "another issuer": (OURS.sign(claims(iss="https://evil.example")), refusals.TokenIssuerWrong),
    "expired": (OURS.sign(claims(exp=NOW - 1)), refusals.TokenExpired),
    "not yet valid": (OURS.sign(claims(nbf=NOW + 60)), refusals.TokenNotYetValid),
    "no end": (OURS.sign(claims(exp=None)), refusals.TokenClaimsWrong),
    "an end that is no number": (OURS.sign(claims(exp="2040")), refusals.TokenClaimsWrong),
    "an end that never comes": (OURS.sign(claims(exp=float("nan"))), refusals.TokenClaimsWrong),
    "an end too far to say": (OURS.sign(claims(exp=float("inf"))), refusals.TokenClaimsWrong),
    "nobody": (OURS.sign(claims(sub="")), refusals.TokenClaimsWrong),
    "no subject": (OURS.sign(claims(sub=None)), refusals.TokenClaimsWrong),
    "a subject that breaks lines": (OURS.sign(claims(sub="a\nb")), refusals.TokenClaimsWrong),
    "roles that are no list": (OURS.sign(claims(roles="admin")), refusals.TokenClaimsWrong),
    "dealers that are no texts": (OURS.sign(claims(dealers=[1])), refusals.TokenClaimsWrong),
    "an unknown binding": (OURS.sign(claims(cnf={"jkt": "x"})), refusals.TokenClaimsWrong),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_is_refused_for_its_reason(name: str) -> None:
    token, refusal = BAD[name]
    with pytest.raises(refusal) as caught:
        verify(token)
    assert caught.value.fields == {"authorization": refusal.reason}
    assert caught.value.__cause__ is None


def test_another_scheme_is_refused() -> None:
    with pytest.raises(refusals.NotABearerToken):
        verify(GOOD, scheme="Basic")


PART = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda o: json.dumps(o).encode(),
        st.dictionaries(
            st.sampled_from(
                ["alg", "kid", "sub", "exp", "aud", "iss", "nbf", "roles", "crit", "b64", "zip", "cnf"]
            ),
            st.one_of(
                st.none(),
                st.booleans(),
                st.integers(),
                st.floats(),
                st.text(max_size=8),
                st.just("EdDSA"),
                st.lists(st.text(max_size=3), max_size=3),
            ),
            max_size=6,
        ),
    ),
)
ENCODED = PART.map(lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode())
HEADERS = st.one_of(
    st.text(max_size=200),
    st.builds("Bearer {}".format, st.text(max_size=200)),
    st.builds("Bearer {}.{}.{}".format, ENCODED, ENCODED, ENCODED),
    st.builds(
        lambda cut, junk: f"Bearer {GOOD[:cut]}{junk}{GOOD[cut:]}",
        st.integers(0, len(GOOD)),
        st.text(max_size=5),
    ),
)


@settings(max_examples=500)
@for_all(HEADERS)
def test_whatever_the_header_holds_it_is_an_identity_or_a_refusal(header: str) -> None:
    callers = Callers(verifier(), CertificateIdentities(None))
    try:
        identity = asyncio.run(callers.verify(header, no_peer))
    except CredentialsRefused:
        return
    assert identity.actor_id == "amy"


CLAIM = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=300)
@for_all(st.dictionaries(st.sampled_from([*claims(), "nbf", "iat", "cnf", "jti"]), CLAIM, max_size=4))
def test_whatever_a_signed_token_claims_it_is_an_identity_or_a_refusal(odd: dict[str, Any]) -> None:
    try:
        identity = verify(OURS.sign(claims() | odd))
    except CredentialsRefused:
        return
    assert isinstance(identity.actor_id, str)
    assert NOW < identity.expires < 2**53


# --- what is remembered


def test_a_verified_token_is_known_until_it_expires() -> None:
    clock = ManualClock()
    tokens = verifier(clock)
    header = f"Bearer {OURS.sign(claims())}"
    assert tokens.known(header) is None
    first = asyncio.run(tokens.verify(header))
    assert tokens.known(header) is first
    clock.advance(timedelta(hours=2))
    assert tokens.known(header) is None
    with pytest.raises(refusals.TokenExpired):
        asyncio.run(tokens.verify(header))


def test_a_flood_of_bad_tokens_leaves_nothing_behind() -> None:
    tokens = verifier()
    asyncio.run(tokens.verify(f"Bearer {GOOD}"))
    for number in range(200):
        with pytest.raises(CredentialsRefused):
            asyncio.run(tokens.verify(f"Bearer {OURS.sign(claims(), kid=str(number))}"))
        with pytest.raises(CredentialsRefused):
            asyncio.run(tokens.verify(f"Bearer {GOOD[:-6]}{number:06}"))
    assert list(tokens._verified) == [f"Bearer {GOOD}"]


def test_a_key_that_is_taken_back_ends_what_it_had_signed() -> None:
    clock, keys = ManualClock(), FewKeys()
    tokens = verifier(clock, keys)
    header = f"Bearer {OURS.sign(claims())}"
    asyncio.run(tokens.verify(header))
    del keys.keys["EdDSA"]
    keys.generation += 1
    clock.advance(timedelta(seconds=2))
    assert tokens.known(header) is None
    with pytest.raises(refusals.TokenKeyUnknown):
        asyncio.run(tokens.verify(header))


# --- key sets


def test_only_public_keys_for_signatures_are_taken() -> None:
    weak = Signer("RS256", kid="weak", key=rsa.generate_private_key(65537, 1024))  # noqa: S505  # the point
    private = jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    listed = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        OURS.jwk | {"kid": "encryption", "use": "enc"},
        {key: value for key, value in OURS.jwk.items() if key != "kid"},
        private | {"kid": "private"},
        {"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "exchange"},
        weak.jwk,
        "junk",
        OURS.jwk,
    ]
    assert set(parse_keys(json.dumps({"keys": listed}))) == {"EdDSA"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": {}}', "[" * 5_000])
def test_what_is_no_key_set_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="JWK set"):
        parse_keys(text)


EMPTY = {
    "no keys": '{"keys": []}',
    "no usable key": json.dumps({"keys": ["junk", {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}]}),
}
BROKEN = {"half of a set": '{"keys": [', "an empty file": "", "no set": "{}"}


class Published:
    """A key set in a file, which is also what a URL answers, and the time until it is looked at again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        self.put(jwk_set(OURS))

    def put(self, text: str) -> None:
        """Publish a set, and let the time pass until it counts."""
        self.path.write_text(text)
        self.now += 1_000 * FILE_SECONDS

    async def fetch(self, _url: str) -> bytes:
        return self.path.read_bytes()

    def keys(self, source: str) -> TokenKeys:
        """Keys that are read from there."""
        if source == "file":
            return FileKeys(self.path, monotonic=lambda: self.now)
        return UrlKeys("https://login.example", interval=1, monotonic=lambda: self.now, fetch=self.fetch)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path / "jwks.json")


async def looked_again(tokens: TokenVerifier, clock: ManualClock) -> None:
    """Let a call come by, so that keys are looked for, and the moment pass that this takes."""
    clock.advance(timedelta(seconds=2))
    with pytest.raises(CredentialsRefused):
        await tokens.verify("Bearer garbage")
    await asyncio.sleep(0.01)
    clock.advance(timedelta(seconds=2))


@pytest.mark.parametrize("source", ["file", "url"])
@pytest.mark.parametrize("text", EMPTY.values(), ids=EMPTY)
async def test_a_set_that_was_emptied_ends_all_tokens(
    published: Published, monkeypatch: pytest.MonkeyPatch, source: str, text: str
) -> None:
    clock, log = ManualClock(), Mock()
    monkeypatch.setattr("forecourt.access.keys.log", log)
    keys = published.keys(source)
    tokens = verifier(clock, keys)
    cached, forged = f"Bearer {GOOD}", f"Bearer {OURS.sign(claims(sub='eve'))}"
    await tokens.verify(cached)
    published.put(text)
    await looked_again(tokens, clock)
    for header in (cached, forged):
        with pytest.raises(refusals.TokenKeyUnknown):
            await tokens.verify(header)
        assert tokens.known(header) is None
    await keys.ready()
    log.error.assert_called_with("token keys all gone", source=source)
    published.put(jwk_set(OURS))
    await looked_again(tokens, clock)
    await tokens.verify(cached)


@pytest.mark.parametrize("source", ["file", "url"])
@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
async def test_a_set_that_cannot_be_read_leaves_the_keys(
    published: Published, source: str, text: str
) -> None:
    clock = ManualClock()
    keys = published.keys(source)
    tokens = verifier(clock, keys)
    await tokens.verify(f"Bearer {GOOD}")
    published.put(text)
    await looked_again(tokens, clock)
    await tokens.verify(f"Bearer {OURS.sign(claims(sub='ben'))}")
    assert keys.generation == 0


@pytest.mark.parametrize("text", EMPTY.values(), ids=EMPTY)
async def test_to_begin_with_a_set_needs_a_key(published: Published, text: str) -> None:
    published.put(text)
    with pytest.raises(ValueError, match="no public key"):
        published.keys("file")
    fetched = published.keys("url")
    with pytest.raises(TokenKeysUnavailable):
        await fetched.ready()
    published.put(jwk_set(OURS))
    await fetched.ready()


# --- development


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_processes_of_one_data_folder_share_the_development_key(folder: Path) -> None:
    issued = DevelopmentTokens(folder, audience="forecourt").issue("amy", dealers=["D001"])
    tokens = TokenVerifier(DevelopmentTokens(folder, audience="forecourt").keys, audience="forecourt")
    identity = asyncio.run(tokens.verify(f"Bearer {issued}"))
    assert (identity.actor_id, identity.dealers) == ("amy", ("D001",))
    assert (folder / "token-key.pem").stat().st_mode & 0o077 == 0


def test_a_key_file_that_holds_another_key_is_said(folder: Path) -> None:
    folder.mkdir()
    (folder / "token-key.pem").write_text("nonsense")
    with pytest.raises(ValueError, match=r"key|PEM"):
        DevelopmentTokens(folder, audience="forecourt")


def test_the_signer_of_the_tests_is_not_ours_by_chance() -> None:
    assert isinstance(OURS.key, ed25519.Ed25519PrivateKey)
