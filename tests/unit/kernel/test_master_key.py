"""The master key: what wraps, what unwraps, and where it may come from."""

import base64
from pathlib import Path

import pytest

from forecourt.config import ConfigError, Settings, load_from
from forecourt.privacy.master import LocalMaster, VaultTransit, Wrapped

OLD, NEW = b"o" * 32, b"n" * 32


def text(*keys: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in keys)


async def test_the_first_key_wraps_and_all_unwrap() -> None:
    before, after = LocalMaster.parse(text(OLD)), LocalMaster.parse(text(NEW, OLD))
    (wrapped,) = await before.wrap([(b"wang", b"secret")])
    assert await after.unwrap([(b"wang", wrapped)]) == [b"secret"]
    assert (await after.wrap([(b"wang", b"secret")]))[0].master_id == await after.current_id()
    assert await after.current_id() != wrapped.master_id
    assert after.knows(wrapped.master_id)


async def test_a_wrapped_key_belongs_to_its_owner() -> None:
    master = LocalMaster.parse(text(OLD))
    (wrapped,) = await master.wrap([(b"wang", b"secret")])
    damaged = Wrapped(wrapped.master_id, wrapped.blob[:-1] + bytes([wrapped.blob[-1] ^ 1]))
    short = Wrapped(wrapped.master_id, b"")
    assert await master.unwrap([(b"li", wrapped), (b"wang", damaged), (b"wang", short)]) == [None] * 3


async def test_a_key_of_another_master_is_not_unwrapped() -> None:
    (wrapped,) = await LocalMaster.parse(text(OLD)).wrap([(b"wang", b"secret")])
    other = LocalMaster.parse(text(NEW))
    assert not other.knows(wrapped.master_id)
    assert await other.unwrap([(b"wang", wrapped)]) == [None]


@pytest.mark.parametrize("wrong", ["", ",", "short", "c2hvcnQ=", "é", text(OLD) + ",x"])
def test_what_is_no_key_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="32 bytes in Base64"):
        LocalMaster.parse(wrong)


def settings(**variables: str) -> Settings:
    return load_from(Settings, variables)


async def test_it_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "master"
    file.write_text(text(NEW) + "\n" + text(OLD) + "\n")
    by_variable = settings(FORECOURT_MASTER_KEY=text(NEW, OLD), FORECOURT_ENV="production").master_key()
    by_file = settings(FORECOURT_MASTER_KEY_FILE=str(file), FORECOURT_ENV="production").master_key()
    assert await by_variable.current_id() == await by_file.current_id()


async def test_an_old_master_key_unwraps_and_never_wraps() -> None:
    (before,) = await LocalMaster.parse(text(OLD)).wrap([(b"wang", b"secret")])
    both = settings(FORECOURT_MASTER_KEY=text(NEW), FORECOURT_OLD_MASTER_KEY=text(OLD)).master_key()
    (after,) = await both.wrap([(b"li", b"hidden")])
    assert after.master_id == await both.current_id() != before.master_id
    assert await both.unwrap([(b"wang", before), (b"li", after), (b"li", before)]) == [
        b"secret",
        b"hidden",
        None,
    ]
    assert both.knows(before.master_id)
    assert both.knows(after.master_id)
    assert not both.knows("local:another")


async def test_development_makes_its_own_and_keeps_it(tmp_path: Path) -> None:
    first = await settings(FORECOURT_DATA=str(tmp_path)).master_key().current_id()
    assert await settings(FORECOURT_DATA=str(tmp_path)).master_key().current_id() == first
    assert (tmp_path / "master.key").stat().st_mode & 0o077 == 0


def test_production_has_no_default(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FORECOURT_MASTER_KEY: is not set"):
        settings(FORECOURT_ENV="production", FORECOURT_DATA=str(tmp_path)).master_key()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"FORECOURT_MASTER_KEY": "nonsense"}, "FORECOURT_MASTER_KEY: must be 32 bytes"),
        ({"FORECOURT_MASTER_KEY_FILE": "/nowhere"}, "FORECOURT_MASTER_KEY_FILE: cannot be read"),
        ({"FORECOURT_MASTER_KEY_FILE": "/nowhere", "FORECOURT_MASTER_KEY": text(OLD)}, "only one of"),
        ({"FORECOURT_VAULT_ADDR": "https://vault"}, "FORECOURT_VAULT_TOKEN: is not set"),
        ({"FORECOURT_VAULT_ADDR": "vault:8200"}, "FORECOURT_VAULT_ADDR"),
        (
            {"FORECOURT_VAULT_ADDR": "https://vault", "FORECOURT_VAULT_TOKEN_FILE": "/nowhere"},
            "FORECOURT_VAULT_TOKEN_FILE: cannot be read",
        ),
        ({"FORECOURT_OLD_MASTER_KEY": "nonsense"}, "FORECOURT_OLD_MASTER_KEY: must be 32 bytes"),
        ({"FORECOURT_OLD_MASTER_KEY_FILE": "/nowhere"}, "FORECOURT_OLD_MASTER_KEY_FILE: cannot be read"),
        (
            {"FORECOURT_VAULT_ADDR": "http://v", "FORECOURT_VAULT_TOKEN": "t", "FORECOURT_ENV": "production"},
            "FORECOURT_VAULT_ADDR: must be https",
        ),
    ],
)
def test_a_wrong_setting_is_named(variables: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        settings(**variables).master_key()
    assert text(OLD) not in str(caught.value)


def test_vault_is_taken_where_it_is_named() -> None:
    master = settings(FORECOURT_VAULT_ADDR="https://vault:8200", FORECOURT_VAULT_TOKEN="t").master_key()
    assert isinstance(master, VaultTransit)
