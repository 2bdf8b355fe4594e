"""The port of providers: what the sender expects of whoever carries a message.

An answer says no more than what is certain. "Not sent" is certain only where the provider was never reached or
said so itself; everything between a request that left and an answer that was understood is "unknown".
"""

import re
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from notify.notification import Channel, FailureOutcome


@dataclass(frozen=True)
class Outgoing:
    """A message on its way. ``key`` is the same in every attempt; ``address`` is E.164 or an email address."""

    key: UUID
    address: str
    subject: str
    text: str
    html: str


@dataclass(frozen=True)
class Accepted:
    """The provider took the message, and calls it ``reference``."""

    reference: str


@dataclass(frozen=True)
class Failed:
    """The provider did not take the message, or nobody knows. ``code`` holds no personal value."""

    outcome: FailureOutcome
    code: str


Answer = Accepted | Failed


class Provider(Protocol):
    """Carries messages of one channel. Neither method raises for what the network or the provider does."""

    name: str
    channel: Channel

    repeats_safely: bool
    """Whether the same key sent again never leads to a second message."""

    can_find_out: bool
    """Whether `find_out` can do better than "unknown"."""

    async def send(self, message: Outgoing) -> Answer:
        """Hand a message over."""

    async def find_out(self, message: Outgoing) -> Answer:
        """What became of a message with an unknown outcome; ``withdrawn`` where it never will be sent."""


def code_of(text: object, prefix: str = "") -> str:
    """A code for events and metrics, out of a provider's own word: letters, digits and underscores only."""
    cleaned = re.sub(r"[^a-z0-9]+", "_", str(text).lower()).strip("_")[:40]
    return f"{prefix}{cleaned or 'unnamed'}"
