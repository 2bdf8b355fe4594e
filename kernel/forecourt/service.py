"""What a service is made of: one value that its composition root declares and every role starts from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from forecourt.deciders import Decider
from forecourt.events import ForeignEvent
from forecourt.projections.projection import Projection, UndeclaredOwner
from forecourt.registry import Registry, build_registry


@dataclass(frozen=True)
class Service:
    """A service: its name (underscores), aggregates, the foreign events it reads, read models and edges.

    ``apis`` are `forecourt.rpc.binding.Api` tables; ``workers`` are import paths (``package.module:Class``) of
    nameko service classes, imported by the ``work`` role only. ``http`` are routes for callbacks of providers,
    served beside ``/metrics`` by the ``serve`` role: (path, ``async def (request: web.Request, call: Call)``), with
    the `forecourt.rpc.binding.Call` of the actor ``system:http``. ``person_field`` is the field in which events of any
    service name a person of this one.
    """

    name: str
    deciders: Sequence[Decider[Any]]
    foreign: Sequence[type[ForeignEvent]] = ()
    projections: Sequence[Projection[Any]] = ()
    apis: Sequence[Any] = ()
    workers: Sequence[str] = ()
    http: Sequence[Any] = ()
    settings: type[Any] | None = None
    person_field: str = ""

    def __post_init__(self) -> None:
        """Raises `UndeclaredOwner`: what nobody is said to own would be seen by everybody."""
        for projection in self.projections:
            if projection.owner is None:
                raise UndeclaredOwner(projection)

    @cached_property
    def registry(self) -> Registry:
        """All events that the service knows, checked."""
        return build_registry(
            self.name,
            [(decider.category, decider.events) for decider in self.deciders],
            self.foreign,
            [step for decider in self.deciders for step in decider.upcasters],
        )

    @property
    def categories(self) -> frozenset[str]:
        """The categories of the streams that this service writes."""
        return frozenset(decider.category for decider in self.deciders)
