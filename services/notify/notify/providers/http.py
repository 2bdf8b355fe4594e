"""What the HTTP providers share: requests, and what a failed one tells."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from forecourt.http import read_up_to
from notify.providers.port import Failed

MAX_ANSWER = 65_536
"""Bytes of an answer that are read."""

CONNECT_SECONDS = 3.0

NOT_NOW = frozenset({429, 503})
"""Status codes that say: nothing was taken, come back later."""


@dataclass(frozen=True)
class Reply:
    """An answer, as far as it could be read; ``body`` is empty where it is no JSON object."""

    status: int
    body: dict[str, Any]


class HttpClient:
    """Makes requests and says what is certain about them. Times in seconds.

    Every request has a connection of its own: a kept one that the provider has closed in the meantime would make
    each restart of the provider an unknown outcome, a new one fails before anything is sent.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(CONNECT_SECONDS, timeout))

    async def request(self, method: str, url: str, **arguments: Any) -> Reply | Failed:
        """The reply, or what its absence tells."""
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout) as session,
                session.request(method, url, allow_redirects=False, **arguments) as response,
            ):
                raw = await read_up_to(response.content, MAX_ANSWER)
                return Reply(response.status, _object(raw))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL):
            return Failed("not_sent", "connect_failed")
        except TimeoutError:
            return Failed("unknown", "timeout")
        except (aiohttp.ClientError, OSError):
            return Failed("unknown", "connection_lost")


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def text_field(body: Mapping[str, Any], name: str) -> str:
    """A field of a reply, empty where it is no short string."""
    value = body.get(name)
    return value if isinstance(value, str) and len(value) <= 200 else ""
