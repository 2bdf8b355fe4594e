"""Settings: a mistake is named by its variable, and production is never sent to the sandbox."""

from datetime import time, timedelta

import pytest

from forecourt.config import ConfigError, load
from notify.providers.smtp import SmtpServer
from notify.quiet_hours import QuietHours
from notify.settings import NotifySettings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [field.upper() for field in NotifySettings.model_fields]:
        monkeypatch.delenv(name, raising=False)


def test_everything_can_be_said_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "NOTIFY_SMS_PROVIDERS": "twilio, generic",
        "NOTIFY_SMTP_URLS": "smtp://a:25,smtps://u:p%40w@b",
        "NOTIFY_QUIET_HOURS": "22:00-07:30",
        "NOTIFY_STORES": "D001=鸿通浦东店, D002=鸿通徐汇店",
        "NOTIFY_RETRY_DELAYS": "0.5,10",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = load(NotifySettings)
    assert settings.notify_sms_providers == ("twilio", "generic")
    assert settings.notify_smtp_urls == ("smtp://a:25", "smtps://u:p%40w@b")
    assert settings.notify_quiet_hours == QuietHours(time(22), time(7, 30))
    assert settings.house.store("D002") == "鸿通徐汇店"
    assert settings.house.store("D009") == "D009"
    assert settings.notify_retry_delays == (timedelta(seconds=0.5), timedelta(seconds=10))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NOTIFY_SMS_PROVIDERS", "pigeon"),
        ("NOTIFY_SMTP_URLS", "http://a"),
        ("NOTIFY_SMTP_URLS", "smtp://a?starttls=perhaps"),
        ("NOTIFY_QUIET_HOURS", "late"),
        ("NOTIFY_STORES", "D001"),
        ("NOTIFY_RETRY_DELAYS", "soon"),
        ("NOTIFY_CONCURRENCY", "0"),
        ("NOTIFY_TIMEOUT_SECONDS", "-1"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        load(NotifySettings)


def test_production_must_name_its_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORECOURT_ENV", "production")
    monkeypatch.setenv("NOTIFY_SMS_PROVIDERS", "generic")
    with pytest.raises(ConfigError) as refused:
        load(NotifySettings)
    assert "NOTIFY_SMS_GENERIC_KEY" in str(refused.value)
    assert "NOTIFY_SMTP_URLS" in str(refused.value)
    assert "TWILIO" not in str(refused.value)


def test_a_mail_server_is_read_from_its_url() -> None:
    assert SmtpServer.parse("smtps://u:p%40w@b") == SmtpServer("b", 465, "u", "p@w", True, False)
    assert SmtpServer.parse("smtp://a:587?starttls=yes") == SmtpServer("a", 587, None, None, False, True)
    assert SmtpServer.parse("smtp://a") == SmtpServer("a", 25, None, None, False, None)
