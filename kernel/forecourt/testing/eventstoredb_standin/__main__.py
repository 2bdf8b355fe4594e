"""Run the stand-in: prints ``listening on HOST:PORT`` when it is ready, stops on SIGTERM or SIGINT."""

import argparse
import asyncio
import signal
from pathlib import Path

from forecourt.testing.eventstoredb_standin.log import EventLog
from forecourt.testing.eventstoredb_standin.server import Faults, start_server

STOP_GRACE = 0.5
"""Seconds that calls under way have to end when the server stops; subscriptions never end by themselves."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m forecourt.testing.eventstoredb_standin", description=__doc__
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--data", type=Path, help="file that keeps the events; without it they are lost at the end"
    )
    parser.add_argument("--max-append-size", type=int, default=1024 * 1024, metavar="BYTES")
    parser.add_argument(
        "--no-deduplication", action="store_true", help="answer a repeated append with a conflict"
    )
    parser.add_argument(
        "--lose-replies", type=int, default=0, metavar="N", help="break off the first N appends"
    )
    asyncio.run(_serve(parser.parse_args()))


async def _serve(arguments: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    log = EventLog(arguments.data, deduplicate=not arguments.no_deduplication)
    server = await start_server(
        log,
        arguments.host,
        arguments.port,
        max_append_size=arguments.max_append_size,
        faults=Faults(lose_replies=arguments.lose_replies),
    )
    print(f"listening on {arguments.host}:{arguments.port}", flush=True)
    await stopping.wait()
    await server.stop(STOP_GRACE)
    log.close()


if __name__ == "__main__":
    main()
