"""The end of a lead's personal data: its key is destroyed."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

from forecourt import logs
from forecourt.privacy.keys import KeyStore
from sales.lead import RecordLeadShredding

log = logs.get(__name__)


async def shred(
    lead_id: UUID, keys: KeyStore, exists: Callable[[str], Awaitable[bool]], at: datetime
) -> RecordLeadShredding | None:
    """Destroy a lead's key; the command that records it, None where the key is not the lead's alone.

    ``exists`` says whether a stream has events: keys go by the id alone, and that of a customer, who has the same id as
    a lead, is destroyed by an approved erasure only. New leads are refused such ids; this is for those from before.
    """
    if await exists(f"customer-{lead_id}"):
        log.error("a lead has the id of a customer, and its key stays", lead_id=str(lead_id))
        return None
    destroyed = await keys.destroy(str(lead_id), at)
    return RecordLeadShredding(
        lead_id=lead_id,
        key_id=destroyed.key_id,
        destroyed_at=destroyed.at,
        fingerprint=destroyed.fingerprint,
        proof=destroyed.proof,
    )
