"""``python -m sales serve|project|relay|work``."""

from forecourt.cli import main
from sales.service import service

main(service)
