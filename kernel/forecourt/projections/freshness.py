"""How fresh read models are, and waiting until one is fresh enough: read what you wrote.

Every moved checkpoint is announced (`forecourt.projections.checkpoint`). One connection of the process
listens; without it, while it reconnects, waiting readers look by themselves.
"""

import asyncio
from typing import Any

from forecourt import logs
from forecourt.connections import keep_listening
from forecourt.errors import Unavailable
from forecourt.projections.checkpoint import channel
from forecourt.projections.projection import Projection
from forecourt.waiting import cancel_and_wait, wait

log = logs.get(__name__)

LOOK_SECONDS = 0.05
"""How often a waiting reader looks by itself while nobody listens for it."""

LISTENING_LOOK_SECONDS = 1.0
"""The same while a connection listens: only a lost notification needs it."""


class NotYetThere(Unavailable):
    """The read model has not taken in the wanted position in time; the same call may succeed later."""


class Positions:
    """The positions of a service's read models, as far as they are known in this process."""

    def __init__(self, pool: Any, schema: str) -> None:
        self._pool = pool
        self._schema = schema
        self._known: dict[str, int] = {}
        self._news = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        self._listening = False

    async def wait_for(self, projection: Projection[Any], position: int, timeout: float) -> None:
        """Return when ``projection`` is folded up to ``position``. Raises `NotYetThere` after ``timeout`` seconds."""
        name = f"{projection.name}.{projection.version}"
        if self._known.get(name, 0) >= position:
            return
        self._listen()
        try:
            async with asyncio.timeout(timeout):
                told = False
                while self._known.get(name, 0) < position:
                    # Both taken before the look: what is announced meanwhile must not be slept over.
                    news, listening = self._news, self._listening
                    if not told and await self.present(projection) >= position:
                        return
                    told = (
                        await wait(news, LISTENING_LOOK_SECONDS if listening else LOOK_SECONDS) and listening
                    )
        except TimeoutError:
            raise NotYetThere(
                f"read model {projection.name}: has not reached position {position} within {timeout:g} s",
                fields={"after-position": f"the read model has not reached {position} yet"},
            ) from None

    async def present(self, projection: Projection[Any]) -> int:
        """The position of a read model that may be read, by the database; 0 when there is none."""
        found = await self._pool.fetchval(
            f'SELECT max(position) FROM "{self._schema}".projection'
            " WHERE name = $1 AND version = $2 AND state <> 'building' AND relation = $3",
            projection.name,
            projection.version,
            f"{projection.name}_v{projection.version}",
        )
        position = int(found or 0)
        self._learn(f"{projection.name}.{projection.version}", position)
        return position

    async def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            await cancel_and_wait(self._listener)
            self._listener = None

    def _learn(self, name: str, position: int) -> None:
        self._known[name] = max(position, self._known.get(name, 0))

    def _listen(self) -> None:
        if self._listener is None or self._listener.done():
            what = f"nobody listens for news of the read models of {self._schema}"
            self._listener = asyncio.create_task(
                keep_listening(self._listen_once, what, seconds=LISTENING_LOOK_SECONDS, between=self._deaf)
            )

    def _deaf(self) -> None:
        """Readers look by themselves until somebody listens again."""
        self._listening = False

    async def _listen_once(self) -> None:
        async with self._pool.acquire() as connection:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(channel(self._schema), self._announced)
            self._listening = True
            try:
                await lost.wait()
            finally:
                if not connection.is_closed():
                    await connection.remove_listener(channel(self._schema), self._announced)

    def _announced(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        position, *names = str(payload).split()
        for name in names:
            self._learn(name, int(position))
        self._news.set()
        self._news = asyncio.Event()
