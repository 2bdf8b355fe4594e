"""A small service with handlers and a timer, run as a real worker process by the messaging tests.

``python messaging_worker.py``: its name (and so its queues and schema) comes from PROBE_SERVICE.
"""

import os
from uuid import UUID

from forecourt.worker import bridge

bridge.install()

import asyncio  # noqa: E402

import msgspec  # noqa: E402

from forecourt import logs  # noqa: E402
from forecourt.config import Settings, load  # noqa: E402
from forecourt.deciders import Command, Context, Decider  # noqa: E402
from forecourt.errors import InvalidInput, Refused  # noqa: E402
from forecourt.events import Event, ForeignEvent, Meta, Recorded  # noqa: E402
from forecourt.messaging.entrypoints import every, on_event  # noqa: E402
from forecourt.projections.projection import Projection, Unowned  # noqa: E402
from forecourt.projections.queries import ReadModels  # noqa: E402
from forecourt.service import Service  # noqa: E402
from forecourt.worker.dependencies import ClockProvider, Commands, Database  # noqa: E402
from forecourt.worker.runner import run_worker  # noqa: E402

NAME = os.environ.get("PROBE_SERVICE", "probe")


class Asked(ForeignEvent, type="shop.Asked", category="request"):
    """What the tests publish; ``mode`` says how the handler shall behave."""

    number: int
    mode: str


class Answered(Event, name="Answered", version=1):
    """What the handler appends in answer."""

    number: int


class Answer(Command, creates=True):
    """Answer a request."""

    answer_id: UUID
    number: int


class TooEarly(Refused):
    """The handler will not, this time."""


answer = Decider[int](service=NAME, category="answer", initial=0, key="answer_id")


@answer.decides
def _(state: int, command: Answer, context: Context) -> list[Event]:
    return [Answered(number=command.number)]


@answer.evolves
def _(state: int, event: Answered) -> int:
    return event.number


class RequestRow(msgspec.Struct, frozen=True):
    """A request."""

    request_id: UUID


requests = Projection(
    "request", version=1, row=RequestRow, key="request_id", owner=Unowned("nobody asks whose")
)


@requests.on(Asked)
def _(row: RequestRow | None, event: Asked, meta: Meta) -> RequestRow:
    return RequestRow(meta.stream_id)


class Reactions:
    """Writes a row for each event, in a table without any key: whatever is done twice shows."""

    name = NAME
    database = Database()
    commands = Commands()
    clock = ClockProvider()

    @on_event(Asked)
    async def react(self, event: Recorded[Asked]) -> None:
        """Do as the event says."""
        number, mode = event.event.number, event.event.mode
        await self.database.pool.execute(f'INSERT INTO "{NAME}".attempt VALUES ($1)', number)
        if mode == "invalid":
            raise InvalidInput("number: is odd", fields={"number": "is odd"})
        if mode == "read":
            await ReadModels(self.database.pool, NAME).wait_for(requests, event.meta.position, 0.1)
        if mode == "slow":
            await asyncio.sleep(1.0)
        if mode == "provider-timeout":
            raise TimeoutError("a person's name")
        await self.database.tx.execute(
            f'INSERT INTO "{NAME}".effect (number, stream, sequence) VALUES ($1, $2, $3)',
            number,
            event.meta.stream,
            event.meta.sequence,
        )
        if mode == "fail":
            raise TooEarly
        if mode == "fail-once":
            tried = await self.database.pool.fetchval(
                f'SELECT count(*) FROM "{NAME}".attempt WHERE number = $1', number
            )
            if tried < 2:
                raise TooEarly
        if mode == "command":
            await self.commands.execute(answer, Answer(answer_id=event.stream_id, number=number))

    @every(seconds=0.1)
    async def tick(self) -> None:
        """Note who ticks."""
        await self.database.pool.execute(f'INSERT INTO "{NAME}".tick VALUES ($1)', os.getpid())


service = Service(name=NAME, deciders=[answer], foreign=[Asked], workers=["__main__:Reactions"])

if __name__ == "__main__":
    logs.configure(process=f"{NAME}/work")
    run_worker(service, load(Settings))
