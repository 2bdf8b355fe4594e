"""Acts on rows whose time has come, on each by itself: one that fails keeps back none of those after it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import TypeVar

import msgspec

from forecourt import logs
from forecourt.messaging import retries
from forecourt.projections.projection import Projection
from forecourt.projections.queries import PageRequest, ReadModels, Where

log = logs.get(__name__)

R = TypeVar("R", bound=msgspec.Struct)

PAGE = 50
"""Rows that are acted on at once, unless told otherwise."""


async def act_on_each(
    read_models: ReadModels,
    projection: Projection[R],
    act: Callable[[R], Awaitable[None]],
    *,
    where: Sequence[Where],
    order: str,
    rows: int = PAGE,
    pages: int | None = None,
) -> None:
    """Await ``act`` for the rows that fit, in the order of a column: ``rows`` at once, up to ``pages`` times.

    The next run takes the rest. ``pages`` must be far more than may fail, which would be the first ones every time.

    Raises an ``ExceptionGroup`` of what failed, after all the others were acted on.
    """
    token, failures = "", list[Exception]()
    for _ in count() if pages is None else range(pages):
        page = await read_models.page(projection, where=where, order=[order], page=PageRequest(rows, token))
        answers = await asyncio.gather(*map(act, page.items), return_exceptions=True)
        for row, answer in zip(page.items, answers, strict=True):
            if isinstance(answer, Exception):
                key = str(projection.key_of(row))
                log.error("due and failed", row=projection.name, key=key, error=retries.describe(answer))
                failures.append(answer)
        token = page.next_page_token
        if not token:
            break
    if failures:
        raise ExceptionGroup(f"due in {projection.name}", failures)
