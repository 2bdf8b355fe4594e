"""For every alert: series that make it fire, and the same world a little better, in which it stays silent.

Series are in promtool's notation, a sample a minute: ``0+5x30`` begins at 0 and grows by 5, thirty times. ``fires`` and
``silent`` are looked at after ``at``.
"""

from dataclasses import dataclass

from tools import reference_rules


@dataclass(frozen=True)
class Case:
    """What an alert is tried on; ``labels`` are those that it fires with, beside its name and severity."""

    alert: str
    labels: dict[str, str]
    fires: dict[str, str]
    silent: dict[str, str]
    at: str = "30m"
    says: str = ""
    """The description that it fires with, where a case is about that."""


CALLS = 'forecourt_commands_total{service="sales", rpc="PlaceOrder", outcome="%s"}'
BUCKET = 'forecourt_command_duration_seconds_bucket{service="sales", rpc="PlaceOrder", le="%s"}'
DELIVERIES = 'forecourt_deliveries_total{channel="sms", provider="twilio", outcome="%s"}'
PUBLISHED = 'forecourt_relay_published_events_total{service="service_desk", event="%s"}'
TIMER = 'forecourt_timer_runs_total{service="notify", timer="send_due", outcome="%s"}'
RELAY = 'forecourt_relay_%s{service="sales", instance="r1"}'
UP = 'up{job="forecourt", app="sales", role="%s", instance="%s"}'
BROKER = 'up{job="rabbitmq", instance="rabbitmq:15692"}'
PROCESSES = {
    f'up{{job="forecourt", app="{app}", role="{role}", instance="{app}-{role}"}}': "1x40"
    for app, role in reference_rules.processes()
}
LAG = 'forecourt_projection_lag_seconds{service="sales", projection="orders", instance="p1"}'
LEADING = 'forecourt_projection_leading{service="sales", instance="%s"}'
KEYS = 'forecourt_token_key_reads_total{source="url", outcome="%s"}'
EXPIRES = 'forecourt_tls_certificate_expiry_timestamp_seconds{app="sales", instance="%s"}'
SALES = {"service": "sales"}

CASES = (
    Case(
        "ForecourtRoleDown",
        {"app": "sales", "role": "relay"},
        {UP % ("relay", "a"): "1x5 0x30", UP % ("relay", "b"): "1x5 0x30"},
        {UP % ("relay", "a"): "1x5 0x30", UP % ("relay", "b"): "1x35"},
    ),
    Case(
        "ForecourtRoleMissing",
        {"app": "sales", "role": "relay"},
        # The other services' relays go on.
        {name: up for name, up in PROCESSES.items() if 'app="sales", role="relay"' not in name},
        PROCESSES,
    ),
    Case(
        "ForecourtTimerSilent",
        {"service": "notify", "timer": "send_due"},
        {TIMER % "ok": "0+1x10 10x80"},
        {TIMER % "ok": "0+1x90"},
        at="80m",
    ),
    Case(
        "ForecourtTimerSilent",
        {"service": "notify", "timer": "send_due"},
        {TIMER % "ok": "0x40", TIMER % "error": "0x40"},
        {TIMER % "ok": "0x40", TIMER % "error": "0+1x40"},
    ),
    Case(
        "ForecourtTimerFailing",
        {"service": "notify", "timer": "send_due"},
        {TIMER % "ok": "5x40", TIMER % "error": "0+1x40"},
        {TIMER % "ok": "0+1x40", TIMER % "error": "0+1x40"},
    ),
    Case(
        "ForecourtTimerFailing",
        {"service": "notify", "timer": "send_due"},
        # It has never succeeded, and a process of another release does not count that.
        {TIMER % "error": "0+1x40"},
        {TIMER % "error": "1x40"},
    ),
    Case(
        "ForecourtBrokerDown",
        {"job": "rabbitmq", "instance": "rabbitmq:15692"},
        {BROKER: "0x40"},
        {BROKER: "1x40"},
        says="rabbitmq:15692 does not answer Prometheus.",
    ),
    Case(
        "ForecourtBrokerDown",
        {},
        # Its pod was not to be scheduled again: the target is gone, and its series with it.
        {BROKER: "1x5 0x5 stale", UP % ("relay", "a"): "1x40"},
        # It was away for the first minutes, and is back.
        {BROKER: "_x20 1x20", UP % ("relay", "a"): "1x40"},
        says="Prometheus knows no node of RabbitMQ.",
    ),
    Case(
        "ForecourtBrokerDown",
        {},
        {UP % ("relay", "a"): "1x40", 'up{job="rabbitmq-queues", instance="rabbitmq:15692"}': "1x40"},
        # Nothing of ours is there that would need it.
        {'up{job="other"}': "1x40"},
    ),
    Case(
        "ForecourtErrorBudgetBurnsFast",
        SALES,
        {CALLS % "ok": "0+98x120", CALLS % "store-unavailable": "0+2x120"},
        # What the caller did wrong does not count.
        {CALLS % "ok": "0+98x120", CALLS % "invalid-input": "0+20x120", CALLS % "internal": "0+1x120"},
        at="2h",
    ),
    Case(
        "ForecourtErrorBudgetBurnsSlowly",
        SALES,
        {CALLS % "ok": "0+99x480", CALLS % "deadline-exceeded": "0+1x480"},
        {CALLS % "ok": "0+1000x480", CALLS % "deadline-exceeded": "0+1x480"},
        at="8h",
    ),
    Case(
        "ForecourtCommandsSlow",
        SALES,
        {BUCKET % "1": "0+90x40", BUCKET % "5": "0+100x40", BUCKET % "+Inf": "0+100x40"},
        {
            **{BUCKET % le: "0+100x40" for le in ("1", "5", "+Inf")},
            # An import may take its time.
            (BUCKET % "1").replace("PlaceOrder", "ImportCustomers"): "0x40",
            (BUCKET % "+Inf").replace("PlaceOrder", "ImportCustomers"): "0+20x40",
        },
    ),
    Case(
        "ForecourtProjectionLag",
        {"service": "sales", "projection": "orders"},
        {LAG: "0+10x40", LEADING % "p1": "1x40"},
        # What another process measured while it led is long out of date.
        {LAG: "0+10x40", LEADING % "p1": "0x40", LEADING % "p2": "1x40"},
    ),
    Case(
        "ForecourtProjectionWithoutLeader",
        SALES,
        {LEADING % "p1": "0x40", LEADING % "p2": "0x40"},
        {LEADING % "p1": "0x40", LEADING % "p2": "1x40"},
    ),
    Case(
        "ForecourtProjectionQuarantine",
        {"service": "sales", "projection": "orders"},
        {'forecourt_projection_quarantined{service="sales", projection="orders"}': "1x40"},
        {'forecourt_projection_quarantined{service="sales", projection="orders"}': "0x40"},
    ),
    Case(
        "ForecourtRelayLag",
        SALES,
        {RELAY % "lag_seconds": "0+10x40", RELAY % "leading": "1x40"},
        # The gauge of a relay on standby stands where it stood when it led.
        {RELAY % "lag_seconds": "0+10x40", RELAY % "leading": "0x40"},
    ),
    Case(
        "ForecourtRelayWithoutLeader",
        SALES,
        {RELAY % "leading": "0x40"},
        {RELAY % "leading": "0x40", 'forecourt_relay_leading{service="sales", instance="r2"}': "1x40"},
    ),
    Case(
        "ForecourtRelayErrors",
        SALES,
        {RELAY % "errors_total": "0+1x40"},
        {RELAY % "errors_total": "0x20 1x20"},
    ),
    Case("ForecourtRelayBlocked", SALES, {RELAY % "blocked": "1x40"}, {RELAY % "blocked": "0x27 1x10"}),
    Case(
        "ForecourtOldestEvent",
        SALES,
        {RELAY % "lag_seconds": "0+60x40", RELAY % "leading": "1x40"},
        {RELAY % "lag_seconds": "599x40", RELAY % "leading": "1x40"},
    ),
    Case(
        "ForecourtEventsParked",
        {"service": "sales", "handler": "plan"},
        {'forecourt_parked_events_total{service="sales", handler="plan"}': "0x25 1x15"},
        {'forecourt_parked_events_total{service="sales", handler="plan"}': "1x40"},
    ),
    Case(
        "ForecourtParkedForLong",
        {"queue": "sales.plan.parked"},
        {'forecourt_parking_queue_messages{queue="sales.plan.parked"}': "1x400"},
        {'forecourt_parking_queue_messages{queue="sales.plan.parked"}': "1x100 0x300"},
        at="6h",
    ),
    Case(
        "ForecourtHandlersRetry",
        {"service": "sales", "handler": "plan"},
        {
            'forecourt_handler_retries_total{service="sales", handler="plan"}': "0+3x40",
            'forecourt_handled_events_total{service="sales", handler="plan", outcome="ok"}': "0+10x40",
        },
        {
            'forecourt_handler_retries_total{service="sales", handler="plan"}': "0+1x40",
            'forecourt_handled_events_total{service="sales", handler="plan", outcome="ok"}': "0+10x40",
        },
    ),
    Case(
        "ForecourtDeliveriesFail",
        {"channel": "sms", "provider": "twilio"},
        {DELIVERIES % "accepted": "0+7x40", DELIVERIES % "refused": "0+3x40"},
        {DELIVERIES % "accepted": "0+9x40", DELIVERIES % "refused": "0+1x40"},
    ),
    Case(
        "ForecourtDeadLetters",
        {"channel": "email", "reason": "refused"},
        {'forecourt_notifications_dead_lettered_total{channel="email", reason="refused"}': "0x25 1x15"},
        {'forecourt_notifications_dead_lettered_total{channel="email", reason="refused"}': "1x40"},
    ),
    Case(
        "ForecourtSlaBreaches",
        {},
        {PUBLISHED % "ComplaintReceived": "0+3x300", PUBLISHED % "SlaBreached": "0+1x300"},
        {PUBLISHED % "ComplaintReceived": "0+10x300", PUBLISHED % "SlaBreached": "0+1x300"},
        at="4h",
    ),
    Case(
        "ForecourtSlaBreaches",
        {},
        # All complaints came before the day.
        {PUBLISHED % "ComplaintReceived": "5x90", PUBLISHED % "SlaBreached": "0x30 2x60"},
        # One alone is told of by the escalation.
        {PUBLISHED % "ComplaintReceived": "5x90", PUBLISHED % "SlaBreached": "0x30 1x60"},
        at="80m",
        says="Breaches of the service level within a day come to 200% of the complaints received.",
    ),
    Case(
        "ForecourtSlaBreaches",
        {},
        # The relay began anew, and has not seen a complaint since.
        {PUBLISHED % "SlaBreached": "0x30 2x60"},
        {PUBLISHED % "ComplaintReceived": "0x30 2x60", PUBLISHED % "SlaBreached": "0x30 1x60"},
        at="80m",
        says="Breaches of the service level within a day come to 200% of the complaints received.",
    ),
    Case(
        "ForecourtAuditNotStored",
        {},
        {"forecourt_audit_failed_entries_total": "0x25 0+1x15"},
        {"forecourt_audit_failed_entries_total": "0+1x10 10x40"},
    ),
    Case(
        "ForecourtTokenKeysUnread",
        {"source": "url"},
        {KEYS % "failed": "0+1x60", KEYS % "ok": "5x60"},
        {KEYS % "failed": "0+1x60", KEYS % "ok": "0+1x60"},
        at="60m",
    ),
    Case(
        "ForecourtCertificateExpires",
        {"instance": "a"},
        {EXPIRES % "a": "1000000x90"},
        # Processes without TLS say 0.
        {EXPIRES % "a": "2000000x90", EXPIRES % "b": "0x90"},
        at="90m",
    ),
)
