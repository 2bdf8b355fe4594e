"""Make sure that RabbitMQ can be started, before tests with a time limit ask for it."""

import os
import sys

from forecourt.embedded import EmbeddedServerError
from forecourt.embedded.rabbitmq import find_or_install


def main() -> None:
    """Install RabbitMQ where it is missing, unless ``AMQP_URI`` names a server."""
    if os.environ.get("AMQP_URI"):
        return
    try:
        find_or_install()
    except EmbeddedServerError as error:
        sys.exit(f"servers: {error}")


main()
