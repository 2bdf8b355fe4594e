"""Backups: created beside a running load, restored, verified; and what is wrong with a bad one is said."""

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from customer.customer import ChangeCategory, RegisterCustomer, customer
from customer.erasure import ApproveErasure, RecordShredding, RequestErasure
from customer.service import service
from forecourt import backup
from forecourt.backup import BackupFailed, NotEmpty
from forecourt.config import ConfigError, Settings, load_from
from forecourt.deciders import Context
from forecourt.embedded.postgres import programs
from forecourt.errors import InvalidInput
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.eventstore.port import NewEvent
from forecourt.fingerprints import canonical, fingerprints
from forecourt.privacy.keys import Destroyed
from forecourt.projections import tables
from forecourt.projections.rebuild import Rebuild
from forecourt.runtime import Runtime, migrate
from forecourt.testing.given import NOW
from forecourt.testing.servers import PostgresServer

pytestmark = pytest.mark.integration

NAME = "王伟"


def by_amy() -> Context:
    """A call of a salesperson."""
    return Context(NOW, uuid4(), uuid4(), actor_id="amy", dealer_id="D001", brand="hongtong")


@dataclass
class Source:
    """A database with customers in it, half of whose read models are up to date."""

    settings: Settings
    runtime: Runtime
    folder: Path
    keys: Path

    @property
    def url(self) -> str:
        return self.settings.database

    async def register(self, count: int = 1) -> None:
        commands = self.runtime.services[0].commands
        for _ in range(count):
            made = await commands.execute(customer, RegisterCustomer(kind="prospect", name=NAME), by_amy())
            change = ChangeCategory(customer_id=made.id, category="buyer")
            await commands.execute(customer, change, by_amy())

    async def create(self, *, read_models: bool = False) -> backup.Manifest:
        return await backup.create([service], self.settings, self.folder, self.keys, read_models=read_models)

    def plain(self) -> str:
        """The dump in SQL."""
        command = [str(programs() / "pg_restore"), "--file=-", str(self.folder / "events.dump")]
        return subprocess.run(command, capture_output=True, check=True).stdout.decode()

    async def verify(self, settings: Settings | None = None, **options: bool) -> list[str]:
        """What differs; and all is compared."""
        verdict = await self.verdict(settings, **options)
        assert (verdict.not_compared, verdict.left_out) == ([], [])
        return verdict.wrong

    async def verdict(self, settings: Settings | None = None, **options: bool) -> backup.Verdict:
        return await backup.verify([service], settings or self.settings, self.folder, self.keys, **options)

    async def add_a_lead(self) -> None:
        """An event of a service that the tests have not installed."""
        event = NewEvent(
            id=uuid4(), type="crm.sales.LeadQualified", version=1, time=NOW, data="{}",
            correlation_id=uuid4(), causation_id=None, dealer_id="D001", brand="hongtong", actor_id="amy",
        )  # fmt: skip
        await self.runtime.store.append(f"lead-{uuid4()}", [event], expected=0)


@pytest_asyncio.fixture
async def source(database_url: str, tmp_path: Path) -> AsyncIterator[Source]:
    variables = {"DATABASE_URL": database_url, "FORECOURT_DATA": str(tmp_path / "data")}
    settings = load_from(Settings, variables)
    await migrate([service], settings)
    runtime = await Runtime.open([service], settings)
    try:
        one = Source(settings, runtime, tmp_path / "backup", tmp_path / "elsewhere" / "persons.keys")
        await one.register(20)
        yield one
    finally:
        await runtime.close()


async def test_a_backup_is_one_moment_and_verifies(source: Source) -> None:
    """While commands go on: what comes later is in neither of the two files."""
    for projection in service.projections:
        part = source.runtime.services[0]
        rebuild = Rebuild("customer", projection, source.runtime.store, part.codec, source.runtime.pool)
        await rebuild.run()
    manifest, _ = await asyncio.gather(source.create(read_models=True), source.register(30))
    head = await source.runtime.store.head()
    assert 40 <= manifest.position <= head == 100
    assert manifest.categories["customer"].events == manifest.position
    assert await source.verify() == []
    assert NAME in source.plain(), "read models are in clear"
    for file in (source.folder / "events.dump", source.keys):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_restored_with_and_without_keys(source: Source, postgres_server: PostgresServer) -> None:
    await source.create()
    url = postgres_server.create_database()
    try:
        assert "enc:v2:" in source.plain()
        assert NAME not in source.plain(), "personal data is nowhere in clear"
        restored = source.settings.model_copy(update={"database_url": url})
        await backup.restore(source.folder, source.keys, url)
        assert await source.verify(restored, restored=True) == []
        runtime = await Runtime.open([service], restored)
        try:
            (batch,) = [batch async for batch in runtime.store.read_all()]
            recorded = await runtime.services[0].codec.decode(batch.events)
            assert {one.event.name for one in recorded if hasattr(one.event, "name")} == {NAME}
        finally:
            await runtime.close()
        with pytest.raises(NotEmpty, match="customer, events, forecourt, keys, messaging"):
            await backup.restore(source.folder, source.keys, url)
    finally:
        postgres_server.drop_database(url)
    verdict = await backup.verify([service], source.settings, source.folder, None)
    assert verdict == backup.Verdict(left_out=["states and read models: without keys"])


async def test_what_was_changed_is_found(source: Source, postgres_server: PostgresServer) -> None:
    await source.create(read_models=True)
    url = postgres_server.create_database()
    restored = source.settings.model_copy(update={"database_url": url})
    try:
        await backup.restore(source.folder, source.keys, url)
        assert await source.verify(restored, restored=True) == []
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(
                "UPDATE customer.customer SET kind = 'vip' WHERE customer_id ="
                " (SELECT min(customer_id::text)::uuid FROM customer.customer)"
            )
            assert await source.verify(restored, restored=True) == [
                "read model customer.customer: is not what its events lead to"
            ]
            await connection.execute("DELETE FROM keys.person_key")
            found = await source.verify(restored, restored=True)
            assert "category customer: the same events lead to other states" in found
            await connection.execute("UPDATE events.event SET actor_id = 'eve' WHERE position = 7")
            found = await source.verify(restored, restored=True)
            assert "category customer: 40 events, not the same as the 40 of the source" in found
            await connection.execute("DELETE FROM events.event WHERE position = 40")
            found = await source.verify(restored, restored=True)
            assert found[0] == "the head is 39, and was 40"
        finally:
            await connection.close()
    finally:
        postgres_server.drop_database(url)


async def test_damaged_files_and_wrong_places_are_refused(source: Source, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="must not lie with the backup"):
        await backup.create([service], source.settings, source.folder, source.folder / "keys")
    elsewhere = source.settings.model_copy(update={"event_store_url": "esdb://127.0.0.1:2113"})
    with pytest.raises(ConfigError, match=r"docs/backup\.md"):
        await backup.create([service], elsewhere, source.folder, source.keys)
    with pytest.raises(BackupFailed, match="no finished backup"):
        await source.verify()
    await source.create()
    with pytest.raises(InvalidInput, match="not empty"):
        await source.create()
    with source.keys.open("ab") as file:
        file.write(b"!")
    with pytest.raises(BackupFailed, match=r"persons\.keys: is missing, damaged, or of another backup"):
        await source.verify()


async def test_programs_that_are_missing_or_too_old_are_named(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "bin" / "pg_dump"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.setattr(backup, "programs", lambda: tmp_path / "nowhere")
    with pytest.raises(BackupFailed, match=r"pg_dump is of PostgreSQL 9.*install postgresql-client-1\d"):
        await source.create()
    assert not source.folder.exists()
    assert not source.keys.exists()


async def test_a_backup_that_failed_can_be_repeated(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever failed, and at whatever step, the same command does it when that is mended."""
    wrong = source.settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/x"})
    with pytest.raises(ConfigError, match="DATABASE_URL: cannot connect"):
        await backup.create([service], wrong, source.folder, source.keys)
    assert not source.folder.exists()

    full = tmp_path / "bin" / "pg_dump"
    full.parent.mkdir()
    script = """#!/bin/sh
        [ "$1" = --version ] && { echo "pg_dump (PostgreSQL) 99.1"; exit; }
        echo "could not write: no space" >&2; exit 1
    """
    full.write_text(script.strip())
    full.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{full.parent}:{os.environ['PATH']}")
        with pytest.raises(BackupFailed, match="no space"):
            await source.create()
    assert (source.folder.exists(), source.keys.exists()) == (False, False)

    source.folder.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(backup, "MANIFEST", "no/such/manifest.json")
        with pytest.raises(BackupFailed, match=r"manifest\.json: No such file"):
            await source.create()
    assert list(source.folder.iterdir()) == [], "a folder that was there before stays"
    await source.create()
    assert await source.verify() == []


async def test_a_database_named_by_several_hosts_is_backed_up(source: Source) -> None:
    login, at, server = urlsplit(source.url).netloc.rpartition("@")
    hosts = urlsplit(source.url)._replace(netloc=f"{login}{at}{server},{server}").geturl()
    settings = source.settings.model_copy(update={"database_url": hosts})
    manifest = await backup.create([service], settings, source.folder, source.keys, hashes=False)
    assert manifest.position == 40


async def test_a_place_that_cannot_be_written_to_is_named(source: Source, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"file.*: (Not a directory|File exists)"):
        await backup.create([service], source.settings, source.folder, tmp_path / "file" / "persons.keys")
    assert not source.folder.exists()


async def test_the_commands(source: Source, postgres_server: PostgresServer) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {"DATABASE_URL": source.url, "FORECOURT_DATA": str(source.settings.forecourt_data)}
        return subprocess.run(
            [sys.executable, "-m", "forecourt.cli", "backup", *arguments],
            env={**os.environ, **variables, "AMQP_URI": ""},
            capture_output=True,
            text=True,
            check=False,
        )

    folder, keys = str(source.folder), ("--keys", str(source.keys))
    await migrate_all(source.settings)
    done = await asyncio.to_thread(run, "create", folder, *keys)
    assert (done.returncode, done.stdout) == (0, "backed up at position 40, 40 events in 1 categories\n"), (
        done.stderr
    )
    assert (await asyncio.to_thread(run, "verify", folder)).returncode == 2
    done = await asyncio.to_thread(run, "verify", folder, *keys)
    assert (done.returncode, done.stdout) == (0, "backup: ok\n"), done.stderr + done.stdout
    url = postgres_server.create_database()
    try:
        done = await asyncio.to_thread(run, "restore", folder, *keys, "--to", url)
        assert (done.returncode, done.stdout) == (0, "restored up to position 40\n"), done.stderr
    finally:
        postgres_server.drop_database(url)
    manifest = source.folder / "manifest.json"
    told = msgspec.json.decode(manifest.read_bytes())
    told["categories"]["customer"]["states"] = "0" * 64
    manifest.write_bytes(msgspec.json.encode(told))
    done = await asyncio.to_thread(run, "verify", folder, *keys)
    assert (done.returncode, done.stdout) == (1, "category customer: the same events lead to other states\n")
    left = await source.runtime.pool.fetchval(
        "SELECT count(*) FROM pg_database WHERE datname ~ '^forecourt_verify'"
    )
    assert left == 0
    assert str(urlsplit(source.url).password) not in done.stderr


async def migrate_all(settings: Settings) -> None:
    """The tables of all services, as on a platform."""
    from forecourt.discovery import find_services

    await migrate(find_services(), settings)


LEADS = "states of category lead: no installed service folds them"


async def test_what_no_installed_service_folds_is_said_and_does_not_pass(source: Source) -> None:
    """As in a cluster, where each image holds one service: a backup of which a part was verified is not ok."""
    await source.add_a_lead()
    command = (str(source.folder), "--keys", str(source.keys))
    done = await asyncio.to_thread(customer_alone, source, "create", *command)
    assert done.returncode == 0, done.stderr
    assert "WARNING: no installed service folds the categories lead: " in done.stdout
    done = await asyncio.to_thread(customer_alone, source, "verify", *command)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, f"not compared: {LEADS}"), done.stderr
    assert "--partly" in done.stdout
    done = await asyncio.to_thread(customer_alone, source, "verify", *command, "--partly")
    said = f"not compared: {LEADS}\nbackup: ok, but for what was not compared\n"
    assert (done.returncode, done.stdout) == (0, said), done.stderr

    # A service with which the backup was made is missing here.
    manifest = source.folder / "manifest.json"
    told = msgspec.json.decode(manifest.read_bytes())
    told["categories"]["lead"]["states"] = "0" * 64
    told["categories"]["customer"]["states"] = "0" * 64
    manifest.write_bytes(msgspec.json.encode(told))
    verdict = await source.verdict()
    assert verdict.not_compared == [LEADS]
    assert verdict.wrong == ["category customer: the same events lead to other states"]
    done = await asyncio.to_thread(customer_alone, source, "verify", *command, "--partly")
    assert done.returncode == 1


async def test_read_models_of_services_that_are_not_installed_and_of_other_releases_are_said(
    source: Source,
) -> None:
    await tables.migrate(source.runtime.pool, "sales", [])
    await source.runtime.pool.execute("UPDATE customer.projection SET version = 99 WHERE name = 'customer'")
    await source.create(read_models=True)
    verdict = await source.verdict()
    assert verdict.not_compared == ["read models of sales: the service is not installed"]
    assert verdict.left_out == ["read model customer.customer: is of another release"]


async def test_a_backup_without_hashes_says_what_is_not_compared(source: Source) -> None:
    await backup.create([service], source.settings, source.folder, source.keys, hashes=False)
    verdict = await source.verdict()
    assert verdict == backup.Verdict(left_out=["events and states: the backup was made without hashes"])


async def test_a_role_that_may_not_create_databases_is_told_so_in_one_line(source: Source) -> None:
    await source.create()
    role = f"nobody_{uuid4().hex}"
    await source.runtime.pool.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        server = urlsplit(source.url).netloc.rpartition("@")[2]
        url = urlsplit(source.url)._replace(netloc=f"{role}:x@{server}").geturl()
        nobody = source.settings.model_copy(update={"database_url": url})
        command = ("backup", "verify", str(source.folder), "--keys", str(source.keys))
        done = await asyncio.to_thread(forecourt, replace(source, settings=nobody), *command)
    finally:
        await source.runtime.pool.execute(f"DROP ROLE {role}")
    said = "database: InsufficientPrivilegeError: permission denied to create database\n"
    assert (done.returncode, done.stderr) == (1, said)


async def test_fingerprints_do_not_depend_on_how_many_streams_fit_into_memory(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = source.runtime.services[0]
    codecs = {"customer": part.codec}
    once = await fingerprints(source.runtime.store, [service], codecs, until=40)
    monkeypatch.setattr("forecourt.fingerprints.STREAMS_AT_ONCE", 3)
    assert await fingerprints(source.runtime.store, [service], codecs, until=40) == once
    earlier = await fingerprints(source.runtime.store, [service], codecs, until=39)
    assert (earlier["customer"].events, earlier["customer"].states != once["customer"].states) == (39, True)
    assert await fingerprints(MemoryEventStore(), [service], codecs, until=0) == {}
    assert canonical({"b": {2, 1}, "a": (1, None)}) == canonical({"a": (1, None), "b": {1, 2}})


async def test_keys_that_a_backup_brings_back_are_told_of_and_destroyed_again(
    source: Source, tmp_path: Path
) -> None:
    """By the log for those whom it knows to be erased, by a list for those erased after the backup."""
    runtime, commands = source.runtime, source.runtime.services[0].commands
    keys: Any = runtime.keys
    erased, later, living = [
        (await commands.execute(customer, RegisterCustomer(kind="prospect", name=NAME), by_amy())).id
        for _ in range(3)
    ]
    await commands.execute(customer, RequestErasure(customer_id=erased, reason="customer_request"), by_amy())
    await commands.execute(customer, ApproveErasure(customer_id=erased), replace(by_amy(), actor_id="bob"))
    shredded = RecordShredding(
        customer_id=erased, key_id=uuid4(), destroyed_at=NOW, fingerprint="f", proof="p"
    )
    await commands.execute(customer, shredded, by_amy())

    async def destroyed() -> set[UUID]:
        found = await keys.get([str(one) for one in (erased, later, living)])
        return {UUID(person) for person, entry in found.items() if isinstance(entry, Destroyed)}

    assert await destroyed() == set()
    done = await asyncio.to_thread(forecourt, source, "keys", "status")
    assert "1 erased persons have a key again" in done.stdout, done.stderr
    done = await asyncio.to_thread(forecourt, source, "keys", "destroy")
    assert done.stdout == "1 keys destroyed\n", done.stderr
    assert (await keys.get([str(erased)]))[str(erased)].at == NOW
    done = await asyncio.to_thread(forecourt, source, "keys", "status")
    assert "again" not in done.stdout

    listed = tmp_path / "erased.txt"
    listed.write_text(f"{later}\n{living} Wang\n")
    done = await asyncio.to_thread(forecourt, source, "keys", "destroy", str(listed))
    assert (done.returncode, "line 2" in done.stderr, "Wang" in done.stderr) == (2, True, False)
    event = {"type": "customer.CustomerRegistered", "stream": f"customer-{living}", "data": {}}
    listed.write_text(json.dumps(event))
    done = await asyncio.to_thread(forecourt, source, "keys", "destroy", str(listed))
    assert (done.returncode, await destroyed()) == (2, {erased})
    told = await asyncio.to_thread(
        forecourt, source, "events", "--type", "PersonalDataShredded", "--json", "--limit", "0"
    )
    listed.write_text(f"{told.stdout}\n{later}\n")
    done = await asyncio.to_thread(forecourt, source, "keys", "destroy", str(listed))
    assert (done.returncode, done.stdout) == (0, "1 keys destroyed\n"), done.stderr
    assert await destroyed() == {erased, later}


def forecourt(source: Source, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the command line on the source's database."""
    return run(source, "-m", "forecourt.cli", *arguments)


def customer_alone(source: Source, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A backup command where no other service is installed."""
    program = (
        "from forecourt import cli_backup; from customer.service import service;"
        "cli_backup.find_services = lambda: [service]; cli_backup.app()"
    )
    return run(source, "-c", program, *arguments)


def run(source: Source, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python, with the source's database in its environment."""
    settings = source.settings
    variables = {"DATABASE_URL": settings.database, "FORECOURT_DATA": str(settings.forecourt_data)}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **variables, "AMQP_URI": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
