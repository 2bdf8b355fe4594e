"""What the service desk measures beside the kernel. Labels are words of the domain."""

from prometheus_client import Histogram

CSI = Histogram(
    "forecourt_return_visit_csi_points",
    "Customer satisfaction of completed return visits, 0 to 10",
    ["trigger"],
    buckets=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
)
