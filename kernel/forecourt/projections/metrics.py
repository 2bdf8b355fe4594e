"""What the read models report to Prometheus. Labels are names of services and projections only."""

from prometheus_client import Counter, Gauge, Histogram

_LABELS = ("service", "projection")

LEADING = Gauge("forecourt_projection_leading", "1 in the process that folds, 0 on standby", ("service",))
LAG_EVENTS = Gauge(
    "forecourt_projection_lag_events",
    "Positions between the end of the event store and what a read model is folded up to",
    _LABELS,
)
LAG_SECONDS = Gauge(
    "forecourt_projection_lag_seconds", "Age of the oldest event that a read model has not taken in", _LABELS
)
BATCH_EVENTS = Histogram(
    "forecourt_projection_batch_events",
    "Events per committed batch",
    ("service",),
    buckets=(1, 2, 5, 10, 50, 100, 500, 1_000, 5_000),
)
EVENTS = Counter("forecourt_projection_events_total", "Events that a read model has taken in", _LABELS)
QUARANTINED = Gauge(
    "forecourt_projection_quarantined", "Events that wait in quarantine for a fix and a rebuild", _LABELS
)
