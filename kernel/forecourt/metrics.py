"""All metrics of all processes, by the conventions of Prometheus: base units, ``forecourt_`` before the name.

Those of the read models are beside them, in `forecourt.projections.metrics`. Labels hold names that the program
knows beforehand, never ids, persons or stores: their number is bounded.
"""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)

# --- gRPC edge

COMMANDS = Counter("forecourt_commands", "Commands by outcome", ["service", "rpc", "outcome"])
COMMAND_SECONDS = Histogram(
    "forecourt_command_duration_seconds", "Time to answer a command", ["service", "rpc"], buckets=_LATENCY
)
QUERIES = Counter("forecourt_queries", "Queries by outcome", ["service", "rpc", "outcome"])
QUERY_SECONDS = Histogram(
    "forecourt_query_duration_seconds", "Time to answer a query", ["service", "rpc"], buckets=_LATENCY
)
STREAMED = Counter("forecourt_streamed_messages", "Messages received in streams", ["service", "rpc"])

# --- access

TOKEN_KEY_READS = Counter(
    "forecourt_token_key_reads", "Key sets of tokens, read or fetched, by outcome", ["source", "outcome"]
)
TLS_RELOADS = Counter("forecourt_tls_reloads", "Changed certificates by whether they were taken", ["outcome"])
TLS_EXPIRES = Gauge(
    "forecourt_tls_certificate_expiry_timestamp_seconds", "When the gRPC server's certificate expires"
)
RATE_LIMITED = Counter("forecourt_rate_limited_calls", "Calls refused because an identity calls too often")
OPEN_STREAMS = Gauge("forecourt_open_streams", "Streaming calls that are open")
DROPPED_STREAMS = Counter("forecourt_dropped_streams", "Streams ended because of the other side", ["reason"])

# --- event store

APPEND_BATCH = Histogram("forecourt_append_batch_events", "Events written in one transaction", buckets=_SIZES)
FAILED_SNAPSHOTS = Counter(
    "forecourt_failed_snapshots", "Snapshots of long streams that could not be stored; their commands were"
)

# --- privacy

LOST_KEYS = Counter(
    "forecourt_person_keys_lost", "Lookups of persons whose key is gone without having been destroyed"
)

# --- audit

AUDIT_ENTRIES = Counter("forecourt_audit_entries", "Entries of the audit that are stored", ["kind"])
AUDIT_LOST = Counter(
    "forecourt_audit_failed_entries", "Entries that could not be stored; their calls were refused"
)
AUDIT_WAITING = Gauge("forecourt_audit_waiting_entries", "Entries that wait to be stored")
AUDIT_SECONDS = Histogram(
    "forecourt_audit_wait_duration_seconds", "Time until an entry is stored", buckets=_LATENCY
)

# --- messaging

RELAYED = Counter("forecourt_relay_confirmed_events", "Events that the broker has confirmed", ["service"])
RELAYED_BY_NAME = Counter(
    "forecourt_relay_published_events",
    "Events handed to the broker by name, some twice after a failure",
    ["service", "event"],
)
RELAY_RETURNED = Counter("forecourt_relay_returned_events", "Events that no queue wanted", ["service"])
RELAY_ERRORS = Counter("forecourt_relay_errors", "Failures of the relay, which it retries", ["service"])
RELAY_LAG_EVENTS = Gauge(
    "forecourt_relay_lag_events", "Positions between the store's head and the relay", ["service"]
)
RELAY_LAG_SECONDS = Gauge(
    "forecourt_relay_lag_seconds", "Age of the oldest event not confirmed yet", ["service"]
)
RELAY_UNCONFIRMED = Gauge("forecourt_relay_unconfirmed_events", "Events sent but not confirmed", ["service"])

# --- worker

HANDLED = Counter("forecourt_handled_events", "Events handled by outcome", ["service", "handler", "outcome"])
HANDLER_SECONDS = Histogram(
    "forecourt_handler_duration_seconds", "Time to handle an event", ["service", "handler"], buckets=_LATENCY
)
RETRIES = Counter("forecourt_handler_retries", "Events put off for another attempt", ["service", "handler"])
PARKED = Counter("forecourt_parked_events", "Events given up after the last attempt", ["service", "handler"])
TIMER_RUNS = Counter("forecourt_timer_runs", "Runs of timers by outcome", ["service", "timer", "outcome"])

# --- traces

SPANS = Counter("forecourt_trace_spans", "Spans of traces, sent to the collector or dropped", ["outcome"])

# --- deliveries to customers

DELIVERIES = Counter(
    "forecourt_deliveries", "Attempts to deliver a message by outcome", ["channel", "provider", "outcome"]
)
DELIVERY_SECONDS = Histogram(
    "forecourt_delivery_duration_seconds", "Time of one attempt", ["channel", "provider"], buckets=_LATENCY
)
