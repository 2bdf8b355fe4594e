"""``python -m audit serve|project|relay``."""

from audit.service import service
from forecourt.cli import main

main(service)
