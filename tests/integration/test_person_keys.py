"""Persons' keys in PostgreSQL: shared by processes, wrapped, rotated, destroyed; and a master key in Vault."""

import asyncio
import base64
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from forecourt import connections, migrations
from forecourt.access.ownership import Ownership
from forecourt.codec import Codec
from forecourt.config import ConfigError, Settings, load_from
from forecourt.events import Event, Personal
from forecourt.privacy import keys_postgres
from forecourt.privacy.cipher import PersonKey
from forecourt.privacy.keys import Destroyed
from forecourt.privacy.keys_postgres import PersonKeyLost, PostgresKeys, UnknownMasterKey, open_keys
from forecourt.privacy.master import LocalMaster, MasterKeyUnavailable, VaultTransit
from forecourt.registry import build_registry
from forecourt.snapshots import PostgresSnapshots, Snapshot
from forecourt.testing.probes import poll_async

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW = b"o" * 32, b"n" * 32

Pool = Any


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as pool:
        await migrations.apply(pool, [migrations.KEYS])
        yield pool


@asynccontextmanager
async def opened(pool: Pool, *masters: bytes, cache_size: int = 1000) -> AsyncIterator[PostgresKeys]:
    keys = await PostgresKeys.open(pool, LocalMaster(masters or [OLD]), cache_size=cache_size)
    try:
        yield keys
    finally:
        await keys.close()


def persons(count: int) -> list[str]:
    return [str(uuid4()) for _ in range(count)]


async def test_ten_thousand_keys_are_made_and_found_in_a_query_each(pool: Pool) -> None:
    everybody = persons(10_000)
    async with opened(pool, cache_size=20_000) as keys:
        await keys.obtain(everybody)
        assert keys.queries == 0
    async with opened(pool, cache_size=20_000) as keys:
        assert len(await keys.get(everybody)) == 10_000
        assert len(await keys.get(everybody)) == 10_000
        assert keys.queries == 1


async def test_the_cache_keeps_to_its_size(pool: Pool) -> None:
    everybody = persons(50)
    async with opened(pool, cache_size=10) as keys:
        for person in everybody:
            await keys.obtain([person])
        await keys.get(everybody[-10:])
        assert keys.queries == 0
        await keys.get(everybody[:10])
        assert keys.queries == 1


async def test_processes_that_make_a_key_at_once_agree_on_one(pool: Pool) -> None:
    everybody = persons(200)
    async with opened(pool) as one, opened(pool) as two:
        asked = [store.obtain([person]) for person in everybody for store in (one, two, one)]
        answers = await asyncio.gather(*asked)
        for first, second, _ in zip(answers[::3], answers[1::3], answers[2::3], strict=True):
            ((person, here),) = first.items()
            there = second[person]
            assert isinstance(here, PersonKey)
            assert isinstance(there, PersonKey)
            assert there.unseal(here.seal(b"x", b""), b"") == b"x"


async def test_no_key_is_stored_unwrapped(pool: Pool) -> None:
    async with opened(pool) as keys:
        (wang,) = persons(1)
        key = (await keys.obtain([wang]))[wang]
        assert isinstance(key, PersonKey)
        blob = await pool.fetchval("SELECT wrapped FROM keys.person_key")
        sealed = base64.b64decode(key.seal(b"x", b"").removeprefix("enc:v2:"))[8:]
        raw = AESGCM(OLD).decrypt(blob[:12], blob[12:], wang.encode())
        assert AESGCM(raw).decrypt(sealed[:12], sealed[12:], b"") == b"x"
        assert raw not in blob


async def test_a_destroyed_key_is_gone_from_other_processes_and_from_the_table(pool: Pool) -> None:
    (wang,) = persons(1)
    async with opened(pool) as one, opened(pool) as two:
        await one.obtain([wang])
        await two.get([wang])
        told: list[str | None] = []
        two.on_destroyed(told.append)
        fingerprint = await pool.fetchval("SELECT encode(sha256(wrapped), 'hex') FROM keys.person_key")
        destroyed = await one.destroy(wang, NOW)
        assert destroyed.fingerprint == fingerprint
        await poll_async(lambda: told == [wang])
        assert await two.get([wang]) == {wang: destroyed}
    row = await pool.fetchrow("SELECT wrapped, master_id, destroyed_at FROM keys.person_key")
    assert tuple(row) == (None, None, NOW)


async def test_while_nobody_listens_nothing_comes_from_the_cache(pool: Pool) -> None:
    (wang,) = persons(1)
    async with opened(pool) as keys:
        await keys.obtain([wang])
        await pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%forecourt_key_destroyed%'"
        )
        # What another process announces meanwhile is not heard here.
        await poll_async(lambda: not keys._cache)
        before = keys.queries
        await keys.get([wang])
        assert keys.queries == before + 1
        await pool.execute(
            "UPDATE keys.person_key SET wrapped = NULL, master_id = NULL, destroyed_at = now()"
        )

        async def again() -> bool:
            return isinstance((await keys.get([wang]))[wang], Destroyed)

        assert await again()


async def test_the_listener_for_destroyed_keys_tells_of_what_nobody_foresaw_and_goes_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, listen = Mock(), PostgresKeys._listen_once

    async def fail_once(keys: PostgresKeys, ready: asyncio.Event) -> None:
        if not log.exception.called:
            raise ValueError("a mistake")
        await listen(keys, ready)

    monkeypatch.setattr(PostgresKeys, "_listen_once", fail_once)
    monkeypatch.setattr(connections, "log", log)
    monkeypatch.setattr(keys_postgres, "RECONNECT_SECONDS", 0.01)
    async with opened(pool) as keys:
        await poll_async(lambda: keys._listening)
    log.exception.assert_called_once()


async def test_a_key_of_an_unknown_master_is_lost_and_the_process_does_not_start(
    pool: Pool, database_url: str
) -> None:
    (wang,) = persons(1)
    async with opened(pool, OLD) as keys:
        await keys.obtain([wang])
    with pytest.raises(UnknownMasterKey):
        async with opened(pool, NEW):
            raise AssertionError("must not open")
    settings = load_from(Settings, {"FORECOURT_MASTER_KEY": base64.b64encode(NEW).decode()})
    with pytest.raises(ConfigError, match="FORECOURT_MASTER_KEY: keys of persons are wrapped with"):
        await open_keys(pool, settings)


async def test_a_damaged_key_is_lost_and_the_others_are_not(pool: Pool) -> None:
    wang, li = persons(2)
    async with opened(pool, cache_size=0) as keys:
        await keys.obtain([wang, li])
        await pool.execute("UPDATE keys.person_key SET wrapped = '\\x00' WHERE person_id = $1", UUID(wang))
        assert list(await keys.get([wang, li])) == [li]


async def test_writing_about_somebody_whose_key_is_lost_is_refused_and_others_do_not_wait(pool: Pool) -> None:
    wang, li, new = persons(3)
    async with opened(pool, cache_size=0) as keys:
        await keys.obtain([wang, li])
        await pool.execute("UPDATE keys.person_key SET wrapped = '\\x00' WHERE person_id = $1", UUID(wang))
        asked = (keys.obtain([one]) for one in (wang, li, new))
        refused, found, made = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(refused, PersonKeyLost)
    assert isinstance(found, dict)
    assert isinstance(made, dict)
    assert (list(found), list(made)) == ([li], [new])


@pytest.mark.skipif("DATABASE_URL" in os.environ, reason="the server's processes cannot be stopped from here")
async def test_a_connection_that_went_silent_is_given_up_with_all_that_is_cached(
    pool: Pool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_postgres, "HEARTBEAT_SECONDS", 0.1)
    (wang,), named = persons(1), {"application_name": "cut off"}
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4, server_settings=named) as cut_off:
        keys = await PostgresKeys.open(cut_off, LocalMaster([OLD]))
        await keys.obtain([wang])
        assert wang in keys._cache
        rows = await pool.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'cut off'")
        for row in rows:
            os.kill(row["pid"], signal.SIGSTOP)
        try:
            async with opened(pool) as here:
                await here.destroy(wang, NOW)
            await poll_async(lambda: wang not in keys._cache, what="the silence to be noticed")
        finally:
            for row in rows:
                os.kill(row["pid"], signal.SIGCONT)
            await keys.close()


async def test_the_master_key_is_rotated_and_the_old_one_may_go(pool: Pool) -> None:
    everybody = persons(2_500)
    async with opened(pool, OLD) as keys:
        sealed = {
            p: k.seal(b"x", b"")
            for p, k in (await keys.obtain(everybody)).items()
            if isinstance(k, PersonKey)
        }
        await keys.destroy(everybody[0], NOW)
    async with opened(pool, NEW, OLD) as keys:
        assert await keys.rotate() == 2_499
        assert await keys.rotate() == 0
        assert [number for _, number in await keys.status()] == [1, 2_499]
    async with opened(pool, NEW) as keys:
        found = await keys.get(everybody)
        assert isinstance(found.pop(everybody[0]), Destroyed)
        assert len(found) == 2_499
        for person, key in found.items():
            assert isinstance(key, PersonKey)
            assert key.unseal(sealed[person], b"") == b"x"


async def test_hashes_are_shared_by_processes_and_stay_the_same_when_the_master_key_is_rotated(
    pool: Pool,
) -> None:
    async with opened(pool, OLD) as one, opened(pool, OLD) as another:
        first, second = await asyncio.gather(one.keyed_hash("documents"), another.keyed_hash("documents"))
        assert first.of("E12345678") == second.of("E12345678")
    async with opened(pool, NEW, OLD) as keys:
        assert await keys.rotate() == 1
        assert await keys.rotate() == 0
    async with opened(pool, NEW) as keys:
        assert (await keys.keyed_hash("documents")).of("E12345678") == first.of("E12345678")
        await pool.execute("UPDATE keys.hash_key SET wrapped = '\\x00'")
    async with opened(pool, NEW) as keys:
        with pytest.raises(MasterKeyUnavailable):
            await keys.keyed_hash("documents")


async def test_a_process_that_still_wraps_with_the_old_key_after_a_rotation_is_noticed(pool: Pool) -> None:
    async with opened(pool, OLD, NEW) as late:
        await late.obtain(persons(1))
        async with opened(pool, NEW, OLD) as keys:
            await keys.rotate()
        await late.obtain(persons(1))
    with pytest.raises(UnknownMasterKey):
        async with opened(pool, NEW):
            raise AssertionError("must not open")


# --- snapshots


class Joined(Event, name="Joined", version=1):
    name: Personal[str]


@dataclass(frozen=True)
class Member:
    name: str = ""


async def test_snapshots_are_stored_sealed_and_are_none_after_the_erasure(pool: Pool) -> None:
    (wang,) = persons(1)
    stream = f"member-{wang}"
    async with opened(pool) as keys:
        codec = Codec(build_registry("club", [("member", [Joined])]), keys)
        snapshots = PostgresSnapshots(pool, "club", codec)
        await migrations.apply(pool, [migrations.service("club")])
        snapshot = Snapshot(Member("Wang"), 200, 7, Ownership("D001", "b"), {}, {"Joined": ("amy", "bob")})
        await snapshots.save(stream, snapshot, Member)
        assert "Wang" not in await pool.fetchval("SELECT state::text FROM club.snapshot")
        assert await snapshots.load(stream, Member) == snapshot
        await keys.destroy(wang, NOW)
        assert await snapshots.load(stream, Member) is None


# --- Vault


class VaultStandIn:
    """Answers as Vault's Transit engine does, over HTTP, with real encryption."""

    def __init__(self) -> None:
        self.keys = [b"1" * 32]
        self.token = "s.token"
        self.requests = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/transit/keys/forecourt", self._guarded(self._latest))
        app.router.add_post("/v1/transit/encrypt/forecourt", self._guarded(self._encrypt))
        app.router.add_post("/v1/transit/decrypt/forecourt", self._guarded(self._decrypt))
        return app

    def _guarded(self, answer: Callable[[Any], web.Response]) -> Any:
        async def handle(request: web.Request) -> web.Response:
            self.requests += 1
            if request.headers.get("X-Vault-Token") != self.token:
                return web.json_response({"errors": ["permission denied"]}, status=403)
            return answer(await request.json() if request.can_read_body else None)

        return handle

    def _latest(self, _: Any) -> web.Response:
        return web.json_response({"data": {"latest_version": len(self.keys)}})

    def _encrypt(self, body: Any) -> web.Response:
        results = []
        for item in body["batch_input"]:
            plain, owner = base64.b64decode(item["plaintext"]), base64.b64decode(item["associated_data"])
            nonce = uuid4().bytes[:12]
            blob = base64.b64encode(nonce + AESGCM(self.keys[-1]).encrypt(nonce, plain, owner)).decode()
            results.append({"ciphertext": f"vault:v{len(self.keys)}:{blob}"})
        return web.json_response({"data": {"batch_results": results}})

    def _decrypt(self, body: Any) -> web.Response:
        results, status = [], 200
        for item in body["batch_input"]:
            try:
                _, version, blob = item["ciphertext"].split(":")
                raw = base64.b64decode(blob)
                owner = base64.b64decode(item["associated_data"])
                plain = AESGCM(self.keys[int(version[1:]) - 1]).decrypt(raw[:12], raw[12:], owner)
                results.append({"plaintext": base64.b64encode(plain).decode()})
            except (ValueError, InvalidTag):
                results.append({"error": "invalid ciphertext"})
                status = 400
        return web.json_response({"data": {"batch_results": results}}, status=status)


@pytest.fixture
async def vault() -> AsyncIterator[tuple[VaultStandIn, str]]:
    stand_in = VaultStandIn()
    runner = web.AppRunner(stand_in.app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield stand_in, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_database_without_keys_is_named(database_url: str) -> None:
    settings = load_from(Settings, {"FORECOURT_MASTER_KEY": base64.b64encode(OLD).decode()})
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool:
        with pytest.raises(ConfigError, match="DATABASE_URL: holds no keys; run 'forecourt migrate'"):
            await open_keys(pool, settings)


async def test_vault_wraps_in_batches_and_rotates(pool: Pool, vault: tuple[VaultStandIn, str]) -> None:
    stand_in, address = vault
    everybody = persons(300)
    keys = await PostgresKeys.open(pool, VaultTransit(address, "s.token", "forecourt"))
    sealed = {
        p: k.seal(b"x", b"") for p, k in (await keys.obtain(everybody)).items() if isinstance(k, PersonKey)
    }
    assert stand_in.requests == 2
    stand_in.keys.append(b"2" * 32)
    assert await keys.rotate() == 300
    await pool.execute(
        "UPDATE keys.person_key SET wrapped = 'nonsense' WHERE person_id = $1", UUID(everybody[0])
    )
    await keys.close()
    keys = await PostgresKeys.open(pool, VaultTransit(address, "s.token", "forecourt"))
    found = await keys.get(everybody)
    assert set(found) == set(everybody[1:])
    for person, key in found.items():
        assert isinstance(key, PersonKey)
        assert key.unseal(sealed[person], b"") == b"x"
    assert [name for name, _ in await keys.status()] == ["vault:forecourt:v2"]
    await keys.close()


async def test_keys_move_from_a_local_master_key_to_vault(
    pool: Pool, vault: tuple[VaultStandIn, str], tmp_path: Path
) -> None:
    """With the token in a file, which somebody renews while the process runs."""
    stand_in, address = vault
    everybody = persons(20)
    async with opened(pool, OLD) as keys:
        sealed = {p: k.seal(b"x", b"") for p, k in (await keys.obtain(everybody)).items()}  # type: ignore[union-attr]
    file = tmp_path / "token"
    file.write_text("s.token\n")
    to_vault = {"FORECOURT_VAULT_ADDR": address, "FORECOURT_VAULT_TOKEN_FILE": str(file)}
    with pytest.raises(ConfigError, match="which is not given"):
        await open_keys(pool, load_from(Settings, to_vault))
    old = {"FORECOURT_OLD_MASTER_KEY": base64.b64encode(OLD).decode()}
    both = await open_keys(pool, load_from(Settings, {**to_vault, **old}))
    assert len(await both.get(everybody)) == 20
    stand_in.token = "s.renewed"  # of a stand-in
    with pytest.raises(MasterKeyUnavailable, match="403"):
        await both.rotate()
    file.write_text("s.renewed\n")
    assert await both.rotate() == 20
    await both.close()
    keys = await open_keys(pool, load_from(Settings, to_vault))
    for person, key in (await keys.get(everybody)).items():
        assert isinstance(key, PersonKey)
        assert key.unseal(sealed[person], b"") == b"x"
    assert [name for name, _ in await keys.status()] == ["vault:forecourt:v1"]
    file.unlink()
    with pytest.raises(MasterKeyUnavailable, match="no token from its file"):
        await keys.obtain(persons(1))
    await keys.close()


async def test_a_vault_that_refuses_or_is_away_is_named(
    pool: Pool, vault: tuple[VaultStandIn, str], tmp_path: Path
) -> None:
    _, address = vault
    with pytest.raises(MasterKeyUnavailable, match="403"):
        await PostgresKeys.open(pool, VaultTransit(address, "wrong", "forecourt"))
    away = {"FORECOURT_VAULT_ADDR": "http://127.0.0.1:1", "FORECOURT_VAULT_TOKEN": "t"}
    with pytest.raises(ConfigError, match="FORECOURT_VAULT_ADDR: vault: does not answer"):
        await open_keys(pool, load_from(Settings, away))
