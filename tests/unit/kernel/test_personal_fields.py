"""Which fields of an event are personal, and what they read as once erased."""

from datetime import date
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from forecourt.events import Event, ForeignEvent, Personal
from forecourt.privacy.fields import ERASED, PersonalFieldError, personal_fields


class Point(BaseModel):
    kind: str
    value: Personal[str]
    typed: Personal[str | None]


class Everything(Event, name="Everything", version=1, person="owner"):
    owner: UUID
    name: Personal[str]
    born: Personal[date] | None
    points: tuple[Point, ...]
    main: Point | None
    nicknames: tuple[Personal[str], ...]
    hobbies: Personal[tuple[str, ...]]
    notes: dict[str, Personal[str]]
    shown: str


DATA: dict[str, Any] = {
    "owner": "b6b1ad06-3d5d-4c0c-9f35-6f0b8c3c3c0e",
    "name": "Wang",
    "born": "1980-01-01",
    "points": [
        {"kind": "mobile", "value": "1", "typed": None},
        {"kind": "email", "value": "2", "typed": "3"},
    ],
    "main": {"kind": "mobile", "value": "4", "typed": "5"},
    "nicknames": ["6", "7"],
    "hobbies": ["8"],
    "notes": {"a": "9"},
    "shown": "yes",
}


def test_every_personal_value_is_found_with_its_path_and_what_stands_for_it_once_erased() -> None:
    fields = personal_fields(Everything)
    assert fields is not None
    assert {path: (container[key], erased) for container, key, path, erased in fields.slots(DATA)} == {
        "name": ("Wang", ERASED),
        "born": ("1980-01-01", None),
        "points.0.value": ("1", ERASED),
        "points.1.value": ("2", ERASED),
        "points.1.typed": ("3", None),
        "main.value": ("4", ERASED),
        "main.typed": ("5", None),
        "nicknames.0": ("6", ERASED),
        "nicknames.1": ("7", ERASED),
        "hobbies": (["8"], []),
        "notes.a": ("9", ERASED),
    }


def test_the_person_is_named_by_the_field_or_else_by_the_stream() -> None:
    class OfTheStream(ForeignEvent, type="x.OfTheStream", category="x"):
        name: Personal[str]

    class Maybe(ForeignEvent, type="x.Maybe", category="x", person="customer_id"):
        customer_id: UUID | None
        name: Personal[str]

    named, streams, maybe = personal_fields(Everything), personal_fields(OfTheStream), personal_fields(Maybe)
    assert named is not None
    assert streams is not None
    assert maybe is not None
    assert named.person_of(DATA, "thing-1") == DATA["owner"]
    assert streams.person_of(DATA, "thing-a-b") == "a-b"
    assert maybe.person_of({"customer_id": None}, "thing-a-b") == "a-b"


def test_a_class_without_marks_has_no_personal_fields() -> None:
    class Plain(Event, name="Plain", version=1):
        name: str

    assert personal_fields(Plain) is None


def test_data_that_does_not_fit_is_not_looked_into() -> None:
    fields = personal_fields(Everything)
    assert fields is not None
    assert fields.slots({"points": "no list", "main": 7, "notes": None, "nicknames": {}}) == []


def test_a_value_that_nothing_can_stand_for_is_refused() -> None:
    class Born(Event, name="Born", version=1):
        on: Personal[date]

    with pytest.raises(PersonalFieldError, match="on: must be optional"):
        personal_fields(Born)


def test_one_of_several_types_is_personal_as_a_whole_or_not_at_all() -> None:
    class Mixed(Event, name="Mixed", version=1):
        what: Point | int

    with pytest.raises(PersonalFieldError, match="as a whole"):
        personal_fields(Mixed)


def test_a_person_that_is_no_field_is_refused() -> None:
    class Lost(Event, name="Lost", version=1, person="nobody"):
        name: Personal[str]

    with pytest.raises(PersonalFieldError, match="nobody"):
        personal_fields(Lost)
