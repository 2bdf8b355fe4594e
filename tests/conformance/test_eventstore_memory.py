"""The event store's conformance suite on the memory adapter."""

from contextlib import AbstractContextManager, nullcontext

import pytest

from forecourt.testing.eventstore_servers import EventStoreServer, MemoryServer
from forecourt.testing.eventstore_suite import EventStoreSuite


class TestMemoryEventStore(EventStoreSuite):
    @classmethod
    def start(cls, request: pytest.FixtureRequest) -> AbstractContextManager[EventStoreServer]:
        return nullcontext(MemoryServer())
