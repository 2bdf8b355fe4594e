"""Make sure that RabbitMQ and Prometheus can be started, before tests with a time limit ask for them."""

import os
import sys

from forecourt.embedded import EmbeddedServerError
from forecourt.embedded.prometheus import find_or_fetch
from forecourt.embedded.rabbitmq import find_or_install


def main() -> None:
    """Get what is missing; RabbitMQ only where ``AMQP_URI`` names no server."""
    try:
        if not os.environ.get("AMQP_URI"):
            find_or_install()
        find_or_fetch("promtool")
    except EmbeddedServerError as error:
        sys.exit(f"servers: {error}")


main()
