"""What every store of persons' keys does."""

import pickle
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from forecourt import migrations
from forecourt.privacy.cipher import PersonKey, TamperedCiphertext
from forecourt.privacy.keys import Destroyed, KeyStore, MemoryKeys
from forecourt.privacy.keys_postgres import PostgresKeys
from forecourt.privacy.master import LocalMaster

NOW = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture(params=["memory", "postgres"])
async def keys(request: pytest.FixtureRequest) -> AsyncIterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeys()
        return
    async with asyncpg.create_pool(request.getfixturevalue("database_url"), min_size=1, max_size=4) as pool:
        await migrations.apply(pool, [migrations.KEYS])
        store = await PostgresKeys.open(pool, LocalMaster([b"m" * 32]))
        yield store
        await store.close()


def person() -> str:
    return str(uuid4())


async def test_a_person_nobody_knows_has_no_key(keys: KeyStore) -> None:
    assert await keys.get([person(), "nonsense", ""]) == {}


async def test_a_key_is_made_once_and_opens_what_it_sealed(keys: KeyStore) -> None:
    wang, li = person(), person()
    first = await keys.obtain([wang, li])
    again = (await keys.obtain([wang]))[wang], (await keys.get([wang, person()]))[wang]
    key = first[wang]
    assert isinstance(key, PersonKey)
    sealed = key.seal(b"secret", b"here")
    for other in again:
        assert isinstance(other, PersonKey)
        assert other.unseal(sealed, b"here") == b"secret"
    stranger = first[li]
    assert isinstance(stranger, PersonKey)
    with pytest.raises(TamperedCiphertext):
        stranger.unseal(sealed, b"here")


async def test_an_id_that_is_none_gets_no_key(keys: KeyStore) -> None:
    for wrong in ("", "nonsense", person().upper()):
        with pytest.raises(ValueError, match=r"UUID|canonical"):
            await keys.obtain([wrong])


async def test_a_destroyed_key_stays_destroyed(keys: KeyStore) -> None:
    wang = person()
    await keys.obtain([wang])
    destroyed = await keys.destroy(wang, NOW)
    assert destroyed.at == NOW
    assert await keys.get([wang]) == {wang: destroyed}
    assert await keys.obtain([wang]) == {wang: destroyed}


async def test_destroying_again_answers_the_same_proof(keys: KeyStore) -> None:
    wang = person()
    await keys.obtain([wang])
    first = await keys.destroy(wang, NOW)
    second = await keys.destroy(wang, NOW + timedelta(days=1))
    assert first == second
    assert first.proof == second.proof
    assert len(first.proof) == 64


async def test_a_person_without_a_key_never_gets_one_once_erased(keys: KeyStore) -> None:
    wang = person()
    await keys.destroy(wang, NOW)
    assert isinstance((await keys.obtain([wang]))[wang], Destroyed)


async def test_who_wants_to_know_is_told_of_a_destroyed_key(keys: KeyStore) -> None:
    told: list[str | None] = []
    keys.on_destroyed(told.append)
    wang = person()
    await keys.destroy(wang, NOW)
    assert wang in told


async def test_a_hash_is_the_same_for_the_same_value_and_another_by_any_other_name(keys: KeyStore) -> None:
    hashes = await keys.keyed_hash("shoes")
    assert hashes.of("red", "42") == (await keys.keyed_hash("shoes")).of("red", "42")
    values = {hashes.of("red", "42"), hashes.of("red4", "2"), hashes.of("red42"), hashes.of("red", "42", "")}
    assert len(values) == 4
    assert (await keys.keyed_hash("hats")).of("red", "42") not in values
    assert all(len(value) == 64 for value in values)


async def test_the_key_of_a_hash_is_not_given_away(keys: KeyStore) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(await keys.keyed_hash("shoes"))
