"""After every fault: nothing that was accepted is lost, and nothing happened twice."""

import asyncio
import json
from collections import Counter
from typing import Any
from uuid import UUID

import msgspec

from forecourt.discovery import find_services
from forecourt.eventstore.port import StoredEvent
from forecourt.projections.rebuild import Rebuild
from forecourt.runtime import Runtime
from forecourt.testing.probes import poll_async
from notify.rules import rules_for
from tests.e2e.house import PROJECTED, SECONDS
from tests.faults.house import Fortress
from tests.faults.load import ACTOR, Answer, Load

REPEATED = 20
"""Commands that are sent again after the fault, besides those that were sent more than once already."""

OF_SEVERAL_STEPS = frozenset(
    f"{service.name}.{rpc.name}"
    for service in find_services()
    for api in service.apis
    for rpc in api.rpcs.values()
    if rpc.decider is None
)

ENDED = ("accepted", "delivered", "bounced", "suppressed", "expired", "dead", "deferred")
SENT = ("accepted", "delivered", "bounced")


async def assert_nothing_lost_or_doubled(house: Fortress, load: Load, *, parked: int = 0) -> None:
    """Wait until all work is done, and look: commands, read models, broker, reactions, messages to customers.

    ``parked`` is the number of messages that handlers have given up, by intention.
    """
    await quiet(house)
    events = await house.sql("SELECT * FROM events.event ORDER BY position")
    await assert_commands_are_stored_once(load.answers, events)
    await assert_repeated_commands_get_their_first_answer(load, events)
    await assert_every_event_reached_the_broker_in_order(house, events)
    await assert_every_handler_handled_every_event(house, events, parked)
    await assert_one_message_per_reason(house, events)
    await assert_read_models_equal_a_rebuild(house)


async def quiet(house: Fortress) -> None:
    """Wait until every event is projected, published and handled, and no message to a customer is under way."""

    left = ""

    async def nothing_left() -> bool:
        nonlocal left
        left = await _left(house)
        return not left

    try:
        await poll_async(nothing_left, 2 * SECONDS, what="nothing left to do")
    except TimeoutError:
        raise AssertionError(f"still to do: {left}") from None


async def _left(house: Fortress) -> str:
    """What is still to be done, in words; empty: nothing."""
    [(head,)] = await house.sql("SELECT coalesce(max(position), 0) FROM events.event")
    projections = " UNION ALL ".join(
        f"SELECT '{service}.' || name, position FROM \"{service}\".projection WHERE state = 'active'"
        for service in PROJECTED
    )
    relays = "SELECT 'relay ' || name, position FROM messaging.relay_checkpoint"
    rows = await house.sql(f"{projections} UNION ALL {relays}")
    left = [f"{name} at {position} of {head}" for name, position in rows if position < head]
    if not left:
        left = [f"{handler}: {len(ids)} events" for handler, ids in (await unhandled(house)).items() if ids]
    if not left:
        rows = await house.sql(
            "SELECT state, count(*) FROM notify.notification WHERE state <> ALL($1) GROUP BY 1", list(ENDED)
        )
        left = [f"{count} messages {state}" for state, count in rows]
    return ", ".join(left)


async def unhandled(house: Fortress) -> dict[str, set[UUID]]:
    """The events that a handler is bound to, and has neither handled nor parked."""
    found = {}
    parked: dict[str, dict[str, str]] | None = None
    for handler, types in house.handlers.items():
        service = handler.partition(".")[0]
        rows = await house.sql(
            f"SELECT id FROM events.event e WHERE type = ANY($2) AND NOT EXISTS"
            f' (SELECT 1 FROM "{service}".processed_event p WHERE p.handler = $1 AND p.event_id = e.id)',
            handler,
            list(types),
        )
        ids = {row["id"] for row in rows}
        if ids:
            parked = house.parked() if parked is None else parked
            ids = {one for one in ids if str(one) not in parked[handler]}
        found[handler] = ids
    return found


async def assert_commands_are_stored_once(answers: list[Answer], events: list[Any]) -> None:
    """Each accepted command's last event is where its answer says, and nothing of it comes after that.

    A command of several steps is answered with the position of the last step, which may be another stream's.
    """
    stored_at = {(event["stream"].partition("-")[2], event["sequence"]): event for event in events}
    done = Counter(
        (event["correlation_id"], event["stream"], event["type"])
        for event in events
        if event["actor_id"] in (ACTOR, "manager")
    )
    assert [what for what, times in done.items() if times > 1] == []
    assert len({event["id"] for event in events}) == len(events)
    for answer in answers:
        stored = stored_at.get((answer.id, answer.version))
        assert stored is not None, f"{answer}: is not in the store"
        assert stored["position"] <= answer.position, answer
        assert stored["position"] == answer.position or answer.rpc in OF_SEVERAL_STEPS, answer
    assert len({(answer.id, answer.version) for answer in answers}) == len(answers)


async def assert_repeated_commands_get_their_first_answer(load: Load, events: list[Any]) -> None:
    """A command id that comes again is answered with its first result, also after a kill.

    Where a worker took a step of the command before the caller came back, the command itself found it done and
    stored nothing: its answer is the version of that moment, and a later one's when it is repeated later.
    """
    own = {
        (event["stream"].partition("-")[2], event["sequence"])
        for event in events
        if event["actor_id"] in (ACTOR, "manager")
    }
    answers = [answer for answer in load.answers if answer.attempts > 1] + load.answers[-REPEATED:]
    for answer in answers:
        client = load.manager if answer.rpc == "sales.ApproveOutbound" else load.seller
        again = await client(answer.rpc, metadata={"command-id": answer.command_id}, **answer.fields)
        assert again.id == answer.id, answer
        if answer.rpc in OF_SEVERAL_STEPS and (answer.id, answer.version) not in own:
            assert again.version >= answer.version, answer
            continue
        assert again.version == answer.version, answer
        assert again.position == answer.position or answer.rpc in OF_SEVERAL_STEPS, answer


async def assert_every_event_reached_the_broker_in_order(house: Fortress, events: list[Any]) -> None:
    """At least once; and in the order of its stream, after duplicates are dropped."""
    await asyncio.to_thread(house.drain_tap)
    reached = {event_id for event_id, _, _ in house.tapped}
    missing = [event["position"] for event in events if event["id"] not in reached]
    assert missing == [], f"{len(missing)} events never reached the broker, the first at {missing[0]}"
    seen: set[UUID] = set()
    at: dict[str, int] = {}
    for event_id, stream, sequence in house.tapped:
        if event_id not in seen:
            seen.add(event_id)
            assert sequence == at.get(stream, 0) + 1, f"{stream}: {sequence} came after {at.get(stream, 0)}"
            at[stream] = sequence


async def assert_every_handler_handled_every_event(house: Fortress, events: list[Any], parked: int) -> None:
    """Each reaction ran to its commit for each event that it is for, or its message is parked with the reason."""
    assert {handler: ids for handler, ids in (await unhandled(house)).items() if ids} == {}
    found = {
        f"{handler}: {one}": why for handler, all_ in house.parked().items() for one, why in all_.items()
    }
    assert len(found) == parked, found
    assert all(found.values()), found
    triggers = Counter(
        _data(event)["trigger_id"] for event in events if event["type"] == "service_desk.ReturnVisitScheduled"
    )
    assert not [one for one, times in triggers.items() if times > 1]


async def assert_one_message_per_reason(house: Fortress, events: list[Any]) -> None:
    """Every reason led to one request; every request to one message, or to one that says why there is none."""
    notify = next(service for service in find_services() if service.name == "notify")
    requested = Counter(
        (data["reason_event_id"], data["rule"])
        for event in events
        if event["type"] == "notify.NotificationRequested"
        for data in [_data(event)]
    )
    assert max(requested.values(), default=0) <= 1
    handled = await house.sql("SELECT event_id FROM notify.processed_event WHERE handler = 'notify.notify'")
    handled_ids = {row["event_id"] for row in handled}
    reasons = house.handlers["notify.notify"]
    expected = {
        (str(event["id"]), rule.name)
        for event in events
        if event["type"] in reasons and event["id"] in handled_ids
        for rule in rules_for(notify.registry.decode(_stored(event)).event)  # type: ignore[arg-type]  # all that notify reacts to is foreign
    }
    assert set(requested) == expected
    rows = await house.sql("SELECT notification_id, state, why, reference FROM notify.notification")
    assert len(rows) == len(requested)
    arrived = Counter(
        _keys(await house.arrived(), {row["reference"]: row["notification_id"] for row in rows})
    )
    assert set(arrived) <= {str(row["notification_id"]) for row in rows}
    for row in rows:
        times = arrived[str(row["notification_id"])]
        if row["state"] in SENT:
            assert times == 1, f"{dict(row)}: arrived {times} times"
        else:
            assert row["why"], f"{dict(row)}: no reason"
            assert times <= (row["state"] == "dead"), f"{dict(row)}: arrived {times} times"


def _keys(messages: list[dict[str, Any]], by_reference: dict[str, UUID]) -> list[str]:
    """The id of the notification that each message is."""
    return [
        message["key"]
        or str(by_reference.get(message["reference"]) or message["reference"].partition("@")[0])
        for message in messages
    ]


async def assert_read_models_equal_a_rebuild(house: Fortress) -> None:
    """Every read model is what a fresh rebuild of it is, and nothing was put aside."""
    runtime = await Runtime.open(find_services(PROJECTED), house.platform.settings)
    try:
        for part in runtime.services:
            for projection in part.service.projections:
                rebuild = Rebuild(part.service.name, projection, runtime.store, part.codec, runtime.pool)
                await rebuild.build()
                difference = await rebuild.diff()
                await rebuild.abandon()
                assert difference is not None
                assert difference.equal, f"{part.service.name}.{projection.name}: {difference}"
            put_aside = await runtime.pool.fetchval(
                f'SELECT count(*) FROM "{part.service.name}".projection_quarantine'
            )
            assert put_aside == 0
    finally:
        await runtime.close()


def _data(event: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event["data"])
    return found


def _stored(event: Any) -> StoredEvent:
    fields = {name: event[name] for name in StoredEvent.__struct_fields__ if name in event}
    return msgspec.convert(fields, StoredEvent)
