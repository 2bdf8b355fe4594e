"""Checkpoints of read models, moved by compare-and-set in the transaction that writes the rows.

A process that believes it holds the lease but does not (a paused machine, a cut network) fails here, before
it has written anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Moved(Enum):
    """The answer to an attempt to move checkpoints."""

    OK = "ok"
    """They stood where expected and were moved."""
    IGNORED = "ignored"
    """They stand at the new position already: somebody else did this very work."""
    MISMATCH = "mismatch"
    """They stand elsewhere (a switch, a drop, an older copy): load them anew."""
    AHEAD = "ahead"
    """They stand past the new position: somebody else is faster."""


class CheckpointMoved(Exception):
    """A checkpoint was not where this process left it: what it holds in memory is void."""

    def __init__(self, answer: Moved) -> None:
        super().__init__(f"checkpoint: {answer.value}")
        self.answer = answer


@dataclass(frozen=True)
class Standing:
    """Where a checkpoint is believed to stand, and the table that it is about."""

    id: int
    relation: str
    position: int


async def move(connection: Any, schema: str, standing: Sequence[Standing], position: int, news: str) -> Moved:
    """Move checkpoints from where they are ``standing`` to ``position``, all or none, and announce ``news``.

    The table's name is compared as well: a switch gives it to another table, with another checkpoint.

    Must run in a transaction, which the caller rolls back unless the answer is OK, and before anything else
    is written in it: a switch takes the registry's row first and the table after it, and so must everybody.
    """
    row = await connection.fetchrow(
        f"""
        WITH moved AS (
            UPDATE "{schema}".projection AS p SET position = $3, updated_at = now()
            FROM unnest($1::bigint[], $2::bigint[], $6::text[]) AS u(id, expected, relation)
            WHERE p.id = u.id AND p.position = u.expected AND p.relation = u.relation RETURNING 1)
        SELECT (SELECT count(*) FROM moved) AS moved, pg_notify($4, $5)
        """,
        [each.id for each in standing],
        [each.position for each in standing],
        position,
        channel(schema),
        news,
        [each.relation for each in standing],
    )
    # Announced with the same statement: what does not commit is not announced either.
    if row["moved"] != len(standing):
        found = await connection.fetch(
            f'SELECT p.position FROM "{schema}".projection AS p'
            " JOIN unnest($1::bigint[], $2::text[]) AS u(id, relation) USING (id, relation)",
            [each.id for each in standing],
            [each.relation for each in standing],
        )
        return classify([each["position"] for each in found], len(standing), position)
    return Moved.OK


def classify(found: Sequence[int], wanted: int, position: int) -> Moved:
    """Why checkpoints that stand at ``found`` could not be moved to ``position``."""
    if len(found) == wanted and all(each == position for each in found):
        return Moved.IGNORED
    if len(found) == wanted and all(each > position for each in found):
        return Moved.AHEAD
    return Moved.MISMATCH


def channel(schema: str) -> str:
    """The notification channel on which moved checkpoints are announced."""
    return f"{schema}_projection"
