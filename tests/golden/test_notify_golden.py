"""Every version of every event that notify ever wrote still loads."""

from datetime import UTC, datetime
from pathlib import Path

from forecourt.events import Event
from forecourt.testing import golden
from forecourt.testing.given import an_id
from notify import notification as n
from notify.service import service

FOLDER = Path(__file__).parent / "notify"
CUSTOMER = an_id("customer")
LATER = datetime(2026, 3, 3, 0, 0, tzinfo=UTC)

SAMPLES: list[Event] = [
    n.NotificationRequested(
        idempotency_key=an_id("notification"),
        customer_id=CUSTOMER,
        category="contract",
        channel="email",
        rule="vehicle_arrived",
        reason_event_id=an_id("reason"),
        reason_event_type="sales.VehicleArrived",
        reason_stream=f"order-{an_id('order')}",
        consent="contract",
        template="vehicle_arrived",
        template_version=1,
        language="zh",
        time_zone="Asia/Shanghai",
        address="wang@example.com",
        subject="您的爱车已到店",
        text="尊敬的王小明：您的爱车已到店",
        html="<p>尊敬的王小明：您的爱车已到店</p>",
        lifetime_hours=48,
        expires_at=LATER,
    ),
    n.NotificationDeferred(until=LATER, reason="quiet_hours"),
    n.NotificationSuppressed(customer_id=CUSTOMER, channel="sms", reason="opted_out"),
    n.ProviderAttempted(customer_id=CUSTOMER, provider="smtp", attempt=1, address="wang@example.com"),
    n.ProviderFailed(
        provider="smtp",
        attempt=1,
        code="smtp_451",
        outcome="not_sent",
        retry_at=LATER,
        next_provider="smtp2",
    ),
    n.ProviderFailedOver(previous="smtp", provider="smtp2"),
    n.NotificationAccepted(
        customer_id=CUSTOMER, channel="email", provider="smtp2", attempt=2, reference="m@forecourt.example"
    ),
    n.NotificationDelivered(customer_id=CUSTOMER, channel="sms", provider="generic", reference="g1"),
    n.NotificationBounced(
        customer_id=CUSTOMER, channel="sms", provider="generic", reference="g1", code="absent"
    ),
    n.NotificationExpired(customer_id=CUSTOMER, channel="sms"),
    n.NotificationDeadLettered(customer_id=CUSTOMER, channel="sms", reason="outcome_unknown"),
    n.NotificationErased(customer_id=CUSTOMER),
    n.DeadLetterRequeued(customer_id=CUSTOMER, note="number corrected", expires_at=LATER),
]


def test_every_event_ever_written_still_loads() -> None:
    golden.check(service.registry, FOLDER)


if __name__ == "__main__":
    print(golden.write_missing(service.registry, FOLDER, SAMPLES))
