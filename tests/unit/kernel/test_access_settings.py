"""Access and TLS as they are set: what is missing or wrong is named, and production has no soft defaults."""

from itertools import takewhile
from pathlib import Path

import pytest

from forecourt.access.certificates import parse_table
from forecourt.access.development import DevelopmentAuthority, development_authority, write
from forecourt.access.rates import RateExceeded, RateLimiter
from forecourt.config import ConfigError, Settings, load_from
from forecourt.rpc import wiring
from forecourt.testing.token_keys import Signer, jwk_set


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("FORECOURT_DATA", str(tmp_path))


@pytest.fixture
def safe(tmp_path: Path) -> dict[str, str]:
    """Everything that production wants."""
    (tmp_path / "jwks.json").write_text(jwk_set(Signer()))
    authority = development_authority(tmp_path)
    write(tmp_path, "server", authority.issue("server", hosts=["localhost"]))
    return {
        "FORECOURT_ENV": "production",
        "FORECOURT_JWKS_FILE": str(tmp_path / "jwks.json"),
        "FORECOURT_TOKEN_ISSUER": "https://login.example",
        "FORECOURT_TLS_CERT": str(tmp_path / "server.pem"),
        "FORECOURT_TLS_KEY": str(tmp_path / "server-key.pem"),
    }


def test_a_laptop_needs_nothing() -> None:
    settings = load_from(Settings, {})
    wiring.check(settings)
    assert wiring.token_issuer(settings).issue("amy").count(".") == 2
    assert wiring.tls(settings) is None


def test_production_with_everything_starts(safe: dict[str, str]) -> None:
    wiring.check(load_from(Settings, safe))
    plain = {name: value for name, value in safe.items() if "TLS" not in name}
    wiring.check(load_from(Settings, plain | {"FORECOURT_PLAINTEXT": "true"}))


@pytest.mark.parametrize(
    ("changed", "variable"),
    [
        ({"FORECOURT_JWKS_FILE": ""}, "FORECOURT_JWKS_URL"),
        ({"FORECOURT_JWKS_FILE": "", "FORECOURT_JWKS_URL": "http://keys.example"}, "FORECOURT_JWKS_URL"),
        ({"FORECOURT_JWKS_URL": "https://keys.example"}, "FORECOURT_JWKS_FILE"),
        ({"FORECOURT_JWKS_FILE": "/nowhere/jwks.json"}, "FORECOURT_JWKS_FILE"),
        ({"FORECOURT_TOKEN_ISSUER": ""}, "FORECOURT_TOKEN_ISSUER"),
        ({"FORECOURT_TLS_CERT": "", "FORECOURT_TLS_KEY": ""}, "FORECOURT_TLS_CERT"),
        ({"FORECOURT_TLS_KEY": ""}, "FORECOURT_TLS_KEY"),
        ({"FORECOURT_TLS_CERT": "/nowhere/server.pem"}, "FORECOURT_TLS_CERT"),
        ({"GRPC_MTLS_LISTEN": "127.0.0.1:1"}, "FORECOURT_TLS_CLIENT_CA"),
        ({"FORECOURT_CERTIFICATE_IDENTITIES": "/nowhere/i.toml"}, "FORECOURT_TLS_CLIENT_CA"),
    ],
)
def test_what_production_misses_is_named(
    safe: dict[str, str], changed: dict[str, str], variable: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{variable}: "):
        wiring.check(load_from(Settings, safe | changed))


@pytest.mark.parametrize("content", ["", "nonsense", '{"keys": []}'])
def test_a_key_set_that_is_none_is_named(safe: dict[str, str], tmp_path: Path, content: str) -> None:
    (tmp_path / "jwks.json").write_text(content)
    with pytest.raises(ConfigError, match=r"^FORECOURT_JWKS_FILE: "):
        wiring.check(load_from(Settings, safe))


def test_a_key_that_is_not_the_certificates_is_named(safe: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "server-key.pem").write_bytes(DevelopmentAuthority.create().pair.key)
    with pytest.raises(ConfigError, match=r"^FORECOURT_TLS_CERT: "):
        wiring.check(load_from(Settings, safe))


@pytest.mark.parametrize(
    ("variables", "variable"),
    [
        ({"FORECOURT_ENV": "production"}, "FORECOURT_ENV"),
        ({"FORECOURT_JWKS_URL": "https://keys.example"}, "FORECOURT_JWKS_URL"),
    ],
)
def test_development_tokens_are_not_issued_beside_others(variables: dict[str, str], variable: str) -> None:
    with pytest.raises(ConfigError, match=f"^{variable}: "):
        wiring.token_issuer(load_from(Settings, variables))


def test_private_keys_are_for_their_owner_only(safe: dict[str, str], tmp_path: Path) -> None:
    assert safe
    for name in ("server-key.pem", "ca-key.pem"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    assert b"PRIVATE" not in (tmp_path / "ca.pem").read_bytes()
    assert development_authority(tmp_path).pair == development_authority(tmp_path).pair


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[identity]", "is not TOML"),
        ("[[identity]]\nuri = 'x'", "identity 1: actor: Field required"),
        ("[[identity]]\nactor = 'x'", "identity 1: Value error, needs exactly one of"),
        ("[[identity]]\nactor = 'x'\nuri = 'y'\ndns = 'z'", "identity 1: Value error, needs exactly one of"),
        ("[[identity]]\nactor = 'x'\nuri = 'y'\nrole = ['z']", "identity 1: role: Extra inputs"),
        (
            "[[identity]]\nactor = 'x'\nuri = 'y'\n[[identity]]\nactor = 'z'\nuri = 'y'",
            "identity 2: uri: is there twice",
        ),
    ],
)
def test_a_wrong_table_of_certificates_names_entry_and_field(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_table(text)


# --- rates


def test_a_bucket_fills_up_again_and_never_above_its_brim() -> None:
    now = [0.0]
    limiter = RateLimiter(10, 3, monotonic=lambda: now[0])

    def may() -> bool:
        try:
            limiter.take("amy")
        except RateExceeded:
            return False
        return True

    def taken() -> int:
        return len(list(takewhile(bool, (may() for _ in range(100)))))

    assert taken() == 3
    now[0] += 0.2
    assert taken() == 2
    now[0] += 3_600
    assert taken() == 3


def test_a_refusal_says_when_to_come_again() -> None:
    limiter = RateLimiter(4, 1, monotonic=lambda: 0.0)
    limiter.take("amy")
    with pytest.raises(RateExceeded) as caught:
        limiter.take("amy")
    assert caught.value.retry_after == 0.25


def test_a_rate_of_zero_limits_nothing_and_callers_are_forgotten() -> None:
    free = RateLimiter(0, 1)
    for _ in range(10_000):
        free.take("amy")
    limited = RateLimiter(1, 1)
    for number in range(10_500):
        limited.take(f"actor-{number}")
    assert len(limited._buckets) == 10_000
