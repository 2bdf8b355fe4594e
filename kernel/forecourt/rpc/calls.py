"""What a call brings along: the metadata, checked, and who asks, as a `Context` for decisions.

Metadata: ``authorization``, ``command-id`` (idempotency key), ``expected-version``, ``after-position``,
``correlation-id``, ``causation-id``, ``dealer-id`` and ``brand`` (each one of the token's).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

from forecourt.access.identity import Identity, IdentityVerifier, Peer, no_peer
from forecourt.access.rates import RateLimiter
from forecourt.access.scope import ALL, UNRESTRICTED, scope_of, single
from forecourt.audit.entries import provenance, provenance_of_system
from forecourt.audit.parts import PartsOfCall
from forecourt.audit.trail import Origin
from forecourt.clock import Clock
from forecourt.command_handler import CommandHandler, Loaded, Outcome
from forecourt.deciders import Command, Context, Decider
from forecourt.errors import Forbidden, ForecourtError, InvalidInput, Unauthenticated
from forecourt.privacy.export import Export
from forecourt.privacy.keys import Hashes

_MAX_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class CallMetadata:
    """The checked metadata of one call."""

    identity: Identity
    context: Context
    expected: int | None
    after_position: int

    @property
    def origin(self) -> Origin:
        """Whose call it is, for the audit."""
        return origin_of(self.context)


class MetadataReader:
    """Checks the metadata of calls and makes contexts from it."""

    def __init__(self, identities: IdentityVerifier, clock: Clock, rates: RateLimiter | None = None) -> None:
        self._identities = identities
        self._clock = clock
        self._rates = rates or RateLimiter(0, 1)

    async def read(
        self, metadata: Iterable[tuple[str, Any]], *, writes: bool, rpc: str = "", peer: Peer = no_peer
    ) -> CallMetadata:
        """The call's metadata. A call that ``writes`` says for which dealer and brand, if it may for many.

        Raises `InvalidInput` naming the key, `Unauthenticated`, `Forbidden`, `forecourt.access.rates.RateExceeded`.
        """
        given = dict(metadata)
        authorization = given.get("authorization")
        identity = self._identities.known(authorization)
        if identity is None:
            identity = await self._identities.verify(authorization, peer)
        self._rates.take(identity.actor_id)
        command_id = _uuid(given, "command-id") or uuid4()
        context = Context(
            now=self._clock.now(),
            command_id=command_id,
            correlation_id=_uuid(given, "correlation-id") or command_id,
            causation_id=_uuid(given, "causation-id"),
            actor_id=identity.actor_id,
            dealer_id=_one_of(given, "dealer-id", identity.dealers, writes),
            brand=_one_of(given, "brand", identity.brands, writes),
            roles=identity.roles,
            metadata=provenance(rpc, identity.roles, identity.dealers, identity.brands),
            scope=scope_of(identity.dealers, identity.brands),
        )
        return CallMetadata(
            identity, context, _number(given, "expected-version"), _number(given, "after-position") or 0
        )

    async def caller(
        self, metadata: Iterable[tuple[str, Any]], peer: Peer, error: Exception
    ) -> tuple[Identity | None, Origin]:
        """Who made a call that ended with ``error``, as far as it can be told; never raises."""
        given = dict(metadata)
        correlation = UUID(correlation_of(given.items()))
        if isinstance(error, Unauthenticated):
            return None, Origin(correlation)
        authorization = given.get("authorization")
        try:
            identity = self._identities.known(authorization) or await self._identities.verify(
                authorization, peer
            )
        except Exception:  # noqa: BLE001  # it may be what ended the call: told already, and no end of its entry
            return None, Origin(correlation)
        dealer, brand = (
            _surely(given, key, allowed)
            for key, allowed in (("dealer-id", identity.dealers), ("brand", identity.brands))
        )
        return identity, Origin(correlation, identity.actor_id, dealer, brand)


def origin_of(context: Context) -> Origin:
    """Whose call it is, for the audit."""
    return Origin(
        context.correlation_id, context.actor_id, context.dealer_id, context.brand, context.causation_id
    )


def _surely(given: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    try:
        return _one_of(given, key, allowed, must=False)
    except ForecourtError:
        return ""


def system_metadata(clock: Clock, actor_id: str) -> CallMetadata:
    """The metadata of a call that no person makes, such as a provider's report."""
    command_id = uuid4()
    roles = frozenset({"system"})
    context = Context(
        now=clock.now(),
        command_id=command_id,
        correlation_id=command_id,
        actor_id=actor_id,
        roles=roles,
        metadata=provenance_of_system(actor_id),
    )
    return CallMetadata(Identity(actor_id, roles, (ALL,), (ALL,), math.inf), context, None, 0)


def correlation_of(metadata: Iterable[tuple[str, Any]]) -> str:
    """The correlation id to name in an error, also where the metadata is not valid."""
    for key, value in metadata:
        if key in ("correlation-id", "command-id"):
            try:
                return str(UUID(value))
            except (ValueError, AttributeError, TypeError):
                continue
    return str(uuid4())


def _uuid(given: Mapping[str, Any], key: str) -> UUID | None:
    value = given.get(key)
    if value is None:
        return None
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise _invalid(key, "must be a UUID") from None


def _number(given: Mapping[str, Any], key: str) -> int | None:
    value = given.get(key)
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and int(value[:20]) <= _MAX_NUMBER:
        return int(value[:20])
    raise _invalid(key, "must be a whole number, not negative")


def _one_of(given: Mapping[str, Any], key: str, allowed: tuple[str, ...], must: bool) -> str:
    """The dealer or brand that the caller acts for: the one named, else the only one of the token."""
    value = given.get(key)
    if value is None:
        if len(allowed) == 1 and allowed[0] != ALL:
            return allowed[0]
        if not must:
            return ""
        if not allowed:
            # What is nobody's would be seen by nobody but head office.
            raise Forbidden(f"{key}: the token is for none", fields={key: "the token is for none"})
        raise _invalid(key, "is missing; the token is for several, so name one")
    try:
        name = single(value if isinstance(value, str) else "")
    except ValueError as error:
        raise _invalid(key, str(error)) from None
    if name not in allowed and ALL not in allowed:
        raise Forbidden(
            f"{key}: the token is not for this one", fields={key: "the token is not for this one"}
        )
    return name


def _invalid(key: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{key}: {reason}", fields={key: reason})


class CallCommands:
    """Runs commands on behalf of one call: ids, actor, time and scope are the call's.

    What lies outside the scope is, for all methods, not there.
    """

    __slots__ = ("_context", "_handler", "_parts", "stored")

    def __init__(self, handler: CommandHandler, context: Context, parts: PartsOfCall) -> None:
        self._handler = handler
        self._context = context
        self._parts = parts
        self.stored = False
        """Whether any command of the call has events in the log."""

    async def execute(
        self, decider: Decider[Any], command: Command, *, label: str = "", expected: int | None = None
    ) -> Outcome:
        """Run ``command``; see `CommandHandler.execute` for what it raises.

        A call that runs several commands gives each its own ``label``: their ids are derived from it and
        the call's ``command-id``, so that a repeated call repeats nothing. Without one that id itself is used.
        """
        context = self._context.derived(label) if label else self._context
        return await self.execute_as(context, decider, command, expected=expected)

    async def execute_as(
        self, context: Context, decider: Decider[Any], command: Command, *, expected: int | None = None
    ) -> Outcome:
        """Run ``command`` under a context of the function's own making, for ids that are not the call's."""
        try:
            outcome = await self._handler.execute(decider, command, context, expected=expected)
        except ForecourtError as error:
            self._parts.refused(error, context, decider.id_of(command, context))
            raise
        self.stored = self.stored or not outcome.unchanged
        return outcome

    async def create_many(
        self,
        decider: Decider[Any],
        commands: Sequence[tuple[Command, Context]],
        *,
        then: Mapping[int, tuple[Command, Context]] = MappingProxyType({}),
    ) -> list[Outcome | ForecourtError]:
        """Create many aggregates at once under contexts of the function's own making; see `CommandHandler`."""
        answers = await self._handler.create_many(decider, commands, then=then)
        for answer, (command, context) in zip(answers, commands, strict=True):
            if isinstance(answer, ForecourtError):
                self._parts.refused(answer, context, decider.id_of(command, context))
        return answers

    async def version(self, decider: Decider[Any], aggregate_id: UUID) -> int:
        """The version of an aggregate, 0 where there is none: what a caller's expectation is compared with."""
        return (await self._load(decider, aggregate_id)).version

    async def position(self, decider: Decider[Any], aggregate_id: UUID) -> int:
        """The position of an aggregate's last event, 0 where there is none."""
        return (await self._load(decider, aggregate_id)).position

    async def state(self, decider: Decider[Any], aggregate_id: UUID) -> Any:
        """The present state of an aggregate, the decider's initial one where there is none."""
        return (await self._load(decider, aggregate_id)).state

    async def owner(self, decider: Decider[Any], aggregate_id: UUID) -> tuple[str, str]:
        """The dealer and brand that an aggregate belongs to, empty where there is none."""
        owner = (await self._load(decider, aggregate_id)).ownership
        return owner.dealer_id, owner.brand

    async def require_reachable(self, decider: Decider[Any], aggregate_id: UUID) -> None:
        """Raise `NotFound` where the id is taken by an aggregate outside the caller's scope.

        For calls that do something else before a command with ``creates="if_missing"``.
        """
        await self._handler.load(decider, aggregate_id, self._context.scope, foreign_is_missing=False)

    async def _load(self, decider: Decider[Any], aggregate_id: UUID) -> Loaded[Any]:
        return await self._handler.load(decider, aggregate_id, self._context.scope)

    async def head(self) -> int:
        """The position of the last event in the store: a read model that has reached it shows everything."""
        return await self._handler.head()


class Call:
    """One call of an RPC: who asks, and what to answer with."""

    __slots__ = (
        "after_position",
        "clock",
        "commands",
        "context",
        "expected",
        "export",
        "hashes",
        "identity",
        "parts",
        "read_models",
        "settings",
    )

    def __init__(
        self,
        metadata: CallMetadata,
        *,
        commands: CommandHandler,
        read_models: Any,
        clock: Clock,
        settings: Any,
        hashes: Hashes,
        export: Export,
    ) -> None:
        self.identity = metadata.identity
        self.context = metadata.context
        self.expected = metadata.expected
        self.after_position = metadata.after_position
        self.parts = PartsOfCall()
        self.commands = CallCommands(commands, metadata.context, self.parts)
        scope = metadata.context.scope
        self.read_models = read_models if scope is UNRESTRICTED else read_models.within(scope)
        self.clock = clock
        self.settings = settings
        self.hashes = hashes
        self.export = export.within(scope)

    def refuse(self, error: ForecourtError, subject: UUID | None = None) -> None:
        """Note for the audit that a part of what the call brought is refused, and the rest is not.

        ``subject`` is the id of what it is about. Commands that are refused on the way are noted without this.
        """
        self.parts.refused(error, self.context, subject)

    @property
    def origin(self) -> Origin:
        """Whose call it is, for the audit."""
        return origin_of(self.context)
