"""Whom a call is about: found in messages by the options with which the protos mark fields, compiled at start."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import UUID

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from pydantic import BaseModel

PERSONAL = "crm.privacy.personal"
PERSON = "crm.privacy.person"
PURPOSE = "crm.privacy.purpose"

Path = tuple[FieldDescriptor, ...]
Find = Callable[[Message, BaseModel | None], list[UUID]]


class NobodyNamed(Exception):
    """An answer holds personal data, and no field of it or of the request says whose."""


class PurposeNotOfAList(Exception):
    """What personal data is asked for could be any text, and so could hold personal data itself."""


def persons_in_answers(method: MethodDescriptor) -> Find | None:
    """A function from an answer and its request to the persons whose data the answer holds.

    None where the answer has no personal field. Raises `NobodyNamed`.
    """
    if next(marked(method.output_type, PERSONAL), None) is None:
        return None
    paths = list(marked(method.output_type, PERSON))
    if paths:
        return lambda answer, _: _ids(value for path in paths for value in _values(answer, path))
    names = [path[0].name for path in marked(method.input_type, PERSON) if len(path) == 1]
    if not names:
        raise NobodyNamed(f"{method.full_name}: answers personal data, and no field says whose")

    def of_request(answer: Message, request: BaseModel | None) -> list[UUID]:
        return _ids(getattr(request, name, None) for name in names) if answer.ByteSize() else []

    return of_request


def persons_in_requests(method: MethodDescriptor) -> Callable[[BaseModel], list[UUID]] | None:
    """A function from a request to the persons that its outermost fields name; None where none can."""
    names = [path[0].name for path in marked(method.input_type, PERSON) if len(path) == 1]
    if not names:
        return None
    return lambda request: _ids(getattr(request, name, None) for name in names)


def purpose_in_requests(method: MethodDescriptor) -> str:
    """The field of a request that says what personal data is asked for, empty where none does.

    Raises `PurposeNotOfAList`: entries of the audit hold words of the program only.
    """
    for path in marked(method.input_type, PURPOSE):
        if len(path) > 1 or path[0].type != FieldDescriptor.TYPE_ENUM:
            raise PurposeNotOfAList(
                f"{method.full_name}: {path[-1].name} must be an enum of the request itself"
            )
        return path[0].name
    return ""


def marked(descriptor: Descriptor, option: str) -> Iterator[Path]:
    """The paths of all fields below a message that have an option, messages within themselves once."""
    extension = _extension(option)
    if extension is not None:
        yield from _marked(descriptor, extension, ())


def _extension(name: str) -> FieldDescriptor | None:
    try:
        return descriptor_pool.Default().FindExtensionByName(name)
    except KeyError:
        return None  # no proto of this process uses it


def _marked(descriptor: Descriptor, extension: FieldDescriptor, above: Path) -> Iterator[Path]:
    for field in descriptor.fields:
        path = (*above, field)
        options: Any = field.GetOptions()
        if options.Extensions[extension]:
            yield path
        inner = field.message_type
        if inner is not None and all(inner is not parent.message_type for parent in above):
            yield from _marked(inner, extension, path)


def _values(message: Any, path: Path) -> Iterator[Any]:
    field, rest = path[0], path[1:]
    value = getattr(message, field.name)
    many = value if field.is_repeated else (value,)
    if not rest:
        yield from many
        return
    if not field.is_repeated and not message.HasField(field.name):
        return
    for inner in many:
        yield from _values(inner, rest)


def subjects_of_request(model: BaseModel | None, message: Message | None) -> list[UUID]:
    """The objects that a request is about: the ids in its outermost fields, as far as they are ids."""
    if model is not None:
        values = [getattr(model, name) for name in type(model).model_fields]
        return _ids(value for value in values if isinstance(value, UUID))
    if message is None:
        return []
    fields = (field for field, _ in message.ListFields() if field.name.endswith("_id"))
    return _ids(getattr(message, field.name) for field in fields)


def _ids(values: Iterable[Any]) -> list[UUID]:
    """The values that are UUIDs, each once. What is none may be anything, so it is left out."""
    found: dict[UUID, None] = {}
    for value in values:
        if isinstance(value, UUID):
            found[value] = None
        elif isinstance(value, str) and len(value) == 36:
            try:
                found[UUID(value)] = None
            except ValueError:
                continue
    return list(found)
