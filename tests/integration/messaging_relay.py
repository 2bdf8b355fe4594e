"""A relay process for the messaging tests: ``python messaging_relay.py NAME SCHEMA``."""

import asyncio
import signal
import sys

import asyncpg

from forecourt import logs
from forecourt.config import Settings, load
from forecourt.eventstore.postgres import PostgresEventStore
from forecourt.messaging.relay import Relay


async def main(name: str, schema: str) -> None:
    """Relay until SIGTERM."""
    logs.configure(process=f"{name}/relay")
    settings = load(Settings)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with asyncpg.create_pool(settings.database, min_size=1, max_size=5) as pool:
        store = PostgresEventStore(pool, schema=schema)
        await Relay(name=name, store=store, pool=pool, amqp_uri=settings.broker).run(stop)
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
