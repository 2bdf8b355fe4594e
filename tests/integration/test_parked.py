"""Parked messages on a real broker: listed without loss, replayed once, dropped with a reason."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from forecourt.errors import InvalidInput, NotFound
from forecourt.messaging import topology
from forecourt.messaging.cloudevents import CONTENT_TYPE, to_cloudevent
from forecourt.messaging.forwarder import Forwarder
from forecourt.messaging.parked import count_parked, discard, list_parked, replay
from tests.integration.messaging_tools import asked, channel, depth, our_headers, take_all

pytestmark = pytest.mark.integration

HEADERS = {
    "attempts": 3,
    "reason": "attempts-exhausted",
    "first-error": "TooEarly (too-early)",
    "last-error": "TimeoutError",
    "tenant": "east",
}


@pytest.fixture
def queue(amqp_uri: str) -> Iterator[str]:
    name = f"probe_{uuid4().hex[:10]}.react"
    with channel(amqp_uri) as opened:
        topology.declare_handler(opened, name, ["shop.Asked"])
    yield name
    with channel(amqp_uri) as opened:
        opened.queue_delete(name)
        opened.queue_delete(f"{name}.parked")


def park(amqp_uri: str, queue: str, count: int) -> None:
    with Forwarder(amqp_uri) as forwarder:
        for number in range(count):
            event = asked(number)
            forwarder.send(
                "",
                f"{queue}.parked",
                to_cloudevent(event),
                properties={"content_type": CONTENT_TYPE, "message_id": str(event.id)},
                headers=HEADERS,
            )


def test_looking_at_parked_messages_takes_none_away(amqp_uri: str, queue: str) -> None:
    park(amqp_uri, queue, 5)
    for _ in range(30):
        listed = list_parked(amqp_uri, f"{queue}.parked")
        assert [message.id for message in listed] == [str(asked(number).id) for number in range(5)]
    first = listed[0]
    assert (first.type, first.subject) == ("shop.Asked v1", asked(0).stream)
    assert (first.reason, first.attempts) == ("attempts-exhausted", 3)
    assert (first.first_error, first.last_error) == ("TooEarly (too-early)", "TimeoutError")
    assert count_parked(amqp_uri, [f"{queue}.parked", "nobody.here.parked"]) == {f"{queue}.parked": 5}
    assert len(list_parked(amqp_uri, f"{queue}.parked", limit=2)) == 2


def test_replaying_one_leaves_the_others_and_resets_its_attempts(amqp_uri: str, queue: str) -> None:
    park(amqp_uri, queue, 3)
    assert replay(amqp_uri, f"{queue}.parked", [str(asked(1).id)]) == 1
    [message] = take_all(amqp_uri, queue)
    assert message.properties["message_id"] == str(asked(1).id)
    assert message.body in (to_cloudevent(asked(1)), to_cloudevent(asked(1)).decode())
    assert our_headers(message) == {}
    assert message.headers["tenant"] == "east"
    assert [m.id for m in list_parked(amqp_uri, f"{queue}.parked")] == [str(asked(n).id) for n in (0, 2)]


def test_replaying_all_empties_the_parking_queue(amqp_uri: str, queue: str) -> None:
    park(amqp_uri, queue, 20)
    assert replay(amqp_uri, f"{queue}.parked") == 20
    assert depth(amqp_uri, f"{queue}.parked") == 0
    assert len(take_all(amqp_uri, queue)) == 20


def test_one_message_is_dropped_for_a_reason_and_no_other(amqp_uri: str, queue: str) -> None:
    park(amqp_uri, queue, 3)
    with pytest.raises(InvalidInput, match="reason"):
        discard(amqp_uri, f"{queue}.parked", str(asked(1).id), reason=" ")
    assert discard(amqp_uri, f"{queue}.parked", str(asked(1).id), reason="sent by mistake").id == str(
        asked(1).id
    )
    assert [m.id for m in list_parked(amqp_uri, f"{queue}.parked")] == [str(asked(n).id) for n in (0, 2)]


def test_a_message_that_is_no_event_is_listed_by_its_fingerprint(amqp_uri: str, queue: str) -> None:
    with Forwarder(amqp_uri) as forwarder:
        forwarder.send("", f"{queue}.parked", b"\xff\xfe", properties={}, headers={"reason": "malformed"})
    [message] = list_parked(amqp_uri, f"{queue}.parked")
    assert message.id.startswith("sha256-")
    assert (message.type, message.reason, message.bytes) == ("", "malformed", 2)
    assert replay(amqp_uri, f"{queue}.parked", [message.id]) == 1


def test_wrong_queues_and_ids_are_named(amqp_uri: str, queue: str) -> None:
    with pytest.raises(InvalidInput, match="not a parking queue"):
        list_parked(amqp_uri, queue)
    with pytest.raises(NotFound, match=r"nobody\.here\.parked does not exist"):
        list_parked(amqp_uri, "nobody.here.parked")
    with pytest.raises(NotFound, match="none of the messages"):
        replay(amqp_uri, f"{queue}.parked", ["7"])
    with pytest.raises(InvalidInput, match="limit"):
        list_parked(amqp_uri, f"{queue}.parked", limit=0)
