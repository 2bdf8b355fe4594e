"""The keys of persons and of hashes in PostgreSQL, in a schema of their own: ``keys``.

Each key is stored wrapped with the master key, whose id stands beside it. Unwrapped keys are cached in the
process, the least recently used dropped first. A destroyed key is announced to all processes on the same
transaction that destroys it; while nobody listens for that (the connection is lost), nothing is cached.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self
from uuid import UUID, uuid4

import asyncpg

from forecourt import logs
from forecourt.config import ConfigError, Settings
from forecourt.connections import PATIENT_SECONDS, keep_listening
from forecourt.errors import DataDamaged
from forecourt.privacy.cipher import KEY_BYTES, KeyedHash, PersonKey, new_key, randoms
from forecourt.privacy.keys import Destroyed, Entry, OnDestroyed, Person, check_canonical, is_canonical
from forecourt.privacy.master import MasterKey, MasterKeyUnavailable, Wrapped
from forecourt.waiting import Company, cancel_and_wait

log = logs.get(__name__)

CHANNEL = "forecourt_key_destroyed"
RECONNECT_SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0
"""How often the connection that hears of destroyed keys is tried: one that was cut off in silence hears of none."""
ROTATED_AT_ONCE = 1_000
LINGER_SECONDS = 0.008
"""Longer than the event store's: those who got their keys together append together, without waiting again."""

_LOOKUP = """
SELECT person_id::text AS person, master_id, wrapped FROM keys.person_key
WHERE person_id = ANY($1::text[]::uuid[])
"""

_DESTROYED = """
SELECT person_id::text AS person, key_id, destroyed_at, fingerprint FROM keys.person_key
WHERE person_id = ANY($1::text[]::uuid[]) AND destroyed_at IS NOT NULL
"""

# Ids are made here: the server takes longer to make one than to insert the row.
_INSERT = """
INSERT INTO keys.person_key (person_id, key_id, master_id, wrapped)
SELECT person, id, $4, wrapped FROM unnest($1::uuid[], $2::uuid[], $3::bytea[]) AS new (person, id, wrapped)
ON CONFLICT (person_id) DO NOTHING
"""

_HASH_KEY = "SELECT master_id, wrapped FROM keys.hash_key WHERE name = $1"


class UnknownMasterKey(Exception):
    """Keys are wrapped with a master key that this process was not given; the message has its id."""


class PersonKeyLost(DataDamaged):
    """A person's key is there, and cannot be unwrapped: nothing can be recorded about them that is personal."""


class _Wanted(NamedTuple):
    """A person who may need a new key, and who waits for it."""

    person: Person
    entry: "asyncio.Future[Entry]"


class PostgresKeys:
    """A `forecourt.privacy.keys.KeyStore` on PostgreSQL. Make one with `open`, close it when done."""

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", master: MasterKey, *, cache_size: int = 50_000
    ) -> None:
        self._pool = pool
        self._master = master
        self._cache: OrderedDict[Person, Entry] = OrderedDict()
        self._cache_size = cache_size
        self._listening = False
        self._news = 0
        self._listener: asyncio.Task[None] | None = None
        self._forgetters: list[OnDestroyed] = []
        self._wanted: list[_Wanted] = []
        self._company = Company(LINGER_SECONDS)
        self._rounds: asyncio.Task[None] | None = None
        self._hashes: dict[str, KeyedHash] = {}
        self.queries = 0
        """Lookups in the database so far."""

    @classmethod
    async def open(
        cls, pool: "asyncpg.Pool[asyncpg.Record]", master: MasterKey, *, cache_size: int = 50_000
    ) -> Self:
        """Keys on a pool, with a listener on one of its connections.

        Raises `UnknownMasterKey`, `forecourt.privacy.master.MasterKeyUnavailable`, and what asyncpg raises.
        """
        keys = cls(pool, master, cache_size=cache_size)
        try:
            await keys._check_master()
        except BaseException:
            await master.close()
            raise
        listening = asyncio.Event()

        def deaf() -> None:
            """Nothing is kept until somebody listens again."""
            keys._listening = False
            keys._cache.clear()
            listening.set()

        keys._listener = asyncio.create_task(
            keep_listening(
                lambda: keys._listen_once(listening),
                "nobody listens for destroyed keys",
                seconds=RECONNECT_SECONDS,
                between=deaf,
            )
        )
        await listening.wait()
        return keys

    async def _check_master(self) -> None:
        """Raise `UnknownMasterKey` where there are keys that the master keys given cannot unwrap."""
        for row in await self._pool.fetch("SELECT master_id FROM keys.master_key ORDER BY first_used"):
            if not self._master.knows(row["master_id"]):
                raise UnknownMasterKey(
                    f"keys of persons are wrapped with master key {row['master_id']}, which is not given"
                )
        await self._note_master(await self._master.current_id())

    async def close(self) -> None:
        """Stop listening and forget all keys."""
        if self._listener is not None:
            await cancel_and_wait(self._listener)
        self._cache.clear()
        self._hashes.clear()
        await self._master.close()

    # --- lookups

    async def get(self, persons: Collection[Person]) -> dict[Person, Entry]:
        """What there is for each of ``persons``; one query for those that are not cached."""
        found, missing = self._cached(persons)
        if missing:
            found.update(await self._fetch(missing))
        return found

    async def obtain(self, persons: Collection[Person]) -> dict[Person, Entry]:
        """The same, with a new key for each person who has none; callers at the same time share a statement.

        Raises `PersonKeyLost`.
        """
        found, missing = self._cached(persons)
        if missing:
            for person in missing:
                check_canonical(person)
            found.update(zip(missing, await self._wait_for(missing), strict=True))
        return found

    async def _wait_for(self, persons: Sequence[Person]) -> Sequence[Entry]:
        loop = asyncio.get_running_loop()
        wanted = [_Wanted(person, loop.create_future()) for person in persons]
        self._wanted += wanted
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._create_wanted())
        if len(wanted) == 1:
            return [await wanted[0].entry]
        return await asyncio.gather(*(one.entry for one in wanted))

    def _cached(self, persons: Collection[Person]) -> tuple[dict[Person, Entry], list[Person]]:
        if not self._listening:
            return {}, list(persons)
        found, missing = {}, []
        cache = self._cache
        for person in persons:
            entry = cache.get(person)
            if entry is None:
                missing.append(person)
            else:
                cache.move_to_end(person)
                found[person] = entry
        return found, missing

    def _keep(self, entries: dict[Person, Entry], news: int) -> None:
        # What was read before a key was destroyed must not come back after it.
        if not self._listening or news != self._news:
            return
        self._cache.update(entries)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    async def _fetch(self, persons: Collection[Person]) -> dict[Person, Entry]:
        news = self._news
        self.queries += 1
        try:
            rows = await self._pool.fetch(_LOOKUP, persons)
        except asyncpg.DataError:
            # Damaged data may name what is no person at all.
            persons = list(filter(is_canonical, persons))
            rows = await self._pool.fetch(_LOOKUP, persons)
        living: list[Any] = [row for row in rows if row["wrapped"] is not None]
        keys = await self._master.unwrap(
            [(person.encode(), Wrapped(master_id, blob)) for person, master_id, blob in living]
        )
        entries: dict[Person, Entry] = {
            person: PersonKey(key)
            for (person, _, _), key in zip(living, keys, strict=True)
            if key is not None
        }
        if lost := len(living) - len(entries):
            log.error("keys of persons cannot be unwrapped", count=lost)
        if len(living) < len(rows):
            gone = await self._pool.fetch(_DESTROYED, persons)
            # What was destroyed between the two queries is destroyed.
            entries.update({row["person"]: _destroyed(row) for row in gone})
        self._keep(entries, news)
        return entries

    # --- new keys

    async def _create_wanted(self) -> None:
        """Rounds for all who wait; the next one gathers while one runs."""
        # One turn of the loop: callers that are ready at the same moment share the statement.
        await asyncio.sleep(0)
        while self._wanted:
            await self._company.gather(len(self._wanted))
            wanted, self._wanted = self._wanted, []
            self._company.went(len(wanted))
            await self._answer(wanted)

    async def _answer(self, wanted: "Sequence[_Wanted]") -> None:
        try:
            made = await self._create(list({one.person for one in wanted}))
        except Exception as error:  # noqa: BLE001 - it is not lost: it belongs to those who wait
            for one in wanted:
                if not one.entry.done():
                    one.entry.set_exception(error)
            return
        for one in wanted:
            if one.entry.done():
                continue
            if (entry := made.get(one.person)) is not None:
                one.entry.set_result(entry)
            else:
                one.entry.set_exception(PersonKeyLost("the key of this person's data cannot be read"))

    async def _create(self, persons: Sequence[Person]) -> dict[Person, Entry]:
        news = self._news
        keys = dict(zip(persons, randoms(len(persons), KEY_BYTES), strict=True))
        wrapped = await self._master.wrap([(person.encode(), key) for person, key in keys.items()])
        inserted = 0
        for master_id in {one.master_id for one in wrapped}:
            inserted += await self._insert(
                master_id,
                [
                    (person, one.blob)
                    for person, one in zip(keys, wrapped, strict=True)
                    if one.master_id == master_id
                ],
            )
        if inserted < len(persons):
            # Another process was first with some of them.
            return await self._fetch(persons)
        made: dict[Person, Entry] = {person: PersonKey(key) for person, key in keys.items()}
        self._keep(made, news)
        return made

    async def _insert(self, master_id: str, wrapped: Sequence[tuple[Person, bytes]]) -> int:
        """How many of these were inserted: those who had no key yet."""
        persons, blobs = map(list, zip(*wrapped, strict=True))
        ids = [random.hex() for random in randoms(len(persons), 16)]
        try:
            status = await self._pool.execute(_INSERT, persons, ids, blobs, master_id)
        except asyncpg.ForeignKeyViolationError:
            # A rotation has just taken our master key off the list.
            await self._note_master(master_id)
            status = await self._pool.execute(_INSERT, persons, ids, blobs, master_id)
        return int(status.rpartition(" ")[2])

    async def _note_master(self, master_id: str) -> None:
        await self._pool.execute(
            "INSERT INTO keys.master_key (master_id) VALUES ($1) ON CONFLICT DO NOTHING", master_id
        )

    # --- hashes

    async def keyed_hash(self, name: str) -> KeyedHash:
        """The hash of that name. Raises `forecourt.privacy.master.MasterKeyUnavailable`."""
        found = self._hashes.get(name)
        if found is None:
            found = self._hashes[name] = KeyedHash(await self._hash_key(name))
        return found

    async def _hash_key(self, name: str) -> bytes:
        row: Any = await self._pool.fetchrow(_HASH_KEY, name)
        if row is None:
            (wrapped,) = await self._master.wrap([(_hash_owner(name), new_key())])
            await self._pool.execute(
                "WITH noted AS (INSERT INTO keys.master_key (master_id) VALUES ($2) ON CONFLICT DO NOTHING)"
                " INSERT INTO keys.hash_key (name, master_id, wrapped) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                name,
                wrapped.master_id,
                wrapped.blob,
            )
            # Another process may have been first.
            row = await self._pool.fetchrow(_HASH_KEY, name)
        (key,) = await self._master.unwrap([(_hash_owner(name), Wrapped(row["master_id"], row["wrapped"]))])
        if key is None:
            raise MasterKeyUnavailable("the key of a hash cannot be unwrapped with the master keys given")
        return key

    # --- destruction

    async def destroy(self, person: Person, at: datetime) -> Destroyed:
        """Destroy a person's key for good, and tell all processes; where it was done before, the first answer."""
        check_canonical(person)
        person_id = UUID(person)
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO keys.person_key AS k (person_id, key_id, destroyed_at) VALUES ($1, $2, $3)"
                " ON CONFLICT (person_id) DO UPDATE SET wrapped = NULL, master_id = NULL, destroyed_at = $3,"
                " fingerprint = encode(sha256(k.wrapped), 'hex') WHERE k.destroyed_at IS NULL",
                person_id,
                uuid4(),
                at,
            )
            row = await connection.fetchrow(_DESTROYED, [person])
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, person)
        self._gone(person)
        return _destroyed(row)

    def on_destroyed(self, forget: OnDestroyed) -> None:
        """Have ``forget`` called when a person's key is destroyed, in whatever process."""
        self._forgetters.append(forget)

    def _gone(self, person: Person | None) -> None:
        self._news += 1
        if person is None:
            self._cache.clear()
        else:
            self._cache.pop(person, None)
        for forget in self._forgetters:
            forget(person)

    async def _listen_once(self, ready: asyncio.Event) -> None:
        async with self._pool.acquire() as connection:
            lost = asyncio.Event()

            def stop(_: object) -> None:
                self._listening = False
                self._cache.clear()
                lost.set()

            connection.add_termination_listener(stop)
            await connection.add_listener(CHANNEL, self._announced)
            # Before anything is kept again: what was announced since the last connection was not heard.
            self._gone(None)
            self._listening = True
            ready.set()
            try:
                await _until_lost(connection, lost)
            finally:
                if not connection.is_closed():
                    connection.remove_termination_listener(stop)
                    await connection.remove_listener(CHANNEL, self._announced)

    def _announced(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self._gone(str(payload))

    # --- the master key

    async def rotate(self) -> int:
        """Wrap every key anew that is not wrapped with the present master key; how many were.

        Safe to run at any time, and again after it was stopped. Raises `UnknownMasterKey` where one cannot be
        unwrapped: it stays as it was.
        """
        current, rotated, after = await self._master.current_id(), 0, UUID(int=0)
        await self._note_master(current)
        lost = 0
        while rows := await self._page(current, after):
            after = rows[-1]["person_id"]
            done, failed = await self._rewrap(rows)
            rotated, lost = rotated + done, lost + failed
        done, failed = await self._rewrap_hashes(current)
        rotated, lost = rotated + done, lost + failed
        if lost:
            raise UnknownMasterKey(f"{lost} keys cannot be unwrapped with the master keys given")
        await self._pool.execute(
            "DELETE FROM keys.master_key m WHERE master_id <> $1 AND NOT EXISTS"
            " (SELECT FROM keys.person_key p WHERE p.master_id = m.master_id)"
            " AND NOT EXISTS (SELECT FROM keys.hash_key h WHERE h.master_id = m.master_id)",
            current,
            timeout=PATIENT_SECONDS,
        )
        return rotated

    async def _rewrap_hashes(self, current: str) -> tuple[int, int]:
        rows = await self._pool.fetch(
            "SELECT name, master_id, wrapped FROM keys.hash_key WHERE master_id <> $1", current
        )
        given = [(_hash_owner(row["name"]), Wrapped(row["master_id"], row["wrapped"])) for row in rows]
        keys = await self._master.unwrap(given)
        known = [(row["name"], key) for row, key in zip(rows, keys, strict=True) if key is not None]
        wrapped = await self._master.wrap([(_hash_owner(name), key) for name, key in known])
        for (name, _), one in zip(known, wrapped, strict=True):
            await self._pool.execute(
                "UPDATE keys.hash_key SET master_id = $2, wrapped = $3 WHERE name = $1",
                name,
                one.master_id,
                one.blob,
            )
        return len(known), len(rows) - len(known)

    async def _page(self, current: str, after: UUID) -> "list[asyncpg.Record]":
        return await self._pool.fetch(
            "SELECT person_id, person_id::text AS person, master_id, wrapped FROM keys.person_key"
            " WHERE person_id > $2 AND wrapped IS NOT NULL AND master_id <> $1 ORDER BY person_id LIMIT $3",
            current,
            after,
            ROTATED_AT_ONCE,
        )

    async def _rewrap(self, rows: "Sequence[asyncpg.Record]") -> tuple[int, int]:
        keys = await self._master.unwrap([_wrapped(row) for row in rows])
        known = [(row, key) for row, key in zip(rows, keys, strict=True) if key is not None]
        wrapped = await self._master.wrap([(row["person"].encode(), key) for row, key in known])
        # Compared with what was read: a key destroyed meanwhile stays destroyed.
        await self._pool.execute(
            "UPDATE keys.person_key k SET master_id = n.master_id, wrapped = n.wrapped FROM"
            " unnest($1::uuid[], $2::bytea[], $3::text[], $4::bytea[]) AS n (person_id, before, master_id, wrapped)"
            " WHERE k.person_id = n.person_id AND k.wrapped = n.before",
            [row["person_id"] for row, _ in known],
            [row["wrapped"] for row, _ in known],
            [one.master_id for one in wrapped],
            [one.blob for one in wrapped],
        )
        return len(known), len(rows) - len(known)

    async def status(self) -> list[tuple[str, int]]:
        """How many keys each master key wraps, and how many are destroyed (under ``destroyed``)."""
        rows = await self._pool.fetch(
            "SELECT coalesce(master_id, 'destroyed') AS name, count(*) AS number FROM"
            " (SELECT master_id FROM keys.person_key UNION ALL SELECT master_id FROM keys.hash_key) k"
            " GROUP BY 1 ORDER BY 1",
            timeout=PATIENT_SECONDS,
        )
        return [(row["name"], row["number"]) for row in rows]


async def _until_lost(connection: Any, lost: asyncio.Event) -> None:
    """Return when a connection has ended, or does not answer any more."""
    while not lost.is_set():
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await lost.wait()
        except TimeoutError:
            try:
                await connection.execute("SELECT 1", timeout=HEARTBEAT_SECONDS)
            except TimeoutError:
                connection.terminate()
                return


def _hash_owner(name: str) -> bytes:
    """What the wrapped key of a hash is bound to; no person has such an id."""
    return f"hash:{name}".encode()


def _wrapped(row: Any) -> tuple[bytes, Wrapped]:
    return row["person"].encode(), Wrapped(row["master_id"], row["wrapped"])


def _destroyed(row: Any) -> Destroyed:
    return Destroyed(row["key_id"], row["destroyed_at"], row["fingerprint"])


async def open_keys(pool: "asyncpg.Pool[asyncpg.Record]", settings: Settings) -> PostgresKeys:
    """The keys of a process, by its settings. Raises `ConfigError`, also where Vault does not answer."""
    master = settings.master_key()
    try:
        return await PostgresKeys.open(pool, master)
    except UnknownMasterKey as error:
        raise ConfigError(f"FORECOURT_MASTER_KEY: {error}") from None
    except MasterKeyUnavailable as error:
        raise ConfigError(f"FORECOURT_VAULT_ADDR: {error}") from None
    except asyncpg.UndefinedTableError:
        raise ConfigError("DATABASE_URL: holds no keys; run 'forecourt migrate'") from None
