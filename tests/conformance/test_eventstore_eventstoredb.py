"""The event store's conformance suite on EventStoreDB: what EVENTSTOREDB_URI names, else the stand-in."""

from contextlib import AbstractContextManager

import pytest

from forecourt.testing.eventstore_servers import EventStoreServer, eventstoredb_server
from forecourt.testing.eventstore_suite import EventStoreSuite


class TestEventStoreDBStore(EventStoreSuite):
    @classmethod
    def start(cls, request: pytest.FixtureRequest) -> AbstractContextManager[EventStoreServer]:
        return eventstoredb_server()
