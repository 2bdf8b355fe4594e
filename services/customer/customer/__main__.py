"""``python -m customer serve|project|relay|work``."""

from customer.service import service
from forecourt.cli import main

main(service)
