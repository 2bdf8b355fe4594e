"""The event store's conformance suite on PostgreSQL."""

from contextlib import AbstractContextManager

import pytest

from forecourt.testing.eventstore_servers import EventStoreServer, postgres_server
from forecourt.testing.eventstore_suite import EventStoreSuite


@pytest.mark.integration
class TestPostgresEventStore(EventStoreSuite):
    @classmethod
    def start(cls, request: pytest.FixtureRequest) -> AbstractContextManager[EventStoreServer]:
        return postgres_server()
