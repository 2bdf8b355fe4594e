"""``python -m service_desk serve|project|relay|work``."""

from forecourt.cli import main
from service_desk.service import service

main(service)
