"""Why a command to an opportunity may be refused."""

from forecourt.errors import NotFound, Refused


class OpportunityClosed(Refused):
    """The opportunity is won or lost."""


class OpportunityNotLost(Refused):
    """Only a lost opportunity can be reopened."""


class StageNotAhead(Refused):
    """Stages only go forward."""


class CompetitorRequired(Refused):
    """Lost to a competitor, but to which?"""


class TestDriveNotFound(NotFound):
    """The opportunity has no such test drive to come."""


class TestDriveUnclear(Refused):
    """The opportunity has several test drives to come; name one."""


class CustomerDiffers(Refused):
    """The order is for another customer than the opportunity."""
