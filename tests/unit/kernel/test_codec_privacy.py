"""What is personal is encrypted in stored events, and reads as erased once the person's key is gone."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from forecourt import metrics
from forecourt.codec import Codec
from forecourt.command_handler import CommandHandler
from forecourt.deciders import Command, Context, Decider
from forecourt.events import Event, ForeignEvent, Personal
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.eventstore.port import StoredEvent
from forecourt.privacy.cipher import PersonKey
from forecourt.privacy.fields import ERASED
from forecourt.privacy.keys import MemoryKeys
from forecourt.registry import RegistryError, UndecodableEvent, build_registry
from forecourt.testing.given import an_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Point(BaseModel):
    value: Personal[str]
    typed: Personal[str | None]


class Joined(Event, name="Joined", version=1):
    name: Personal[str]
    nick: Personal[str] | None
    points: tuple[Point, ...]
    store: str


class Written(Event, name="Written", version=1, person="customer_id"):
    customer_id: UUID
    text: Personal[str]


class Counted(Event, name="Counted", version=1):
    number: int


class JoinedHere(ForeignEvent, type="club.Joined", category="member"):
    name: Personal[str]
    store: str


OWN = build_registry("club", [("member", [Joined, Counted]), ("letter", [Written])])
READER = build_registry("other", [], [JoinedHere])
MEMBER = str(an_id("member"))
STREAM = f"member-{MEMBER}"

STORED = (
    '{"name":"[erased]","nick":null,"points":[{"value":"[erased]","typed":null},'
    '{"value":"[erased]","typed":null}],"store":"D001","_personal":"…"}'
)
FIRST_FORM = (
    "enc:v1:5uhE//NI51ZNousNtCcxxAr3s+TBaJ8gkHQC8Bl633wYUrKDfiDCNfLVbSojUr/iJk72CrioYR1AbbRBZzu"
    "DkVSgbKS8YZn9+c5Hr8OOchfnEO/nZ80CcalH/Sk88vnQnFZeEGxLVOdOTJyup1+LF9IjpjRhA0HwpoQ9ZTH9Cr+K/"
    "Oulkp06s1o3adjIkZEFHKgDTHRV0IYieMY="
)
SECOND_FORM = (
    "enc:v2:5XLFhZOP2bglUUnUqUNcckIcPH60VEpzmPriRxyNUm/lnkwtTbTb8oexeuZ71WkqojZJq17ofSfpelERrEo"
    "eaz8hUXu2memMfwmbvrWFR/M3GwnhN1xWqPTUupdnkXoy3eYCCqu2BYF3nBZOPVKwuuLqHejmS58fCUntkO1Y08L8Z"
    "3eGluYNMRJWSMc375xdAHEoylNXAC3dEOt6JmmsJyjkHg=="
)


def joined(**changes: Any) -> Joined:
    fields: dict[str, Any] = {
        "name": "王小明",
        "nick": None,
        "points": (Point(value="+8613800138000", typed="138 0013 8000"), Point(value="x@y.z", typed=None)),
        "store": "D001",
    }
    return Joined(**fields | changes)


def stored(event: Event, data: str, stream: str = STREAM, version: int = 1) -> StoredEvent:
    type_ = f"club.{event.event_name}"
    return StoredEvent(
        1, stream, 1, an_id("e"), type_, version, NOW, data, an_id("c"), None, "", "", "", "{}"
    )


async def written(codec: Codec, event: Event, stream: str = STREAM) -> StoredEvent:
    (data,) = await codec.encode(stream, [event], after=0)
    return stored(event, data, stream)


async def test_personal_fields_are_stored_encrypted_and_the_others_plain() -> None:
    record = await written(Codec(OWN, MemoryKeys()), joined())
    for value in ("王小明", "13800138000", "138 0013 8000", "x@y.z"):
        assert value not in record.data
        assert value.encode("unicode_escape").decode() not in record.data
    data = json.loads(record.data)
    assert data["store"] == "D001"
    assert data["name"] == ERASED
    assert data["points"] == [{"value": ERASED, "typed": None}] * 2
    assert data["_personal"].startswith("enc:v2:")


@pytest.mark.parametrize("sealed", [FIRST_FORM, SECOND_FORM])
async def test_the_stored_form_is_for_ever(sealed: str) -> None:
    """If this fails, events that are stored already cannot be read."""
    keys = MemoryKeys()
    keys.entries[MEMBER] = PersonKey(bytes(range(32)))
    (read,) = await Codec(OWN, keys).decode([stored(joined(), STORED.replace("…", sealed))])
    assert read.event == joined(nick="Ming")


async def test_what_was_encrypted_reads_as_it_was() -> None:
    codec = Codec(OWN, MemoryKeys())
    (read,) = await codec.decode([await written(codec, joined(nick="Ming"))])
    assert read.event == joined(nick="Ming")


@given(name=st.text(), nick=st.none() | st.text(), typed=st.none() | st.text())
async def test_any_text_comes_back(name: str, nick: str | None, typed: str | None) -> None:
    codec = Codec(OWN, MemoryKeys())
    event = joined(name=name, nick=nick, points=(Point(value=name, typed=typed),))
    try:
        record = await written(codec, event)
    except UnicodeEncodeError:
        return
    assert (await codec.decode([record]))[0].event == event


async def test_a_text_that_looks_encrypted_is_a_text() -> None:
    codec = Codec(OWN, MemoryKeys())
    (read,) = await codec.decode([await written(codec, joined(name="enc:v1:AAAA", store="enc:v1:BBBB"))])
    assert read.event == joined(name="enc:v1:AAAA", store="enc:v1:BBBB")


async def test_the_same_value_is_never_encrypted_to_the_same_text() -> None:
    codec = Codec(OWN, MemoryKeys())
    assert (await written(codec, joined())).data != (await written(codec, joined())).data


async def test_events_from_before_encryption_read_as_they_are() -> None:
    plain = stored(joined(), joined().model_dump_json())
    assert (await Codec(OWN, MemoryKeys()).decode([plain]))[0].event == joined()


async def test_another_service_reads_the_fields_that_it_names() -> None:
    keys = MemoryKeys()
    record = await written(Codec(OWN, keys), joined())
    (read,) = await Codec(READER, keys).decode([record])
    assert read.event == JoinedHere(name="王小明", store="D001")


async def test_events_of_an_erased_person_still_load() -> None:
    keys = MemoryKeys()
    codec = Codec(OWN, keys)
    record = await written(codec, joined(nick="Ming"))
    await keys.destroy(MEMBER, NOW)
    (read,) = await codec.decode([record])
    expected = joined(name=ERASED, nick=None, points=(Point(value=ERASED, typed=None),) * 2)
    assert read.event == expected
    assert (await Codec(READER, keys).decode([record]))[0].event == JoinedHere(name=ERASED, store="D001")


async def test_where_a_key_is_lost_the_rest_of_the_event_still_reads() -> None:
    keys = MemoryKeys()
    codec = Codec(OWN, keys)
    record = await written(codec, joined())
    keys.entries.clear()
    before = metrics.LOST_KEYS._value.get()
    (read,) = await codec.decode([record])
    assert metrics.LOST_KEYS._value.get() == before + 1
    assert isinstance(read.event, Joined)
    assert (read.event.name, read.event.store) == (ERASED, "D001")


async def test_what_is_written_of_an_erased_person_later_is_not_kept() -> None:
    keys = MemoryKeys()
    codec = Codec(OWN, keys)
    await keys.destroy(MEMBER, NOW)
    letter = Written(customer_id=UUID(MEMBER), text="Dear Mr Wang")
    record = await written(codec, letter, f"letter-{uuid4()}")
    assert "Wang" not in record.data
    (read,) = await codec.decode([record])
    assert read.event == Written(customer_id=UUID(MEMBER), text=ERASED)


async def test_the_key_is_that_of_the_person_whom_the_event_names() -> None:
    keys = MemoryKeys()
    codec = Codec(OWN, keys)
    letters = [
        await written(codec, Written(customer_id=one, text="hello"), f"letter-{uuid4()}")
        for one in (UUID(MEMBER), an_id("somebody else"))
    ]
    await keys.destroy(MEMBER, NOW)
    assert [r.event.text for r in await codec.decode(letters) if isinstance(r.event, Written)] == [
        ERASED,
        "hello",
    ]


def _flipped(data: dict[str, Any]) -> None:
    text = data["_personal"]
    data["_personal"] = text[:-6] + ("A" if text[-6] != "A" else "B") + text[-5:]


def _cut(data: dict[str, Any]) -> None:
    data["_personal"] = data["_personal"][:20]


def _no_base64(data: dict[str, Any]) -> None:
    data["_personal"] = "enc:v2:?é"


def _no_text(data: dict[str, Any]) -> None:
    data["_personal"] = {"name": "somebody"}


def _plain(data: dict[str, Any]) -> None:
    data["_personal"] = '{"name":"somebody"}'


@pytest.mark.parametrize("tamper", [_flipped, _cut, _no_base64, _no_text, _plain])
async def test_tampered_ciphertext_is_refused_with_the_reason(tamper: Any) -> None:
    codec = Codec(OWN, MemoryKeys())
    record = await written(codec, joined())
    data = json.loads(record.data)
    tamper(data)
    with pytest.raises(UndecodableEvent, match=r"_personal: .*(tampered with|not an encrypted)"):
        await codec.decode([msgspec.structs.replace(record, data=json.dumps(data))])


async def test_a_ciphertext_of_another_type_does_not_decrypt() -> None:
    keys = MemoryKeys()
    codec = Codec(OWN, keys)
    letter = await written(codec, Written(customer_id=UUID(MEMBER), text="hello"), f"letter-{uuid4()}")
    record = await written(codec, joined())
    moved = json.loads(record.data) | {"_personal": json.loads(letter.data)["_personal"]}
    with pytest.raises(UndecodableEvent, match="tampered"):
        await codec.decode([msgspec.structs.replace(record, data=json.dumps(moved))])


async def test_a_ciphertext_of_another_person_does_not_decrypt() -> None:
    codec = Codec(OWN, MemoryKeys())
    other = f"member-{uuid4()}"
    await written(codec, joined(), other)
    record = await written(codec, joined())
    with pytest.raises(UndecodableEvent, match="tampered"):
        await codec.decode([msgspec.structs.replace(record, stream=other)])


async def test_a_ciphertext_of_another_event_of_the_same_person_and_type_does_not_decrypt() -> None:
    codec = Codec(OWN, MemoryKeys())
    first, second = await codec.encode(STREAM, [joined(name="old"), joined(name="new")], after=0)
    for sequence, text in ((1, second), (2, first)):
        record = msgspec.structs.replace(stored(joined(), text), sequence=sequence)
        with pytest.raises(UndecodableEvent, match="tampered"):
            await codec.decode([record])
    moved = msgspec.structs.replace(stored(joined(), second), sequence=2)
    assert (await codec.decode([moved]))[0].event == joined(name="new")


async def test_what_was_encrypted_with_a_key_that_is_lost_reads_as_erased_beside_what_came_later() -> None:
    keys, told = MemoryKeys(), []
    codec = Codec(OWN, keys, on_damage=lambda _service, damage: told.append((damage.slug, damage.marks)))
    before = await written(codec, joined(name="before"))
    del keys.entries[MEMBER]
    (after,) = await codec.encode(STREAM, [joined(name="after")], after=1)
    read = await codec.decode([before, msgspec.structs.replace(stored(joined(), after), sequence=2)])
    assert [getattr(one.event, "name", "") for one in read] == [ERASED, "after"]
    assert told == [("person-key-lost", (MEMBER,))]


async def test_data_that_is_no_json_is_refused_and_not_a_crash() -> None:
    record = stored(joined(), '{"_personal":"enc:v1:')
    with pytest.raises(UndecodableEvent):
        await Codec(OWN, MemoryKeys()).decode([record])


async def test_a_process_without_keys_says_so() -> None:
    record = await written(Codec(OWN, MemoryKeys()), joined())
    with pytest.raises(UndecodableEvent, match="no keys"):
        await Codec(OWN).decode([record])


async def test_a_batch_is_decoded_in_its_order_with_one_lookup_of_keys() -> None:
    keys = MemoryKeys()
    codec = Codec(OWN, keys)
    batch = []
    for number in range(200):
        stream = f"member-{uuid4()}"
        batch.append(await written(codec, joined(name=f"n{number}"), stream))
        batch.append(stored(Counted(number=number), f'{{"number":{number}}}', stream))
    keys.lookups = 0
    read = [recorded.event for recorded in await codec.decode(batch)]
    assert [event.name for event in read if isinstance(event, Joined)] == [f"n{n}" for n in range(200)]
    assert [event.number for event in read if isinstance(event, Counted)] == list(range(200))
    assert keys.lookups == 1


async def test_an_older_version_is_decrypted_before_it_is_upcast() -> None:
    class Old(Event, name="Member", version=1):
        full_name: Personal[str]

    class New(Event, name="Member", version=2):
        name: Personal[str]

    def upcast(data: dict[str, Any]) -> dict[str, Any]:
        return {"name": data["full_name"].upper()}

    keys = MemoryKeys()
    old = build_registry("club", [("member", [Old])])
    new = build_registry("club", [("member", [New])], upcasters=[("Member", 1, upcast)])
    record = await written(Codec(old, keys), Old(full_name="wang"))
    assert (await Codec(new, keys).decode([record]))[0].event == New(name="WANG")
    await keys.destroy(MEMBER, NOW)
    assert (await Codec(new, keys).decode([record]))[0].event == New(name=ERASED.upper())


def test_a_mark_that_cannot_be_erased_is_found_at_start() -> None:
    class Born(Event, name="Born", version=1):
        on: Personal[int]

    with pytest.raises(RegistryError, match="must be optional"):
        build_registry("club", [("member", [Born])])


# states


async def test_states_with_personal_data_are_sealed_with_the_persons_key() -> None:
    keys = MemoryKeys()
    codec = Codec(OWN, keys)
    sealed = await codec.seal_state(STREAM, '{"name":"Wang"}')
    assert sealed is not None
    assert "Wang" not in sealed
    assert json.loads(sealed).startswith("enc:v2:")
    assert await codec.unseal_state(STREAM, sealed) == '{"name":"Wang"}'
    assert await codec.unseal_state(f"member-{uuid4()}", sealed) is None
    await keys.destroy(MEMBER, NOW)
    assert await codec.unseal_state(STREAM, sealed) is None
    assert await codec.seal_state(STREAM, '{"name":"Wang"}') is None


async def test_states_that_may_hold_data_of_others_are_not_stored() -> None:
    codec = Codec(OWN, MemoryKeys())
    assert await codec.seal_state(f"letter-{uuid4()}", "{}") is None


async def test_a_plain_state_where_one_should_be_sealed_is_no_snapshot() -> None:
    assert await Codec(OWN, MemoryKeys()).unseal_state(STREAM, '{"name":"Wang"}') is None


@dataclass(frozen=True)
class Member:
    name: str = ""


class Join(Command, creates=True):
    member_id: UUID
    name: str


class Greet(Command):
    member_id: UUID


async def test_a_state_in_the_cache_is_forgotten_when_its_person_is_erased() -> None:
    member = Decider(service="club", category="member", initial=Member(), key="member_id")

    @member.decides
    def join(state: Member, c: Join, ctx: Context) -> list[Event]:
        return [joined(name=c.name)]

    @member.evolves
    def _joined(state: Member, e: Joined) -> Member:
        return Member(e.name)

    keys = MemoryKeys()
    handler = CommandHandler(MemoryEventStore(), Codec(build_registry("club", [("member", [Joined])]), keys))
    await handler.execute(member, Join(member_id=UUID(MEMBER), name="Wang"), Context(NOW, uuid4(), uuid4()))
    assert (await handler.load(member, UUID(MEMBER))).state == Member("Wang")
    await keys.destroy(MEMBER, NOW)
    assert (await handler.load(member, UUID(MEMBER))).state == Member(ERASED)


async def test_states_that_may_hold_texts_about_an_erased_person_are_forgotten_too() -> None:
    """A complaint holds what its customer said, under an id of its own; and one may be read at that very moment."""
    letter = Decider(service="club", category="letter", initial=Member(), key="member_id")

    @letter.decides
    def write(state: Member, c: Join, ctx: Context) -> list[Event]:
        return [Written(customer_id=UUID(MEMBER), text=c.name)]

    @letter.evolves
    def _written(state: Member, e: Written) -> Member:
        return Member(e.text)

    class ErasedMeanwhile(MemoryEventStore):
        erase = False

        async def read_stream(self, stream: str, *, after: int = 0, page: int = 500) -> Any:
            async for found in super().read_stream(stream, after=after, page=page):
                yield found
            if self.erase:
                await keys.destroy(MEMBER, NOW)

    keys, store, id_ = MemoryKeys(), ErasedMeanwhile(), an_id("letter")
    handler = CommandHandler(store, Codec(build_registry("club", [("letter", [Written])]), keys))
    await handler.execute(letter, Join(member_id=id_, name="Wang's"), Context(NOW, uuid4(), uuid4()))
    assert handler._cache
    handler.forget_all()
    store.erase = True
    assert (await handler.load(letter, id_)).state == Member("Wang's")
    assert not handler._cache
    assert (await handler.load(letter, id_)).state == Member(ERASED)
