"""The event store: a port and its adapters, chosen by URL."""

from urllib.parse import parse_qs, urlencode, urlsplit

from forecourt.connections import STATEMENT_SECONDS
from forecourt.errors import InvalidInput
from forecourt.eventstore.port import EventStore

# Adapters are imported where they are opened: a process on PostgreSQL never loads the gRPC client.


async def open_store(url: str, *, statement_seconds: float = STATEMENT_SECONDS) -> EventStore:
    """Open the event store that ``url`` names.

    ``postgres://…`` or ``postgresql://…`` (``?schema=name``, default ``events``; its tables are made by
    ``migrate()``), ``esdb://…`` or ``kurrentdb://…`` (also ``+discover``), or ``memory://`` for a new one.
    ``statement_seconds`` is how long PostgreSQL may take to answer; EventStoreDB has a time of its own.
    Raises `InvalidInput` for another URL, `StoreUnavailable` where the server does not answer.
    """
    scheme = urlsplit(url).scheme.partition("+")[0]
    if scheme in {"postgres", "postgresql"}:
        return await _open_postgres(url, statement_seconds)
    if scheme in {"esdb", "kurrentdb", "kdb"}:
        from forecourt.eventstore.eventstoredb import EventStoreDBStore

        return await EventStoreDBStore.open(url)
    if scheme == "memory":
        from forecourt.eventstore.memory import MemoryEventStore

        return MemoryEventStore()
    reason = "must start with postgres://, esdb://, kurrentdb:// or memory://"
    raise InvalidInput(f"event store URL: {reason}", fields={"url": reason})


async def _open_postgres(url: str, statement_seconds: float) -> EventStore:
    from forecourt.eventstore.postgres import PostgresEventStore

    # PostgreSQL's drivers refuse parameters that they do not know, so ours is taken out.
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    schema = query.pop("schema", ["events"])[-1]
    dsn = parts._replace(query=urlencode(query, doseq=True)).geturl()
    return await PostgresEventStore.open(dsn, schema=schema, statement_seconds=statement_seconds)
