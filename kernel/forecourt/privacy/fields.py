"""Which fields of an event class are personal, and whose they are: compiled once from the annotations.

``Personal[...]`` may mark a field of the event, of a nested model, or the elements of a tuple or of a dict.
What a field reads as once its person is erased depends on its type: None where it may be None, an empty
tuple, list or dict, else the text ``[erased]``. A field of any other type must be optional to be personal.
"""

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from forecourt.events import AnyEvent, PersonalData

ERASED = "[erased]"
"""What a text reads as after its person was erased."""


def erased_text(text: str) -> str:
    """What a text reads as after its person was erased: where nothing was said, nothing."""
    return ERASED if text else text


class PersonalFieldError(Exception):
    """A class marks a field as personal in a way that cannot be erased. Found at start."""


SEALED = "_personal"
"""The member of stored data that holds what is encrypted; no field can have that name."""


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

Replace = Callable[[Any], Any]


@dataclass(frozen=True)
class PersonalFields:
    """The personal fields of one event class; ``person`` is the field with the person's id, else the stream's."""

    person: str | None
    fields: Fields

    def person_of(self, data: dict[str, Any], stream: str) -> str:
        """Whose the personal values of an event are: the id in the field, else the stream's, as text."""
        found = data.get(self.person) if self.person is not None else None
        return stream.partition("-")[2] if found is None else str(found)

    @cached_property
    def _erasers(self) -> list[tuple[str, Replace]]:
        return [(name, _replacing(part, _erasing)) for name, part in self.fields.parts]

    def split(self, data: dict[str, Any]) -> dict[str, Any]:
        """Take the personal values out of decoded JSON; the fields that held them, as they were.

        What stays in ``data`` is what the event reads as once its person is erased.
        """
        taken = {}
        for name, erase in self._erasers:
            value = data.get(name)
            if value is None:
                continue
            left = erase(value)
            if left != value:
                taken[name], data[name] = value, left
        return taken

    def masked(self, data: dict[str, Any], mask: str) -> dict[str, Any]:
        """Decoded JSON, encrypted or not, with ``mask`` in the place of every personal value."""
        shown: dict[str, Any] = _replacing(self.fields, lambda leaf: lambda value: mask)(data)
        shown.pop(SEALED, None)
        return shown

    def paths(self) -> Iterator[tuple[str, Leaf]]:
        """Every path, with 0 for any index."""
        return _leaves(self.fields, "")


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


def _replacing(node: Node, by: Callable[[Leaf], Replace]) -> Replace:
    """What puts something in the place of all that is personal in a value; data that does not fit stays."""
    if isinstance(node, Leaf):
        return by(node)
    if isinstance(node, Fields):
        return partial(_replace_fields, [(name, _replacing(part, by)) for name, part in node.parts])
    return partial(_replace_items, _replacing(node.part, by))


def _replace_fields(parts: list[tuple[str, Replace]], value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    replaced = value.copy()
    for name, replace in parts:
        if (one := value.get(name)) is not None:
            replaced[name] = replace(one)
    return replaced


def _replace_items(replace: Replace, value: Any) -> Any:
    if isinstance(value, list):
        return [None if one is None else replace(one) for one in value]
    if isinstance(value, dict):
        return {key: None if one is None else replace(one) for key, one in value.items()}
    return value


def _erasing(leaf: Leaf) -> Replace:
    erased = leaf.erased

    def erase(value: Any) -> Any:
        # Where nothing was said, there is nothing to hide.
        return erased if value or value not in ("", [], {}) else value

    return erase


def _leaves(node: Node, prefix: str) -> Iterator[tuple[str, Leaf]]:
    if isinstance(node, Leaf):
        yield prefix.rstrip("."), node
    elif isinstance(node, Items):
        yield from _leaves(node.part, f"{prefix}0.")
    else:
        for name, part in node.parts:
            yield from _leaves(part, f"{prefix}{name}.")
