"""Reads leads in ADF/XML 1.0 (Auto-lead Data Format, ``application/x-adf+xml``).

A document holds one or more ``<prospect>``; each is read on its own, so that one bad prospect does not
take the others with it. What is wrong is answered as a reason for people, never with a value of the person.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydantic import TypeAdapter, ValidationError

from trade.fields import Email, Line, Moment, TypedPhone
from trade.vin import check_vin

MAX_PROSPECTS = 100
MAX_DEPTH = 50

# expat knows no multi-byte encodings besides the Unicode ones, and Chinese portals do send these.
_DECLARED_ENCODING = re.compile(
    rb"^\s*<\?xml[^>]*encoding=[\"'](gb2312|gbk|gb18030|big5)[\"']", re.IGNORECASE
)

_line = TypeAdapter(Line)
_phone = TypeAdapter(TypedPhone)
_email = TypeAdapter(Email)
_moment = TypeAdapter(Moment)


class MalformedAdf(Exception):
    """The document or prospect cannot become a lead; the message says why."""


@dataclass(frozen=True)
class AdfLead:
    """A prospect that can become a lead. ``phone`` is as typed, ``requested_at`` the customer's moment."""

    name: str
    phone: str | None
    email: str | None
    model: str | None
    vin: str | None
    comments: str
    provider: str
    requested_at: datetime | None


@dataclass(frozen=True)
class AdfProspect:
    """One prospect of a document: its own XML, and either the lead or the reason why it is none."""

    xml: bytes
    lead: AdfLead | None
    reason: str


def read_adf(document: bytes) -> list[AdfProspect]:
    """The prospects of a document; a document that is no ADF is answered as one malformed prospect."""
    try:
        prospects = list(_prospects(_parse(document)))
    except MalformedAdf as problem:
        return [AdfProspect(document, None, str(problem))]
    if len(prospects) == 1:
        return [_read(prospects[0], document)]
    return [_read(prospect, tostring(prospect, encoding="utf-8")) for prospect in prospects]


def _parse(document: bytes) -> Element:
    try:
        declared = _DECLARED_ENCODING.match(document)
        if declared is None:
            root: Element = fromstring(document)
        else:
            root = fromstring(document.decode("gb18030" if declared[1].lower() != b"big5" else "big5"))
    except ParseError as error:
        line, column = error.position
        raise MalformedAdf(f"not well-formed XML, at line {line}, column {column}") from error
    except DefusedXmlException as error:
        raise MalformedAdf("declares entities or a DTD, which a lead never needs") from error
    except (UnicodeDecodeError, LookupError, ValueError) as error:
        raise MalformedAdf("not readable in the encoding that it declares") from error
    _check_depth(root)
    return root


def _check_depth(root: Element) -> None:
    """Recursive readers would not survive a document that is nested without end."""
    level = [root]
    for _ in range(MAX_DEPTH):
        level = [child for element in level for child in element]
        if not level:
            return
    raise MalformedAdf(f"is nested more than {MAX_DEPTH} levels deep")


def _prospects(root: Element) -> Iterator[Element]:
    if root.tag != "adf":
        raise MalformedAdf("the root element is not <adf>")
    found = root.findall("prospect")
    if not found:
        raise MalformedAdf("has no <prospect>")
    if len(found) > MAX_PROSPECTS:
        raise MalformedAdf(f"has more than {MAX_PROSPECTS} prospects")
    yield from found


def _read(prospect: Element, xml: bytes) -> AdfProspect:
    try:
        return AdfProspect(xml, _lead(prospect), "")
    except MalformedAdf as problem:
        return AdfProspect(xml, None, str(problem))


def _lead(prospect: Element) -> AdfLead:
    contact = prospect.find("customer/contact")
    if contact is None:
        raise MalformedAdf("has no <customer> with a <contact>")
    vehicle = prospect.find("vehicle")
    if vehicle is None:
        raise MalformedAdf("has no <vehicle>")
    phone, email = _usable(contact, "phone", _phone), _usable(contact, "email", _email)
    if phone is None and email is None:
        raise MalformedAdf("the contact has no valid <phone> or <email>")
    return AdfLead(
        name=_name(contact),
        phone=phone,
        email=email,
        model=_model(vehicle),
        vin=_vin(vehicle),
        comments=_comments(prospect),
        provider=_provider(prospect),
        requested_at=_requested_at(prospect),
    )


def _text(element: Element | None) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())


def _checked_line(text: str, tag: str) -> str:
    try:
        return _line.validate_python(text)
    except ValidationError as error:
        raise MalformedAdf(f"<{tag}>: {error.errors(include_input=False)[0]['msg']}") from error


def _name(contact: Element) -> str:
    parts = {name.get("part", "full"): _text(name) for name in contact.findall("name")}
    full = parts.get("full") or " ".join(
        part for key in ("first", "middle", "last") if (part := parts.get(key))
    )
    if not full:
        raise MalformedAdf("the contact has no <name>")
    return _checked_line(full, "name")


def _usable(contact: Element, tag: str, adapter: TypeAdapter[str]) -> str | None:
    """The first valid one of the contact's numbers or addresses."""
    for element in contact.findall(tag):
        try:
            return adapter.validate_python(_text(element))
        except ValidationError:
            continue
    return None


def _model(vehicle: Element) -> str | None:
    text = " ".join(part for tag in ("make", "model") if (part := _text(vehicle.find(tag))))
    if not text:
        raise MalformedAdf("<vehicle> names neither <make> nor <model>")
    return _checked_line(text, "model")[:80]


def _vin(vehicle: Element) -> str | None:
    text = _text(vehicle.find("vin"))
    if not text:
        return None
    try:
        return check_vin(text).vin
    except ValueError as error:
        raise MalformedAdf(f"<vin>: {error}") from error


def _comments(prospect: Element) -> str:
    return _text(prospect.find("customer/comments"))[:4000]


def _provider(prospect: Element) -> str:
    return _text(prospect.find("provider/name"))[:200]


def _requested_at(prospect: Element) -> datetime | None:
    text = _text(prospect.find("requestdate"))
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return _moment.validate_python(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except ValueError as error:
        raise MalformedAdf("<requestdate> is not a date and time of ISO 8601, of our time") from error
