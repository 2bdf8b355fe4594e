"""Which fields of an event class are personal, and whose they are: compiled once from the annotations.

``Personal[...]`` may mark a field of the event, of a nested model, or the elements of a tuple or of a dict.
What a field reads as once its person is erased depends on its type: None where it may be None, an empty
tuple, list or dict, else the text ``[erased]``. A field of any other type must be optional to be personal.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from forecourt.events import AnyEvent, PersonalData
from forecourt.privacy.cipher import is_sealed

ERASED = "[erased]"
"""What a text reads as after its person was erased."""


class PersonalFieldError(Exception):
    """A class marks a field as personal in a way that cannot be erased. Found at start."""


Slot = tuple[Any, Any, str, Any]
"""A place in an event's decoded JSON that holds a personal value: the container, the key or index in it, the path,
and what goes there once the person is erased. Bare tuples, because decoding makes very many."""


@dataclass(frozen=True)
class Leaf:
    """A personal value."""

    erased: Any


@dataclass(frozen=True)
class Fields:
    """The fields of a model that are, or hold, personal values."""

    parts: tuple[tuple[str, "Node"], ...]


@dataclass(frozen=True)
class Items:
    """A tuple, list or dict whose elements are, or hold, personal values."""

    part: "Node"


Node = Leaf | Fields | Items


@dataclass(frozen=True)
class PersonalFields:
    """The personal fields of one event class; ``person`` is the field with the person's id, else the stream's."""

    person: str | None
    fields: Fields

    def person_of(self, data: dict[str, Any], stream: str) -> str:
        """Whose the personal values of an event are: the id in the field, else the stream's, as text."""
        found = data.get(self.person) if self.person is not None else None
        return stream.partition("-")[2] if found is None else str(found)

    def slots(self, data: dict[str, Any]) -> list[Slot]:
        """The places of personal values in decoded JSON; where there is none, or it does not fit, none."""
        found: list[Slot] = []
        _collect(self.fields, data, "", found)
        return found

    def paths(self) -> Iterator[tuple[str, Leaf]]:
        """Every path, with 0 for any index."""
        return _leaves(self.fields, "")

    def sealed_anywhere(self, data: dict[str, Any]) -> list[Slot]:
        """Every encrypted value, wherever it is: for data of an older version, whose class is gone."""
        today = {_pattern(path): leaf for path, leaf in self.paths()}
        found: list[Slot] = []
        _collect_sealed(data, "", today, found)
        return found


def personal_fields(cls: type[AnyEvent]) -> PersonalFields | None:
    """The personal fields of an event class, None where it has none. Raises `PersonalFieldError`."""
    fields = _fields(cls, cls.__qualname__)
    if fields is None:
        return None
    person = cls.person
    if person is not None and person not in cls.model_fields:
        raise PersonalFieldError(f"{cls.__qualname__}: person={person!r} is no field")
    return PersonalFields(person, fields)


def _fields(cls: type[BaseModel], where: str) -> Fields | None:
    parts = []
    for name, field in cls.model_fields.items():
        marked = any(isinstance(mark, PersonalData) for mark in field.metadata)
        node = _node(field.annotation, marked, f"{where}.{name}")
        if node is not None:
            parts.append((name, node))
    return Fields(tuple(parts)) if parts else None


def _node(annotation: Any, marked: bool, where: str) -> Node | None:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _node(args[0], marked or _is_marked(annotation), where)
    if origin in (Union, types.UnionType):
        return _union(args, marked, where)
    if marked:
        return Leaf(_empty(annotation, where))
    if origin in (tuple, list, frozenset, set):
        return _items([arg for arg in args if arg is not Ellipsis], where)
    if origin is dict:
        return _items([args[1]], where)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _fields(annotation, where)
    return None


def _union(args: tuple[Any, ...], marked: bool, where: str) -> Node | None:
    others = [arg for arg in args if arg is not type(None)]
    optional = len(others) < len(args)
    if marked and optional:
        return Leaf(None)
    if optional and len(others) == 1 and _is_marked(others[0]):
        return Leaf(None)
    nodes = [_node(arg, marked, where) for arg in others]
    if all(node is None for node in nodes):
        return None
    if len(others) > 1:
        raise PersonalFieldError(f"{where}: one of several types, personal as a whole or not at all")
    return nodes[0]


def _is_marked(annotation: Any) -> bool:
    marks = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return any(isinstance(mark, PersonalData) for mark in marks)


def _items(elements: list[Any], where: str) -> Items | None:
    nodes = [_node(element, False, where) for element in elements]
    if all(node is None for node in nodes):
        return None
    if len(nodes) > 1 or nodes[0] is None:
        raise PersonalFieldError(f"{where}: elements of different kinds cannot be personal")
    return Items(nodes[0])


def _empty(annotation: Any, where: str) -> Any:
    if annotation is str:
        return ERASED
    origin = get_origin(annotation)
    if origin is dict:
        return {}
    if origin in (list, frozenset, set) or (origin is tuple and Ellipsis in get_args(annotation)):
        return []
    raise PersonalFieldError(
        f"{where}: must be optional to be personal: nothing can stand for it once erased"
    )


def _collect(node: Fields | Items, data: Any, prefix: str, found: list[Slot]) -> None:
    if isinstance(node, Fields):
        if not isinstance(data, dict):
            return
        for name, part in node.parts:
            value = data.get(name)
            if value is None:
                continue
            if isinstance(part, Leaf):
                found.append((data, name, prefix + name, part.erased))
            else:
                _collect(part, value, f"{prefix}{name}.", found)
        return
    for key, value in _elements(data):
        if value is None:
            continue
        if isinstance(node.part, Leaf):
            found.append((data, key, f"{prefix}{key}", node.part.erased))
        else:
            _collect(node.part, value, f"{prefix}{key}.", found)


def _elements(data: Any) -> list[tuple[Any, Any]]:
    if isinstance(data, dict):
        return list(data.items())
    return list(enumerate(data)) if isinstance(data, list) else []


def _collect_sealed(data: Any, prefix: str, today: dict[str, Leaf], found: list[Slot]) -> None:
    for key, value in _elements(data):
        path = f"{prefix}{key}"
        if is_sealed(value):
            leaf = today.get(_pattern(path))
            found.append((data, key, path, ERASED if leaf is None else leaf.erased))
        elif isinstance(value, dict | list):
            _collect_sealed(value, f"{path}.", today, found)


def _leaves(node: Node, prefix: str) -> Iterator[tuple[str, Leaf]]:
    if isinstance(node, Leaf):
        yield prefix.rstrip("."), node
    elif isinstance(node, Items):
        yield from _leaves(node.part, f"{prefix}0.")
    else:
        for name, part in node.parts:
            yield from _leaves(part, f"{prefix}{name}.")


def _pattern(path: str) -> str:
    """A path with every index as 0."""
    return ".".join("0" if part.isdigit() else part for part in path.split("."))
