"""Messages become models and rows become messages, by field name, without losing anything."""

from contextlib import suppress
from dataclasses import dataclass, make_dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.type import date_pb2
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from forecourt.errors import InvalidInput
from forecourt.rpc.convert import ConversionError, enum_labels, reader
from forecourt.rpc.convert_out import writer

FIELD = descriptor_pb2.FieldDescriptorProto
PREFIX = ".convert.test."
IMPORTS = (timestamp_pb2, duration_pb2, struct_pb2, wrappers_pb2, date_pb2)


def _field(name: str, number: int, kind: Any, *, of: str = "", repeated: bool = False) -> Any:
    return FIELD(
        name=name,
        number=number,
        type=kind,
        label=FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL,
        type_name=of or None,
    )


def _compile() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="convert_test.proto", package="convert.test", syntax="proto3"
    )
    file.dependency.extend(module.DESCRIPTOR.name for module in IMPORTS)
    enum = file.enum_type.add(name="HTTPRoutePlan")
    for number, name in enumerate(("UNSPECIFIED", "PLAIN", "TWO_WORDS")):
        enum.value.add(name=f"HTTP_ROUTE_PLAN_{name}", number=number)
    leaf = file.message_type.add(name="Leaf")
    leaf.field.extend([_field("label", 1, FIELD.TYPE_STRING), _field("count", 2, FIELD.TYPE_INT32)])
    file.message_type.add(name="Names").field.append(_field("names", 1, FIELD.TYPE_STRING, repeated=True))
    tree = file.message_type.add(name="Tree")
    tree.field.extend(
        [
            _field("text", 1, FIELD.TYPE_STRING),
            _field("number", 2, FIELD.TYPE_INT64),
            _field("flag", 3, FIELD.TYPE_BOOL),
            _field("ratio", 4, FIELD.TYPE_DOUBLE),
            _field("plan", 5, FIELD.TYPE_ENUM, of=PREFIX + "HTTPRoutePlan"),
            _field("leaf", 6, FIELD.TYPE_MESSAGE, of=PREFIX + "Leaf"),
            _field("leaves", 7, FIELD.TYPE_MESSAGE, of=PREFIX + "Leaf", repeated=True),
            _field("at", 8, FIELD.TYPE_MESSAGE, of=".google.protobuf.Timestamp"),
            _field("lasting", 9, FIELD.TYPE_MESSAGE, of=".google.protobuf.Duration"),
            _field("day", 10, FIELD.TYPE_MESSAGE, of=".google.type.Date"),
            _field("plans", 11, FIELD.TYPE_ENUM, of=PREFIX + "HTTPRoutePlan", repeated=True),
            _field("extra", 12, FIELD.TYPE_MESSAGE, of=".google.protobuf.Struct"),
            _field("maybe", 13, FIELD.TYPE_MESSAGE, of=".google.protobuf.StringValue"),
            _field("raw", 14, FIELD.TYPE_BYTES),
            _field("child", 15, FIELD.TYPE_MESSAGE, of=PREFIX + "Tree"),
        ]
    )
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindFileByName(file.name)


FILE = _compile()
TREE = FILE.message_types_by_name["Tree"]
LEAF = FILE.message_types_by_name["Leaf"]
Tree, LeafMessage = GetMessageClass(TREE), GetMessageClass(LEAF)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)
times = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2900, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
leaves = st.fixed_dictionaries({"label": texts, "count": st.integers(-(2**31), 2**31 - 1)})
trees = st.fixed_dictionaries(
    {},
    optional={
        "text": texts.filter(bool),
        "number": st.integers(-(2**63), 2**63 - 1),
        "flag": st.booleans(),
        "ratio": st.floats(allow_nan=False, allow_infinity=False),
        "plan": st.sampled_from(["plain", "two_words"]),
        "leaf": leaves,
        "leaves": st.lists(leaves, max_size=4),
        "at": times,
        "lasting": st.timedeltas(timedelta(days=-3000), timedelta(days=3000)),
        "day": st.dates(),
        "plans": st.lists(st.sampled_from(["plain", "two_words"]), max_size=4),
        "extra": st.dictionaries(texts, st.booleans() | texts, max_size=3),
        "maybe": texts,
        "raw": st.binary(min_size=1, max_size=20),
    },
)


class LeafModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    label: str = ""
    count: int


class TreeModel(BaseModel):
    text: str | None = None
    number: int = 5
    flag: bool
    ratio: float = 0.5
    plan: Literal["plain", "two_words"] | None = None
    leaf: LeafModel | None = None
    leaves: tuple[LeafModel, ...] = ()
    plans: tuple[str, ...] | None = None


@given(trees)
def test_what_is_written_is_read_back(tree: dict[str, Any]) -> None:
    message = Tree.FromString(writer(TREE)(tree).SerializeToString())
    read = reader(TREE)(message)
    for name, value in tree.items():
        found: Any = read.get(name)
        if name == "leaf":
            assert (found.get("label", ""), found["count"]) == (value["label"], value["count"])
        elif name == "leaves":
            assert [leaf["count"] for leaf in found] == [leaf["count"] for leaf in value]
        else:
            assert found == value or (not value and not found)


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    message = Tree()
    with suppress(DecodeError):
        message.ParseFromString(raw)
    with suppress(InvalidInput):
        assert "flag" in reader(TREE, TreeModel)(message)


def test_what_is_not_given_takes_the_models_default_or_is_absent() -> None:
    assert reader(TREE, TreeModel)(Tree()) == {"flag": False}
    assert TreeModel.model_validate(reader(TREE, TreeModel)(Tree())).number == 5


def test_without_a_model_zeros_and_empty_lists_are_given() -> None:
    data = reader(TREE)(Tree())
    assert (data["number"], data["flag"], data["leaves"]) == (0, False, ())
    assert "text" not in data
    assert "plan" not in data


def test_a_required_zero_of_a_nested_model_is_given() -> None:
    assert reader(TREE, TreeModel)(Tree(leaf=LeafMessage(label="x")))["leaf"] == {"label": "x", "count": 0}


def test_enum_labels_lose_the_prefix_of_an_enum_with_an_acronym() -> None:
    assert enum_labels(FILE.enum_types_by_name["HTTPRoutePlan"]) == {1: "plain", 2: "two_words"}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Tree(text="a\0b"), "text"),
        (Tree(text="x" * 10_001), "text"),
        (Tree(plan=77), "plan"),
        (Tree(plans=[1, 0]), "plans.1"),
        (Tree(ratio=float("inf")), "ratio"),
        (Tree(leaf=LeafMessage(label="\0")), "leaf.label"),
        (Tree(leaves=[LeafMessage(), LeafMessage(label="\0")]), "leaves.1.label"),
        (Tree(child=Tree(child=Tree(text="\0"))), "child.child.text"),
        (Tree(at=timestamp_pb2.Timestamp(seconds=2**60)), "at"),
        (Tree(day=date_pb2.Date(year=2026, month=13, day=1)), "day"),
        (Tree(maybe=wrappers_pb2.StringValue(value="x" * 10_001)), "maybe"),
    ],
)
def test_a_value_that_no_model_may_see_is_named(message: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        reader(TREE)(message)
    assert list(caught.value.fields) == [field]


def test_a_model_may_allow_longer_strings_and_limits_shorter_ones_itself() -> None:
    class Long(BaseModel):
        label: str | None = Field(default=None, max_length=20_000)
        count: int = 0

    assert reader(LEAF, Long)(LeafMessage(label="x" * 20_000))["label"] == "x" * 20_000


def test_a_lists_own_limit_is_not_one_of_its_strings() -> None:
    class Few(BaseModel):
        names: tuple[str, ...] = Field(default=(), max_length=3)

    class Short(BaseModel):
        names: tuple[Annotated[str, Field(max_length=20_000)], ...] = ()

    listing = FILE.message_types_by_name["Names"]
    message = GetMessageClass(listing)(names=["x" * 15_000])
    with pytest.raises(InvalidInput) as caught:
        reader(listing, Few)(message)
    assert list(caught.value.fields) == ["names.0"]
    assert reader(listing, Short)(message)["names"] == ["x" * 15_000]


def test_a_field_that_the_model_does_not_know_is_found_when_compiling() -> None:
    class Small(BaseModel):
        model_config = ConfigDict(extra="forbid")
        label: str = ""

    with pytest.raises(ConversionError, match="count"):
        reader(LEAF, Small)


def test_a_required_field_that_the_message_lacks_is_found_when_compiling() -> None:
    class Large(BaseModel):
        label: str = ""
        count: int = 0
        weight: int

    with pytest.raises(ConversionError, match="weight"):
        reader(LEAF, Large)


# --- out


class Plan(Enum):
    PLAIN = "plain"


class LeafRow(msgspec.Struct, frozen=True):
    label: UUID
    count: int


@dataclass(frozen=True)
class LeafData:
    label: Decimal
    count: int | None

    @property
    def unused(self) -> str:
        return "not in the message"


ID = UUID("6f0f2c4e-0000-4000-8000-000000000001")


@pytest.mark.parametrize(
    ("value", "label", "count"),
    [
        (LeafRow(ID, 3), str(ID), 3),
        (LeafData(Decimal("1E+3"), None), "1000", 0),
        (LeafModel(label="m", count=2), "m", 2),
        ({"label": date(2026, 1, 5)}, "2026-01-05", 0),
        ({"label": datetime(2026, 1, 5, 9, tzinfo=UTC)}, "2026-01-05T09:00:00Z", 0),
        ({"label": Plan.PLAIN, "count": 1}, "plain", 1),
        (LeafMessage(label="same"), "same", 0),
    ],
)
def test_rows_of_every_kind_become_messages(value: Any, label: str, count: int) -> None:
    assert writer(LEAF)(value) == LeafMessage(label=label, count=count)


def test_nested_rows_enums_and_times_become_messages() -> None:
    written: Any = writer(TREE)(
        {
            "plan": Plan.PLAIN,
            "plans": ["two_words"],
            "leaves": (LeafRow(ID, 1), {"count": 2}),
            "ratio": Decimal("0.5"),
            "at": datetime(2026, 1, 5, tzinfo=UTC),
        }
    )
    assert (written.plan, list(written.plans), written.ratio) == (1, [2], 0.5)
    assert [leaf.count for leaf in written.leaves] == [1, 2]
    assert written.at.ToDatetime(tzinfo=UTC) == datetime(2026, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        {"plan": "unknown"},
        {"colour": "red"},
        {"number": "many"},
        {"at": datetime(2026, 1, 5)},  # noqa: DTZ001
        {"text": ["a list"]},
        make_dataclass("Bare", [("text", str)])("x"),
    ],
)
def test_what_does_not_fit_is_an_error_of_the_program(value: Any) -> None:
    with pytest.raises(ConversionError, match=r"convert\.test\.Tree"):
        writer(TREE)(value)
