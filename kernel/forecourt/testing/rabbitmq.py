"""Virtual hosts of their own on a RabbitMQ server, by its management API."""

import base64
import os
import urllib.request
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit
from uuid import uuid4

HTTP_SECONDS = 30.0


@dataclass(frozen=True)
class RabbitMQServer:
    """A RabbitMQ server on which virtual hosts may be created."""

    uri: str
    management_url: str

    @classmethod
    def of(cls, uri: str) -> "RabbitMQServer":
        """The server of an AMQP URI; its management page is where ``RABBITMQ_MANAGEMENT_URL`` says, or as usual."""
        return cls(uri, os.environ.get("RABBITMQ_MANAGEMENT_URL") or _usual_management_url(uri))

    def create_vhost(self, name: str = "") -> str:
        """A new virtual host for the user of the URI, by default with a name that nobody has: its AMQP URI.

        Raises ``OSError`` where the management page does not answer or refuses.
        """
        name = name or f"test-{uuid4().hex}"
        self._request("PUT", f"/api/vhosts/{name}")
        user = quote(unquote(urlsplit(self.uri).username or "guest"), safe="")
        self._request(
            "PUT", f"/api/permissions/{name}/{user}", b'{"configure": ".*", "write": ".*", "read": ".*"}'
        )
        return urlunsplit(urlsplit(self.uri)._replace(path=f"/{name}"))

    def delete_vhost(self, uri: str) -> None:
        """Delete what `create_vhost` made, with all queues and connections in it."""
        self._request("DELETE", f"/api/vhosts/{urlsplit(uri).path.removeprefix('/')}")

    def definitions(self, uri: str) -> str:
        """Every queue, exchange and binding of a virtual host, by name and routing key, as JSON."""
        return self._request("GET", f"/api/definitions/{urlsplit(uri).path.removeprefix('/')}").decode()

    def _request(self, method: str, path: str, body: bytes = b"") -> bytes:
        parts = urlsplit(self.management_url)
        address = urlunsplit((parts.scheme, _host(parts), path, "", ""))
        request = urllib.request.Request(address, data=body or None, method=method)  # noqa: S310
        account = f"{unquote(parts.username or 'guest')}:{unquote(parts.password or 'guest')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(account.encode()).decode())
        request.add_header("Content-Type", "application/json")
        # Not through a proxy: the server is on this machine or on the developer's network.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=HTTP_SECONDS) as response:
            answer: bytes = response.read()
        return answer


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _usual_management_url(uri: str) -> str:
    parts = urlsplit(uri)
    account = parts.netloc.rpartition("@")[0] or "guest:guest"
    return f"http://{account}@{parts.hostname}:15672"
