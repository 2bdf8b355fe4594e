"""Entries about who looks at personal data in a terminal, with the database's password and without a token."""

import getpass
from collections.abc import Iterable
from uuid import UUID, uuid4

from forecourt.audit.entries import MAX_SUBJECTS, PersonalDataRead
from forecourt.audit.trail import AuditTrail, Origin


class OperatorNotes:
    """Notes what one run of ``command`` shows, for the account that the operating system knows it to be of.

    ``claimed`` is the actor that somebody says to ask for; nobody has checked that, so it stands beside the account.
    ``purpose`` is what they say it is for.
    """

    def __init__(self, trail: AuditTrail, command: str, *, claimed: str = "", purpose: str = "") -> None:
        self._trail = trail
        self._command = command
        self._roles = ("operator", f"for:{claimed}"[:200]) if claimed else ("operator",)
        self._purpose = purpose[:200]
        self._origin = Origin(uuid4(), f"operator:{getpass.getuser()}")

    async def shown(self, subjects: Iterable[UUID]) -> None:
        """Note whose data is shown next. Raises `forecourt.audit.trail.AuditUnavailable`: then it must not be."""
        found = tuple(dict.fromkeys(subjects))
        entry = PersonalDataRead(
            rpc=self._command,
            subjects=found[:MAX_SUBJECTS],
            subject_count=len(found),
            roles=self._roles,
            dealers=("*",),
            brands=("*",),
            purpose=self._purpose,
        )
        await self._trail.record(entry, self._origin)
