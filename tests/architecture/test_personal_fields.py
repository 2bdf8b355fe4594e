"""Every text of every event is somebody's and encrypted, or one of those that are known to say nothing of a person.

And every read model that is made of somebody's texts forgets them, or is known to keep none.
"""

from typing import Any, get_args

import pytest
from pydantic import BaseModel

from forecourt.discovery import find_services
from forecourt.events import AnyEvent, Envelope, Event
from forecourt.projections.projection import Projection
from forecourt.service import Service

EVENTS = [cls for service in find_services() for cls in service.registry.own_events().values()]

CODES = {
    *(
        "vin",
        "model",
        "colour",
        "part_number",
        "template",
        "time_zone",
        "source",
        "calendar",
        "cycle",
        "rule",
    ),
    *("store", "to_store", "from_store", "dealers", "brands", "roles", "rpc", "slug", "code", "field", "bay"),
    *(
        "provider",
        "previous",
        "next_provider",
        "reference",
        "reason_event_type",
        "reason_stream",
        "competitor",
    ),
    *("invoice_number", "claim_number", "supplier", "item", "currency", "sha256", "question"),
    *("fingerprint", "proof", "mask", "country", "purpose", "event_type", "service"),
}
"""What machines or price lists say, and names of things."""

STAFF = {
    *("actor", "adviser_id", "technician_id", "inspector_id", "inspector", "responsible_id", "owner_id"),
    *("salesperson", "salesperson_id", "notified_by", "approved_by", "requested_by", "rejected_by"),
    *("completed_by", "acknowledged_by"),
}
"""Numbers and names of those who work here: their employer's record, not a customer's."""

GOODS = {
    "Line.description": "what is sold, as on the invoice",
    "SaleLine.description": "what is sold, as on the invoice",
    "AncillaryOrderAdded.description": "what is sold, as on the invoice",
    "PdiFailed.defects": "of a car that nobody owns yet",
    "HandoverChecklistCompleted.checks": "the items of a sheet",
    "ImportRowRefused.reason": "which of our rules a row breaks, without the value and without a word of the sender's",
    "LeadQuarantined.reason": "what is wrong with the document, without a value",
    "ImportStarted.file_name": "of a list of many customers, by which the import is known; it is nobody's",
}

KEEPS_NONE = {
    "customer.history": "that something happened, with codes and names of staff",
    "notify.notification_history": "that something happened, with codes of providers and rules",
    "service_desk.due": "times",
    "service_desk.return_visit": "scores and times",
    "service_desk.vehicle_timeline": "the car: a list of fields, none of them a person's",
}
"""Read models that take nothing personal from the personal events they are made of, with what they keep."""

FED = [
    (service, projection)
    for service in find_services()
    for projection in service.projections
    if any(service.registry.personal_fields(cls) for cls in projection.events if cls is not Envelope)
]


def texts(cls: type[BaseModel], personal: set[str]) -> list[str]:
    """The fields that hold plain text and are not personal, with those of nested models."""
    found = []
    for name, field in cls.model_fields.items():
        if name in personal:
            continue
        found += [f"{cls.__name__}.{name}"] if _is_text(field.annotation) else []
        found += [text for model in _models(field.annotation) for text in texts(model, set())]
    return found


def _is_text(annotation: Any) -> bool:
    if annotation is str:
        return True
    return any(_is_text(inner) for inner in get_args(annotation) if not isinstance(inner, str))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.event_name)
def test_every_text_is_personal_or_known_not_to_be(cls: type[Event]) -> None:
    service = next(one for one in find_services() if cls in one.registry.own_events().values())
    fields = service.registry.personal_fields(cls)
    personal = {name for name, _ in fields.fields.parts} if fields is not None else set()
    unknown = [
        text
        for text in texts(cls, personal)
        if text not in GOODS and text.partition(".")[2] not in CODES | STAFF
    ]
    assert not unknown


def test_the_walk_sees_texts_however_deep_they_are() -> None:
    class Inner(BaseModel):
        said: str | None

    class Outer(BaseModel):
        inner: tuple[Inner, ...]
        told: dict[str, list[str]]
        number: int
        hidden: str

    assert texts(Outer, {"hidden"}) == ["Inner.said", "Outer.told"]


def _forgets(service: Service, projection: Projection[Any], cls: type[AnyEvent]) -> bool:
    """Whether the rows made of an event are rewritten, all of them, when the key of its person is destroyed."""
    shredded = {one.__name__ for one in projection.events if one.__name__.endswith("Shredded")}
    if cls.person is not None:
        # Not the row of the erased person's own stream: any number of rows that name them.
        shredded &= {one.__name__ for one in projection.sweeps}
    return bool(shredded)


@pytest.mark.parametrize(
    ("service", "projection"), FED, ids=[f"{service.name}.{one.name}" for service, one in FED]
)
def test_every_read_model_forgets_whom_it_is_fed_with(service: Service, projection: Projection[Any]) -> None:
    if f"{service.name}.{projection.name}" in KEEPS_NONE:
        return
    personal = [cls for cls in projection.events if service.registry.personal_fields(cls) is not None]
    assert [cls.__name__ for cls in personal if not _forgets(service, projection, cls)] == []


def test_only_read_models_of_personal_events_are_listed() -> None:
    assert KEEPS_NONE.keys() <= {f"{service.name}.{projection.name}" for service, projection in FED}
