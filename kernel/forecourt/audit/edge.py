"""What the gRPC edge notes down about the calls of one RPC."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from pydantic import BaseModel

from forecourt.audit.entries import (
    MAX_SUBJECTS,
    CommandRefused,
    CommandUnchanged,
    PersonalDataRead,
    ReadRefused,
    shortened,
)
from forecourt.audit.rejections import Kind, Rejections
from forecourt.audit.subjects import persons_in_answers, purpose_in_requests
from forecourt.audit.trail import AuditTrail, Origin
from forecourt.errors import Forbidden, LimitExceeded, NotFound, Unauthenticated

NOT_DECIDED = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)
"""Statuses of calls of which nobody knows, or will ever know, what became of them: they are no refusals."""


@dataclass(frozen=True)
class Audit:
    """Where the edge of a process writes entries to."""

    trail: AuditTrail
    rejections: Rejections

    @classmethod
    def to(cls, trail: AuditTrail) -> "Audit":
        """The audit on a trail."""
        return cls(trail, Rejections(trail))

    async def close(self) -> None:
        """Store what is counted and what waits."""
        await self.rejections.close()
        await self.trail.close()


class RpcAudit:
    """The entries of one RPC. ``commands`` says whether it is to change something."""

    def __init__(self, audit: Audit, name: str, method: MethodDescriptor, *, commands: bool) -> None:
        self._audit = audit
        self._name = name
        self._commands = commands
        self.persons = persons_in_answers(method)
        """Whose personal data an answer holds; None where it can hold none."""
        self._purpose = purpose_in_requests(method)

    async def read(self, identity: Any, origin: Origin, model: BaseModel | None, answer: Message) -> None:
        """Note whose personal data an answer holds. Raises `forecourt.audit.trail.AuditUnavailable`."""
        if self.persons is None or not (subjects := self.persons(answer, model)):
            return
        entry = PersonalDataRead(
            rpc=self._name,
            subjects=tuple(subjects[:MAX_SUBJECTS]),
            subject_count=len(subjects),
            purpose=getattr(model, self._purpose) if self._purpose else "",
            **_scope(identity),
        )
        await self._audit.trail.record(entry, _filed(identity, origin))

    async def unchanged(self, identity: Any, origin: Origin, subject: UUID) -> None:
        """Note a command that changed nothing. Raises `forecourt.audit.trail.AuditUnavailable`."""
        entry = CommandUnchanged(rpc=self._name, subjects=(subject,), **_scope(identity))
        await self._audit.trail.record(entry, _filed(identity, origin))

    async def refused(
        self,
        identity: Any,
        origin: Origin,
        error: Exception,
        code: grpc.StatusCode,
        slug: str,
        subjects: Sequence[UUID] = (),
    ) -> None:
        """Note a refusal, where it is one. ``identity`` is None where there is none that can be believed.

        Raises `forecourt.audit.trail.AuditUnavailable`.
        """
        if code in NOT_DECIDED:
            return
        if identity is None or isinstance(error, LimitExceeded | Unauthenticated):
            kind = Kind(self._name, code.name, slug, origin.actor_id, origin.dealer_id)
            await self._audit.rejections.note(kind)
            return
        if not self._commands and not self._is_probe(error):
            return
        cls = CommandRefused if self._commands else ReadRefused
        named = tuple(subjects[:MAX_SUBJECTS])
        entry = cls(rpc=self._name, subjects=named, code=code.name, slug=slug, **_scope(identity))
        await self._audit.trail.record(entry, _filed(identity, origin))

    def _is_probe(self, error: Exception) -> bool:
        """Whether a refused query may be somebody trying what there is to see."""
        return isinstance(error, Forbidden) or (self.persons is not None and isinstance(error, NotFound))


def _filed(identity: Any, origin: Origin) -> Origin:
    """Whom an entry belongs to: the store that was acted for, where the token is for no other.

    Whoever sees several stores may have named or read somebody of another one, which is no matter of this one's
    auditors: such an entry is the head office's.
    """
    dealer = origin.dealer_id if identity.dealers == (origin.dealer_id,) else ""
    brand = origin.brand if identity.brands == (origin.brand,) else ""
    return replace(origin, dealer_id=dealer, brand=brand)


def _scope(identity: Any) -> dict[str, Any]:
    return {
        "roles": shortened(sorted(identity.roles)),
        "dealers": shortened(identity.dealers),
        "brands": shortened(identity.brands),
    }
