"""Whatever is commanded in whatever order: a message is in one pair of hands, and never sent after it was."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forecourt.errors import ForecourtError
from forecourt.events import Event
from forecourt.testing.given import CONTEXT, an_id, later
from notify import notification as n
from tests.golden.test_notify_golden import SAMPLES

ID = an_id("notification")
PROVIDERS = st.sampled_from(["generic", "twilio"])


def failure(provider: str, attempt: int, outcome: Any, final: bool) -> n.RecordFailure:
    if final:
        return n.RecordFailure(
            notification_id=ID,
            provider=provider,
            attempt=attempt,
            code="c",
            outcome=outcome,
            dead_letter="outcome_unknown" if outcome == "unknown" else "refused",
        )
    return n.RecordFailure(
        notification_id=ID,
        provider=provider,
        attempt=attempt,
        code="c",
        outcome=outcome,
        retry_at=later(minutes=1),
        next_provider=provider,
    )


ATTEMPTS = st.integers(1, 4)
COMMANDS = st.one_of(
    st.builds(lambda p: n.StartAttempt(notification_id=ID, provider=p, address="+86"), PROVIDERS),
    st.builds(
        lambda p, a: n.RecordAccepted(notification_id=ID, provider=p, attempt=a, reference="r"),
        PROVIDERS,
        ATTEMPTS,
    ),
    st.builds(
        failure,
        PROVIDERS,
        ATTEMPTS,
        st.sampled_from(["not_sent", "unknown", "withdrawn", "refused"]),
        st.booleans(),
    ),
    st.builds(
        lambda p, s: n.RecordReceipt(notification_id=ID, provider=p, reference="r", status=s),
        PROVIDERS,
        st.sampled_from(["accepted", "delivered", "bounced"]),
    ),
    st.just(n.RequeueDeadLetter(notification_id=ID, note="again")),
    st.just(n.SuppressNotification(notification_id=ID, reason="opted_out")),
    st.just(n.ExpireNotification(notification_id=ID)),
    st.just(n.DeferNotification(notification_id=ID, until=later(hours=1), reason="quiet_hours")),
)


@given(st.lists(COMMANDS, max_size=25))
def test_a_message_is_never_sent_twice(commands: list[Any]) -> None:
    history: list[Event] = [SAMPLES[0]]
    for command in commands:
        try:
            history += n.notification.decide(n.notification.fold(history), command, CONTEXT)
        except ForecourtError:
            continue
    open_attempt, unknown_at, was_sent = False, "", False
    for event in history:
        match event:
            case n.ProviderAttempted():
                assert not open_attempt, "two attempts at once"
                assert not was_sent, "sent after it was sent"
                assert unknown_at in ("", event.provider), "handed over while nobody knew"
                open_attempt = True
            case n.ProviderFailed():
                open_attempt = False
                if event.outcome == "unknown":
                    unknown_at = event.provider
                elif event.outcome != "not_sent":
                    unknown_at = ""
            case n.NotificationAccepted() | n.NotificationDelivered() | n.NotificationBounced():
                was_sent, open_attempt = True, False
