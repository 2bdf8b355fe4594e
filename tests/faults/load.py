"""A load of commands, as a client sends them that means every one: each has an id, and is sent until it is answered."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

import grpc

from forecourt.clock import monotonic
from forecourt.testing.probes import poll_async
from tests.e2e import stories
from tests.e2e.client import Client
from tests.e2e.house import SECONDS
from tests.faults.house import Fortress

ACTOR = "load"
DEALERS = 6
"""Stories told at once."""

PACE_SECONDS = 0.06
"""What a dealer waits between two commands, so that an outage of seconds does not mean thousands of them."""

AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True)
class Answer:
    """A command that was accepted, with what was sent and answered."""

    rpc: str
    command_id: str
    fields: dict[str, Any]
    id: str
    version: int
    position: int
    attempts: int


@dataclass
class Load:
    """The commands that are under way, and those that were accepted."""

    seller: Client
    manager: Client
    answers: list[Answer] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """How long each accepted command took its caller, with all attempts."""
    in_flight: int = 0
    retried: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Why commands were sent again."""
    stopping: bool = False

    async def do(self, rpc: str, /, **fields: Any) -> Any:
        """Run a command until it is answered, and keep the answer."""
        return await self._until_answered(self.seller, rpc, fields)

    async def approve(self, rpc: str, /, **fields: Any) -> Any:
        """Run a command as somebody else."""
        return await self._until_answered(self.manager, rpc, fields)

    async def _until_answered(self, client: Client, rpc: str, fields: dict[str, Any]) -> Any:
        command_id, attempts, end = str(uuid4()), 0, monotonic() + SECONDS
        await asyncio.sleep(PACE_SECONDS)
        self.in_flight += 1
        began = monotonic()
        try:
            while True:
                attempts += 1
                try:
                    answer = await client(rpc, metadata={"command-id": command_id}, seconds=10, **fields)
                    break
                except grpc.aio.AioRpcError as error:
                    if error.code() not in AGAIN or monotonic() > end:
                        raise AssertionError(f"{rpc}: {error.code().name}: {error.details()}") from error
                    self.retried += 1
                    self.reasons[f"{rpc}: {error.code().name}: {error.details()}"] += 1
                    await asyncio.sleep(0.1)
        finally:
            self.in_flight -= 1
        kept = Answer(rpc, command_id, fields, answer.id, answer.version, answer.position, attempts)
        self.answers.append(kept)
        self.seconds.append(monotonic() - began)
        return answer

    async def dealer(self, number: int) -> None:
        """Tell stories until the load is to stop; a story that was begun is told to its end."""
        for turn in count(number):
            if self.stopping:
                return
            customer_id = await stories.register(self.do, mobile=turn % 4 != 0, consents=turn % 5 != 0)
            vin = next(stories.VINS)
            if turn % 3 == 0:
                await stories.repair(self.do, self.approve, customer_id, vin)
            elif turn % 3 == 1:
                await stories.complain(self.do, customer_id, vin)
            else:
                await stories.receive_car(self.do, vin)
                await stories.sell(self.do, self.approve, customer_id, vin)

    async def accepted(self, more: int) -> None:
        """Wait until so many more commands were accepted."""
        target = len(self.answers) + more
        await poll_async(lambda: len(self.answers) >= target, SECONDS, what=f"{more} more accepted commands")

    async def hit(self, fault: Callable[[], Awaitable[object]]) -> None:
        """Let a fault happen while commands are under way, and the load go on after it."""
        await self.accepted(40)
        await poll_async(lambda: self.in_flight > 1, SECONDS, what="commands in flight")
        before = len(self.answers)
        await fault()
        await self.accepted(40)
        assert len(self.answers) > before


@asynccontextmanager
async def load(
    house: Fortress,
    seller: Client | None = None,
    manager: Client | None = None,
    *,
    dealers: int = DEALERS,
) -> AsyncIterator[Load]:
    """A load on the platform for as long as the context lasts; then its stories are told to their end.

    ``seller`` and ``manager`` are other clients than the usual ones, who call the first process that serves.
    """
    one = Load(seller or house.client(ACTOR), manager or house.client("manager"))
    async with asyncio.TaskGroup() as group:
        for number in range(dealers):
            group.create_task(one.dealer(number))
        try:
            yield one
        finally:
            one.stopping = True
