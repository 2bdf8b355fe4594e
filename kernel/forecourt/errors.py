"""The tree of errors that callers may see, each with a stable slug.

::

    ForecourtError
    ├── InvalidInput          a field is malformed, missing or out of range     INVALID_ARGUMENT
    ├── NotFound              no such object, or none that the caller may see   NOT_FOUND
    ├── AlreadyExists         the object is there already                       ALREADY_EXISTS
    ├── Refused               the object's state does not allow the command     FAILED_PRECONDITION
    ├── VersionConflict       somebody else was faster; reload and try again    ABORTED
    ├── Unauthenticated       no identity, or none that can be believed         UNAUTHENTICATED
    ├── Forbidden             the identity lacks a permission                   PERMISSION_DENIED
    ├── LimitExceeded         too much, too fast or too large                   RESOURCE_EXHAUSTED
    ├── Unavailable           a server that we need does not answer; retry      UNAVAILABLE
    └── DataDamaged           what is stored about it cannot be read            DATA_LOSS

A domain names its refusals by subclassing: ``class NotYetPaid(Refused): ...`` has the slug ``not-yet-paid``.
One place (``forecourt.rpc.errors``) turns them into gRPC status; nothing else catches broadly.
"""

import re
from typing import ClassVar

from pydantic import ValidationError


def _slug(class_name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", class_name).lower()


class ForecourtError(Exception):
    """Base of every error that is answered to a caller.

    ``slug`` is stable and meant for programs, ``message`` for people; ``fields`` maps the path of each
    offending input field to the reason, ``info`` is what else programs are told. None may carry a personal value.
    """

    slug: ClassVar[str] = "error"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.slug = _slug(cls.__name__)

    def __init__(
        self, message: str = "", *, fields: dict[str, str] | None = None, info: dict[str, str] | None = None
    ) -> None:
        super().__init__(message or type(self).slug.replace("-", " "))
        self.fields = fields or {}
        self.info = info or {}

    @property
    def message(self) -> str:
        """The text for people."""
        return str(self.args[0])


class InvalidInput(ForecourtError):
    """A field of the input is malformed, missing or out of range; ``fields`` names it."""


class NotFound(ForecourtError):
    """There is no such object, or none that the caller may see."""


class AlreadyExists(ForecourtError):
    """The object that should be created is there already."""


class Refused(ForecourtError):
    """The state of the object does not allow the command."""


class VersionConflict(ForecourtError):
    """The stream is not at the version that the caller expected."""


class Unauthenticated(ForecourtError):
    """The caller has no identity, or none that can be believed."""


class Forbidden(ForecourtError):
    """The caller's identity lacks a permission."""


class LimitExceeded(ForecourtError):
    """The caller asked for too much, too fast. ``retry_after`` is when to try again, in seconds."""

    def __init__(
        self,
        message: str = "",
        *,
        fields: dict[str, str] | None = None,
        info: dict[str, str] | None = None,
        retry_after: float = 1.0,
    ) -> None:
        super().__init__(message, fields=fields, info=info)
        self.retry_after = retry_after


class Unavailable(ForecourtError):
    """A server that we need does not answer; the same call may succeed later."""


class DataDamaged(ForecourtError):
    """What is stored cannot be read, and trying again will not help."""


def invalid_input(error: ValidationError) -> InvalidInput:
    """Turn a pydantic validation error into `InvalidInput`, naming each field but never its value."""
    fields: dict[str, str] = {}
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        path = ".".join(str(part) for part in problem["loc"]) or "message"
        fields.setdefault(path, problem["msg"].removeprefix("Value error, "))
    return InvalidInput("; ".join(f"{path}: {reason}" for path, reason in fields.items()), fields=fields)
