"""The events of other services that sales reads."""

from forecourt.events import ForeignEvent


class PersonalDataShredded(
    ForeignEvent, type="customer.PersonalDataShredded", category="customer", erases=True
):
    """A customer's personal data is erased."""


FOREIGN: tuple[type[ForeignEvent], ...] = (PersonalDataShredded,)
