"""The conformance suite of the event store's port. An adapter's tests are a subclass that starts a server::

    class TestMemoryEventStore(EventStoreSuite):
        @classmethod
        def start(cls, request):
            return nullcontext(MemoryServer())

Nothing assumes that a store is empty: every test has categories of its own and starts from the present head.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager

import pytest
import pytest_asyncio

from forecourt.eventstore.port import EventStore
from forecourt.testing.eventstore_cases_append import AppendCases
from forecourt.testing.eventstore_cases_concurrency import ConcurrencyCases
from forecourt.testing.eventstore_cases_read import ReadCases
from forecourt.testing.eventstore_cases_subscribe import SubscribeCases
from forecourt.testing.eventstore_servers import EventStoreServer


class EventStoreSuite(AppendCases, ReadCases, SubscribeCases, ConcurrencyCases, ABC):
    """All cases. Subclasses implement `start`; their names begin with ``Test``."""

    @classmethod
    @abstractmethod
    def start(cls, request: pytest.FixtureRequest) -> AbstractContextManager[EventStoreServer]:
        """A server for all tests of the class; ``request.getfixturevalue`` gives further fixtures."""

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, request: pytest.FixtureRequest) -> Iterator[EventStoreServer]:
        """The server."""
        with cls.start(request) as server:
            yield server

    @pytest_asyncio.fixture
    async def store(self, server: EventStoreServer) -> AsyncIterator[EventStore]:
        """A client of the server."""
        store = await server.open()
        yield store
        await store.close()
