"""What the gRPC edge notes down about the calls of one RPC."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from pydantic import BaseModel

from forecourt.audit.damage import DamageReport
from forecourt.audit.entries import (
    MAX_SUBJECTS,
    CommandRefused,
    CommandUnchanged,
    PartsRefused,
    PersonalDataRead,
    ReadRefused,
    naming,
    shortened,
)
from forecourt.audit.parts import PartsOfCall, Why
from forecourt.audit.rejections import Kind, Rejections
from forecourt.audit.subjects import persons_in_answers, persons_in_requests, purpose_in_requests
from forecourt.audit.trail import AuditTrail, AuditUnavailable, Origin
from forecourt.deciders import Context
from forecourt.errors import Forbidden, LimitExceeded, NotFound, Unauthenticated
from forecourt.rpc.errors import NOT_DECIDED


@dataclass(frozen=True)
class Audit:
    """Where the edge of a process writes entries to."""

    trail: AuditTrail
    rejections: Rejections
    damage: DamageReport

    @classmethod
    def to(cls, trail: AuditTrail) -> "Audit":
        """The audit on a trail."""
        return cls(trail, Rejections(trail), DamageReport(trail))

    async def close(self) -> None:
        """Store what is counted and what waits."""
        await self.rejections.close()
        await self.trail.close()


class CallOfParts(Protocol):
    """The part of `forecourt.rpc.calls.Call` that says what was refused on the way, and whose call it is."""

    identity: Any
    parts: PartsOfCall

    @property
    def origin(self) -> Origin:
        """Whose call it is."""


class NotingParts:
    """Notes what a call refused on its way, however it ends; waits for that only where there is an answer to give.

    Raises `forecourt.audit.trail.AuditUnavailable` at the end, unless the caller has gone.
    """

    __slots__ = ("_call", "_name", "_trail")

    def __init__(self, trail: AuditTrail, name: str, call: CallOfParts) -> None:
        self._trail = trail
        self._name = name
        self._call = call

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        found = self._call.parts.entries(error)
        try:
            for stored in [self._submitted(*one) for one in found]:
                if error is None:
                    await stored
        except AuditUnavailable:
            if error is None or isinstance(error, Exception):
                raise

    def _submitted(self, why: Why, count: int, subjects: tuple[UUID, ...]) -> "asyncio.Future[None]":
        identity = self._call.identity
        entry = PartsRefused(
            rpc=self._name,
            subjects=subjects,
            count=count,
            code=why.code,
            slug=why.slug,
            field=why.field,
            **_scope(identity),
        )
        by = replace(self._call.origin, actor_id=why.actor_id, dealer_id=why.dealer_id, brand=why.brand)
        return self._trail.submit(entry, _filed(identity, by))


class RpcAudit:
    """The entries of one RPC. ``commands`` says whether it is to change something."""

    def __init__(self, audit: Audit, name: str, method: MethodDescriptor, *, commands: bool) -> None:
        self._audit = audit
        self._name = name
        self._commands = commands
        self.persons = persons_in_answers(method)
        """Whose personal data an answer holds; None where it can hold none."""
        self._purpose = purpose_in_requests(method)
        self._named = persons_in_requests(method) if commands else None

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

    def noting(self, call: CallOfParts) -> "NotingParts":
        """Note, when the block ends, what the call refused on its way."""
        return NotingParts(self._audit.trail, self._name, call)

    def about(self, context: Context, model: BaseModel, aggregate_id: UUID | None) -> Context:
        """The context of a call's commands, which tells the audit of the persons that the request names.

        Of ``aggregate_id`` their events tell by themselves.
        """
        if self._named is None:
            return context
        persons = [person for person in self._named(model) if person != aggregate_id]
        return replace(context, metadata=naming(context.metadata, persons)) if persons else context

    async def unchanged(
        self, identity: Any, origin: Origin, subject: UUID, model: BaseModel | None = None
    ) -> None:
        """Note a command that changed nothing. Raises `forecourt.audit.trail.AuditUnavailable`."""
        named = [] if self._named is None or model is None else self._named(model)
        subjects = tuple(dict.fromkeys((subject, *named)))
        entry = CommandUnchanged(rpc=self._name, subjects=subjects, **_scope(identity))
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
            by = origin if identity is None else _filed(identity, origin)
            kind = Kind(self._name, code.name, slug, by.actor_id, by.dealer_id)
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
    auditors: such an entry is the head office's. What somebody of one store with several brands did may concern each
    of them, and has none: it is the whole store's.
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
