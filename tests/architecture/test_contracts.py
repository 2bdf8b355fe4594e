"""Consumer-driven contracts: what a service reads of another one's events is what that one writes."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from forecourt.discovery import find_services
from forecourt.events import Event, ForeignEvent
from forecourt.privacy.fields import personal_fields
from forecourt.registry import Registry

REGISTRIES: dict[str, Registry] = {service.name: service.registry for service in find_services()}
READ = [(service.name, event) for service in find_services() for event in service.foreign]


def owner_of(event: type[ForeignEvent]) -> tuple[Registry, type[Event]]:
    """The service that writes an event, and the class that it writes."""
    service = event.event_type.partition(".")[0]
    assert service in REGISTRIES, f"{event.event_type}: no service {service} is installed"
    registry = REGISTRIES[service]
    written = registry.own_events().get(event.event_type)
    assert written is not None, f"{event.event_type}: {service} writes no such event"
    return registry, written


def misfits(written: Any, read: Any, where: str) -> Iterator[str]:
    """Where a value that fits the type ``written`` may not fit the type ``read``."""
    written, read = bare(written), bare(read)
    if read is Any or written == read:
        return
    possible, accepted = alternatives(written), alternatives(read)
    if len(possible) > 1 or len(accepted) > 1:
        for one in possible:
            if all(list(misfits(one, other, where)) for other in accepted):
                yield f"{where}: may be {one}, which {read} does not accept"
    elif get_origin(written) is Literal:
        if get_origin(read) is Literal:
            if unknown := set(get_args(written)) - set(get_args(read)):
                yield f"{where}: may be {sorted(unknown)}, which is not read"
        else:
            kinds = {type(value) for value in get_args(written)}
            if kinds != {read}:
                yield f"{where}: is one of {get_args(written)}, read as {read}"
    elif is_sequence(written) and is_sequence(read):
        yield from misfits(get_args(written)[0], get_args(read)[0], f"{where}[]")
    elif is_model(written) and is_model(read):
        yield from missing_fields(written, read, where)
    else:
        yield f"{where}: is {written}, read as {read}"


def missing_fields(written: type[BaseModel], read: type[BaseModel], where: str) -> Iterator[str]:
    """The fields that are read and not written, or do not fit."""
    for name, info in read.model_fields.items():
        theirs = written.model_fields.get(name)
        if theirs is None:
            yield f"{where}.{name}: is not written"
        else:
            yield from misfits(theirs.annotation, info.annotation, f"{where}.{name}")


def bare(annotation: Any) -> Any:
    """A type without its annotations."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; of any other type, itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def is_sequence(annotation: Any) -> bool:
    """Whether a type is a tuple, list or set of one kind."""
    return get_origin(annotation) in (tuple, list, frozenset, set)


def is_model(annotation: Any) -> bool:
    """Whether a type is a pydantic model."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@pytest.mark.parametrize(
    ("reader", "event"), READ, ids=[f"{name}-{event.event_type}" for name, event in READ]
)
class TestWhatIsReadIsWritten:
    def test_its_owner_writes_it_to_the_category_that_is_read(
        self, reader: str, event: type[ForeignEvent]
    ) -> None:
        registry, written = owner_of(event)
        assert registry.category_of(written) == event.category

    def test_every_version_ever_written_can_be_read(self, reader: str, event: type[ForeignEvent]) -> None:
        _, written = owner_of(event)
        assert set(event.versions) == set(range(1, written.event_version + 1))

    def test_the_fields_that_are_read_are_written_and_fit(
        self, reader: str, event: type[ForeignEvent]
    ) -> None:
        _, written = owner_of(event)
        assert list(missing_fields(written, event, event.event_type)) == []

    def test_personal_fields_are_read_as_personal_and_of_the_same_person(
        self, reader: str, event: type[ForeignEvent]
    ) -> None:
        """Else it would read ciphertext, or look for the wrong person's key."""
        _, written = owner_of(event)
        theirs = personal_paths(written)
        ours = {path for path in theirs if is_read(event, path)}
        assert personal_paths(event) == ours
        if ours:
            assert event.person == written.person


def personal_paths(event: type[Event] | type[ForeignEvent]) -> set[str]:
    """The paths of personal fields, with the elements of sequences as 0."""
    found = personal_fields(event)
    return set() if found is None else {path for path, _ in found.paths()}


def is_read(event: type[BaseModel], path: str) -> bool:
    """Whether a class has a field at a path."""
    name, _, rest = path.partition(".")
    field = event.model_fields.get(name)
    if field is None or not rest:
        return field is not None
    models = models_in(field.annotation)
    return any(is_read(model, rest.removeprefix("0.")) for model in models)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation mentions."""
    if is_model(annotation):
        yield annotation
    for one in get_args(annotation):
        yield from models_in(one)


def test_a_field_that_is_not_written_or_does_not_fit_is_found() -> None:
    """The check itself can fail."""

    class Written(BaseModel):
        kind: Literal["a", "b"]
        price: int | None
        items: tuple[str, ...]

    class Read(BaseModel):
        kind: Literal["a"]
        price: int
        items: tuple[int, ...]
        colour: str

    found = "\n".join(missing_fields(Written, Read, "event"))
    for words in ("kind: may be ['b']", "price: may be", "items[]: is", "colour: is not written"):
        assert words in found


def test_services_read_events_of_others() -> None:
    assert len(READ) > 20
