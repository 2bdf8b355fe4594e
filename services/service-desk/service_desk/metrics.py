"""What the service desk measures beside the kernel. Labels are words of the domain."""

from typing import get_args

from prometheus_client import Histogram

from service_desk.return_visit import Trigger

CSI = Histogram(
    "forecourt_return_visit_csi_points",
    "Customer satisfaction of completed return visits, 0 to 10",
    ["trigger"],
    buckets=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
)
# From the start, so that Prometheus sees the first answer of each kind as an increase.
for _trigger in get_args(Trigger):
    CSI.labels(_trigger)
