"""Private PostgreSQL and RabbitMQ servers for a laptop and for tests.

They listen on free ports of 127.0.0.1, keep everything in a folder that the caller names, and end with the process
that started them. Servers that already run on the machine are never touched. For production, set ``DATABASE_URL`` and
``AMQP_URI`` instead.
"""

from forecourt.embedded.postgres import EmbeddedPostgres
from forecourt.embedded.process import EmbeddedServerError
from forecourt.embedded.rabbitmq import EmbeddedRabbitMQ

__all__ = ["EmbeddedPostgres", "EmbeddedRabbitMQ", "EmbeddedServerError"]
