"""Faults on demand: what the sandbox does wrong, for how often and for whom."""

from typing import Literal

import msgspec

Kind = Literal["error", "busy", "timeout", "garbage", "drop", "refuse", "bounce", "no_receipt"]


class Fault(msgspec.Struct, kw_only=True):
    """A fault of one provider.

    ``error`` (HTTP 500), ``busy`` (503, SMTP 451), ``timeout`` (no answer), ``garbage`` (an answer that is none),
    ``drop`` (the connection is cut), ``refuse`` (for good), ``bounce`` (taken, but reported as undeliverable),
    ``no_receipt``. ``taken``: the message is taken all the same before the fault. ``times`` None: until removed.
    """

    provider: Literal["generic", "twilio", "smtp"]
    kind: Kind
    times: int | None = None
    to: str = ""
    taken: bool = False


class Faults:
    """The faults that are set at present."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def set(self, fault: Fault) -> None:
        """Set a fault."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Remove all."""
        self._faults.clear()

    @property
    def present(self) -> list[Fault]:
        """What is set."""
        return list(self._faults)

    def take(self, provider: str, to: str, *kinds: Kind) -> Fault | None:
        """The fault that this request meets, among ``kinds``; it is used up by one."""
        for fault in self._faults:
            if fault.provider == provider and fault.to in ("", to) and fault.kind in kinds:
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                return fault
        return None
