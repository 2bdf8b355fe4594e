"""Who may be written to, about what, and on which channel. Pure.

* **contract** and **safety** messages are owed to the customer: no objection stops them.
* **service** messages are sent unless the customer has withdrawn consent for the channel.
* **marketing** needs a consent that was given, for the channel, and not withdrawn since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from notify.notification import Category, Channel, Consent, SuppressReason

ConsentState = Literal["granted", "withdrawn", "silent"]
Objection = Literal["no_consent", "opted_out"]


@dataclass(frozen=True)
class Allowed:
    """The message may go out on ``channel`` to ``address``."""

    channel: Channel
    address: str
    consent: Consent


@dataclass(frozen=True)
class NotAllowed:
    """The message may not go out; ``channel`` is the one that was preferred."""

    channel: Channel
    reason: SuppressReason


def consent_for(category: Category, state: ConsentState) -> Consent | Objection:
    """Why a message of the category may be sent on a channel with that consent, or why not."""
    if category == "contract":
        return "contract"
    if category == "safety":
        return "safety"
    if state == "granted":
        return "granted"
    if state == "withdrawn":
        return "opted_out"
    return "service_default" if category == "service" else "no_consent"


def choose_channel(
    category: Category,
    channels: Sequence[Channel],
    addresses: dict[Channel, str],
    consents: dict[Channel, ConsentState],
) -> Allowed | NotAllowed:
    """The first of ``channels`` with an address and no objection. An objection outweighs no address."""
    refusal: NotAllowed | None = None
    for channel in channels:
        if not addresses.get(channel):
            continue
        answer = consent_for(category, consents.get(channel, "silent"))
        if answer == "no_consent" or answer == "opted_out":
            refusal = refusal or NotAllowed(channel, answer)
        else:
            return Allowed(channel, addresses[channel], answer)
    return refusal or NotAllowed(channels[0], "no_address")
