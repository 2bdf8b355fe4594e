"""Separation of duties: nobody approves what they submitted.

Which command needs a second pair of eyes is data of its decider: the command, and the events whose actor must not be
the one who gives it::

    order.duties.four_eyes(ApproveOutbound, OutboundNotified)
    order.duties.four_eyes(WriteOffBalance, OrderPlaced, PaymentReceived, ever=True)

The actors are those of the envelopes, which no caller can choose. Of several events of a kind the latest counts: what
was asked for anew may be approved by who asked for it the last time, but not this time. With ``ever`` all of them
count.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from forecourt.errors import Forbidden
from forecourt.registry import RegistryError

Actors = Mapping[str, tuple[str, ...]]
"""Who caused events of the kinds that a rule is about, by the event's name: each once, who did so last at the end."""

NOBODY: Actors = {}


class SelfApproval(Forbidden):
    """Nobody approves what they submitted themselves."""


@dataclass(frozen=True)
class FourEyes:
    """Who caused the latest of any of ``events``, or one of them ``ever``, must be another."""

    events: tuple[type[Any], ...]
    ever: bool = False


class Duties:
    """The four-eyes rules of one decider, over the commands that it ``decides`` and the events that it ``evolves``."""

    def __init__(self, decides: Mapping[type[Any], object], evolves: Mapping[type[Any], object]) -> None:
        self._decides = decides
        self._evolves = evolves
        self._rules: dict[type[Any], FourEyes] = {}
        self._watched: set[type[Any]] = set()

    @property
    def rules(self) -> Mapping[type[Any], FourEyes]:
        """The rules, by command."""
        return self._rules

    def four_eyes(self, command: type[Any], *events: type[Any], ever: bool = False) -> None:
        """``command`` may not be given by whoever caused the latest of any of ``events``, or one of them ``ever``.

        Raises `RegistryError` for a command or an event that is not the decider's, and for a second rule for a command.
        """
        if command not in self._decides:
            raise RegistryError(f"{command.__qualname__}: has a four-eyes rule, but is not decided here")
        if command in self._rules:
            raise RegistryError(f"{command.__qualname__}: has two four-eyes rules")
        if not events:
            raise RegistryError(f"{command.__qualname__}: its four-eyes rule names no event")
        for event in events:
            if event not in self._evolves:
                raise RegistryError(
                    f"{command.__qualname__}: {event.__qualname__} is no event of this aggregate"
                )
        self._rules[command] = FourEyes(events, ever)
        self._watched.update(events)

    def after(self, actors: Actors, happened: Iterable[Any], actor_id: str) -> Actors:
        """The actors after events that ``actor_id`` caused."""
        if not self._watched:
            return actors
        names = {event.event_name for event in happened if type(event) in self._watched}
        if not names:
            return actors
        caused = {
            name: (*(one for one in actors.get(name, ()) if one != actor_id), actor_id) for name in names
        }
        return {**actors, **caused}

    def check(self, command: Any, actor_id: str, actors: Actors) -> None:
        """Raise `SelfApproval` where the command needs another person than ``actor_id``, who may be unknown."""
        rule = self._rules.get(type(command))
        if rule is None:
            return
        for event in rule.events:
            submitters = actors.get(event.event_name, ())
            if submitters and (not actor_id or actor_id in (submitters if rule.ever else submitters[-1:])):
                raise SelfApproval("somebody else than who submitted it must do this")
