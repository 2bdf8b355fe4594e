"""The garbage collector during bulk work.

Events and rows hold no cycles, but come by the ten thousand: left alone, the collector walks everything that
lives in the process again and again and takes half of the processor time of a rebuild.
"""

import contextlib
import gc
from collections.abc import Iterator

BULK_THRESHOLD = 200_000
"""Objects made since the last look before the collector looks again; some tens of megabytes of events."""

_users = 0
_before: tuple[int, int, int] = gc.get_threshold()


@contextlib.contextmanager
def collecting_rarely() -> Iterator[None]:
    """Have the collector look rarely, until the last of all users in this process is done."""
    global _users, _before
    if _users == 0:
        _before = gc.get_threshold()
        gc.set_threshold(BULK_THRESHOLD, 20, 100)
    _users += 1
    try:
        yield
    finally:
        _users -= 1
        if _users == 0:
            gc.set_threshold(*_before)
