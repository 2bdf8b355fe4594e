"""Which fields of an event are personal, and what they read as once erased."""

from copy import deepcopy
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


def test_what_is_left_is_what_the_event_reads_as_once_erased() -> None:
    fields, data = personal_fields(Everything), deepcopy(DATA)
    assert fields is not None
    taken = fields.split(data)
    assert data == {
        "owner": DATA["owner"],
        "name": ERASED,
        "born": None,
        "points": [
            {"kind": "mobile", "value": ERASED, "typed": None},
            {"kind": "email", "value": ERASED, "typed": None},
        ],
        "main": {"kind": "mobile", "value": ERASED, "typed": None},
        "nicknames": [ERASED, ERASED],
        "hobbies": [],
        "notes": {"a": ERASED},
        "shown": "yes",
    }
    assert {**data, **taken} == DATA
    assert taken.keys() == {"name", "born", "points", "main", "nicknames", "hobbies", "notes"}


def test_where_nothing_was_said_nothing_is_hidden() -> None:
    fields = personal_fields(Everything)
    assert fields is not None
    assert (
        fields.split({"name": "", "born": None, "points": [], "nicknames": [""], "notes": {}, "hobbies": []})
        == {}
    )


def test_every_path_is_known() -> None:
    fields = personal_fields(Everything)
    assert fields is not None
    assert {path: leaf.erased for path, leaf in fields.paths()} == {
        "name": ERASED,
        "born": None,
        "points.0.value": ERASED,
        "points.0.typed": None,
        "main.value": ERASED,
        "main.typed": None,
        "nicknames.0": ERASED,
        "hobbies": [],
        "notes.0": ERASED,
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
    assert fields.split({"points": "no list", "main": 7, "notes": None, "nicknames": {}}) == {}


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
