"""``python -m notify serve|project|relay|work``."""

from forecourt.cli import main
from notify.service import service

main(service)
