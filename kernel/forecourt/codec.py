"""Between typed events and stored records, a batch at a time.

Asynchronous because what protects personal fields needs keys, which are looked up once for a whole batch.
"""

from collections.abc import Sequence

from forecourt.events import AnyEvent, Event, Recorded
from forecourt.eventstore.port import StoredEvent
from forecourt.registry import Registry


class Codec:
    """Encodes new events and decodes stored ones."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    async def encode(self, stream: str, events: Sequence[Event]) -> list[str]:
        """The ``data`` of each event, as JSON text."""
        return [event.model_dump_json() for event in events]

    async def decode(self, batch: Sequence[StoredEvent]) -> list[Recorded[AnyEvent]]:
        """The typed events of a batch. Raises `forecourt.registry.UndecodableEvent`."""
        return self.registry.decode_all(batch)
