"""``forecourt events``: pages, filters, follows; on both kinds of store, through the port; personal fields masked."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from customer.customer import ChangeCategory, RegisterCustomer, customer
from customer.service import service
from forecourt import browsing
from forecourt.browsing import MASK, Display, Filter, masked
from forecourt.codec import Codec
from forecourt.command_handler import CommandHandler
from forecourt.config import Settings, load_from
from forecourt.deciders import Context
from forecourt.errors import InvalidInput
from forecourt.eventstore import open_store
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.privacy.keys import MemoryKeys
from forecourt.runtime import Runtime, migrate
from forecourt.testing.eventstore_servers import StandInServer
from forecourt.testing.given import NOW

NAME = "王伟"


def by(actor: str, dealer: str = "D001", minutes: int = 0) -> Context:
    """A call of somebody, some minutes after noon."""
    now = NOW + timedelta(minutes=minutes)
    return Context(now, uuid4(), uuid4(), actor_id=actor, dealer_id=dealer, brand="hongtong")


async def fill(commands: CommandHandler) -> UUID:
    """Three customers, the first of whom changes category."""
    register = RegisterCustomer(kind="prospect", name=NAME)
    first = await commands.execute(customer, register, by("amy"))
    await commands.execute(customer, register, by("bob", "D002", 1))
    await commands.execute(customer, register, by("amy", "D001", 2))
    change = ChangeCategory(customer_id=first.id, category="buyer")
    await commands.execute(customer, change, by("bob", "D001", 3))
    return UUID(str(first.id))


async def test_filters_pages_and_masks() -> None:
    store, keys = MemoryEventStore(), MemoryKeys()
    first = await fill(CommandHandler(store, Codec(service.registry, keys)))

    async def sequences(wanted: Filter) -> list[int]:
        return [event.position async for event in browsing.matching(store, wanted)]

    assert await sequences(Filter()) == [1, 2, 3, 4]
    assert await sequences(Filter(after=2)) == [3, 4]
    assert await sequences(Filter(type="CustomerRegistered")) == [1, 2, 3]
    assert await sequences(Filter(type="customer.CategoryChanged")) == [4]
    assert await sequences(Filter(type="stomer.CategoryChanged")) == []
    assert await sequences(Filter(stream=f"customer-{first}")) == [1, 4]
    assert await sequences(Filter(category="order")) == []
    assert await sequences(Filter(dealer="D002")) == [2]
    assert await sequences(Filter(actor="bob", category="customer")) == [2, 4]
    times = Filter(since=NOW + timedelta(minutes=1), until=NOW + timedelta(minutes=3))
    assert await sequences(times) == [2, 3]
    assert [event.position for event in await browsing.last(store, Filter(actor="amy"), 1)] == [3]
    with pytest.raises(InvalidInput, match="until"):
        Filter(since=NOW, until=NOW)
    for stream in ("customer", "customer-1", f"-{first}"):
        with pytest.raises(InvalidInput, match="stream: must be"):
            Filter(stream=stream)
    with pytest.raises(InvalidInput, match="category"):
        Filter(stream=f"customer-{first}", category="order")
    assert browsing.unknown([service], Filter(type="CustomerRegistered", category="customer")) == []
    assert len(browsing.unknown([service], Filter(type="CustomerRegisterd", category="custmer"))) == 2

    (event, *_) = await browsing.last(store, Filter(), 4)
    shown = await Display([service]).record(event)
    assert (shown["data"]["name"], shown["data"]["kind"]) == (MASK, "prospect")
    assert (await Display([service], keys).data(event))["name"] == NAME
    assert await Display([]).data(event) == MASK
    # Written before anything was encrypted: masked all the same.
    plain = MemoryEventStore()
    await fill(CommandHandler(plain, Codec(service.registry)))
    (event, *_) = await browsing.last(plain, Filter(), 4)
    assert NAME in event.data
    assert NAME not in json.dumps(masked(event, service.registry.personal(event)), ensure_ascii=False)


def events(variables: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "forecourt.cli", "events", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["postgresql", "eventstoredb"])
async def test_the_command_on_both_stores(kind: str, database_url: str, tmp_path: Path) -> None:
    variables = {"DATABASE_URL": database_url, "FORECOURT_DATA": str(tmp_path), "AMQP_URI": ""}
    said = await asyncio.to_thread(events, variables)
    assert (said.returncode, "forecourt migrate" in said.stderr) == (2, True), said.stderr
    server = StandInServer(tmp_path / "esdb") if kind == "eventstoredb" else None
    try:
        if server is not None:
            variables["EVENT_STORE_URL"] = str(server.url)
        settings = load_from(Settings, variables)
        await migrate([service], settings)
        runtime = await Runtime.open([service], settings)
        try:
            commands = runtime.services[0].commands
            await fill(commands)
            await _look_at(variables)
            await _follow(variables, commands)
        finally:
            await runtime.close()
    finally:
        if server is not None:
            server.kill()


async def _look_at(variables: dict[str, str]) -> None:
    page = await asyncio.to_thread(events, variables, "--limit", "2", "--data")
    assert page.returncode == 0, page.stderr
    assert NAME not in page.stdout
    *lines, go_on = page.stdout.splitlines()
    assert (len(lines), MASK in lines[1]) == (4, True)
    rest = await asyncio.to_thread(events, variables, "--after", go_on.rpartition(" ")[2], "--json")
    records = [json.loads(line) for line in rest.stdout.splitlines()]
    assert [record["type"] for record in records] == [
        "customer.CustomerRegistered",
        "customer.CategoryChanged",
    ]
    assert records[0]["data"]["name"] == MASK
    clear = await asyncio.to_thread(
        events, variables, "--type", "CustomerRegistered", "--json", "--show-personal", "a test"
    )
    assert json.loads(clear.stdout.splitlines()[0])["data"]["name"] == NAME, clear.stderr
    assert "a test" in clear.stderr
    await _is_noted(variables, records[0]["stream"].partition("-")[2])
    misspelt = await asyncio.to_thread(events, variables, "--type", "CustomerRegisterd")
    assert (misspelt.returncode, misspelt.stdout) == (0, "")
    assert "no installed service has events of type CustomerRegisterd" in misspelt.stderr
    for option, wrong in (("--since", "tomorrow"), ("--correlation", "1"), ("--last", "0")):
        said = await asyncio.to_thread(events, variables, option, wrong)
        assert (said.returncode, option in said.stderr) == (2, True), said.stderr
    production = variables | {"FORECOURT_ENV": "production"}
    refused = await asyncio.to_thread(events, production, "--show-personal", "curious")
    assert (refused.returncode, refused.stdout) == (2, "")


async def _is_noted(variables: dict[str, str], customer_id: str) -> None:
    """Whose personal fields were shown, by whom and what for. Masked data, and lines alone, show nobody's."""
    for options in ((), ("--last", "5", "--data"), ("--last", "5", "--show-personal", "lines")):
        assert (await asyncio.to_thread(events, variables, *options)).returncode == 0
    shown = await asyncio.to_thread(events, variables, "--last", "5", "--data", "--show-personal", "again")
    assert NAME in shown.stdout
    noted = await asyncio.to_thread(events, variables, "--type", "PersonalDataRead", "--json")
    entries = [json.loads(line) for line in noted.stdout.splitlines()]
    assert all(entry["actor_id"].startswith("operator:") for entry in entries)
    data = [entry["data"] for entry in entries]
    assert [entry["purpose"] for entry in data] == ["a test", "again"]
    for entry in data:
        assert (entry["rpc"], entry["roles"]) == ("forecourt events", ["operator"])
        assert entry["subject_count"] == len(entry["subjects"])
        assert customer_id in entry["subjects"]


async def _follow(variables: dict[str, str], commands: CommandHandler) -> None:
    """What is recorded from now on, until told to stop."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "forecourt.cli", "events"),
        *("--follow", "--json", "--last", "1", "--category", "customer"),
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        line = await asyncio.wait_for(child.stdout.readline(), 30)
        assert json.loads(line)["type"] == "customer.CategoryChanged"
        for number in range(2):
            register = RegisterCustomer(kind="prospect", name=NAME)
            await commands.execute(customer, register, by("zoe", minutes=number))
            line = await asyncio.wait_for(child.stdout.readline(), 30)
            assert json.loads(line)["actor_id"] == "zoe"
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 20) == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_memory_is_bounded_by_the_page() -> None:
    """Closing early closes the reader of the store too."""
    store = await open_store("memory://")
    await fill(CommandHandler(store, Codec(service.registry)))
    found = browsing.matching(store, Filter(), follow=True)
    assert (await anext(found)).position == 1
    await found.aclose()
    await store.close()
