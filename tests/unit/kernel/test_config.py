"""Settings are checked at start, and a mistake is named by its variable."""

from pathlib import Path

import pytest

from forecourt.config import ConfigError, ServiceSettings, Settings, load, load_from, split_address


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("FORECOURT_DATA", str(tmp_path))


def test_defaults_fit_a_laptop() -> None:
    settings = load(Settings)
    assert (settings.grpc_listen, settings.forecourt_env) == ("127.0.0.1:50051", "development")
    assert settings.forecourt_retry_delays == (1.0, 10.0, 60.0, 600.0)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "mysql://localhost/x"),
        ("EVENT_STORE_URL", "http://localhost"),
        ("AMQP_URI", "rabbit"),
        ("GRPC_LISTEN", "50051"),
        ("GRPC_LISTEN", "127.0.0.1:99999"),
        ("HTTP_LISTEN", "127.0.0.1:http"),
        ("FORECOURT_ENV", "staging"),
        ("FORECOURT_CLOCK", "fast"),
        ("FORECOURT_JWKS_URL", "ftp://keys"),
        ("FORECOURT_RATE_LIMIT", "-1"),
        ("GRPC_MTLS_LISTEN", "somewhere"),
        ("FORECOURT_RETRY_DELAYS", "1,soon"),
        ("FORECOURT_RETRY_DELAYS", "1,-10"),
        ("FORECOURT_POOL_SIZE", "0"),
    ],
)
def test_a_wrong_value_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"^{variable}: "):
        load(Settings)


def test_every_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORECOURT_POOL_SIZE", "many")
    monkeypatch.setenv("AMQP_URI", "nowhere")
    with pytest.raises(ConfigError, match=r"(?s)AMQP_URI.*FORECOURT_POOL_SIZE"):
        load(Settings)


@pytest.mark.parametrize(("name", "variable"), [("database", "DATABASE_URL"), ("broker", "AMQP_URI")])
def test_what_a_role_needs_and_is_missing_is_named(name: str, variable: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        getattr(load(Settings), name)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URI", "")
    assert load(Settings).amqp_uri is None


def test_the_event_store_is_the_database_by_default() -> None:
    settings = load_from(Settings, {"DATABASE_URL": "postgresql://h/d"})
    assert settings.store == "postgresql://h/d"
    assert load_from(
        Settings, {"DATABASE_URL": "postgresql://h/d", "EVENT_STORE_URL": "memory://"}
    ).store == ("memory://")


def test_delays_are_a_list_of_seconds() -> None:
    delays = load_from(Settings, {"FORECOURT_RETRY_DELAYS": "0.5, 2"}).forecourt_retry_delays
    assert delays == (0.5, 2.0)


def test_production_has_no_virtual_clock() -> None:
    with pytest.raises(ConfigError, match="FORECOURT_CLOCK"):
        load_from(Settings, {"FORECOURT_ENV": "production", "FORECOURT_CLOCK": "virtual"})


def test_a_secret_is_not_shown() -> None:
    assert "s3cret" not in repr(load_from(Settings, {"FORECOURT_VAULT_TOKEN": "s3cret"}))


def test_a_service_adds_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(ServiceSettings):
        shop_limit: int = 3

    monkeypatch.setenv("SHOP_LIMIT", "four")
    with pytest.raises(ConfigError, match=r"^SHOP_LIMIT: "):
        load(Own)


def test_addresses() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
