"""The audit service, put together. Its events and its table are the kernel's: every process writes them."""

from audit.api import api
from forecourt.audit.entries import SERVICE, audit
from forecourt.audit.read_model import entries
from forecourt.service import Service

service = Service(name=SERVICE, deciders=[audit], projections=[entries], apis=[api])
