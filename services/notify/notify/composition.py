"""Puts providers and sender together from the settings."""

from collections.abc import Mapping, Sequence

import asyncpg

from forecourt.clock import Clock
from forecourt.command_handler import CommandHandler
from forecourt.projections.queries import ReadModels
from notify.claims import Claims
from notify.notification import Channel
from notify.providers.port import Provider
from notify.providers.sms_generic import GenericSms
from notify.providers.sms_twilio import TwilioSms
from notify.providers.smtp import SmtpMail, SmtpServer
from notify.sender import Sender
from notify.settings import NotifySettings


def make_providers(settings: NotifySettings, clock: Clock) -> Mapping[Channel, Sequence[Provider]]:
    """The providers of each channel, in order of preference."""
    return {
        "sms": [_sms(name, settings) for name in settings.notify_sms_providers],
        "email": [
            SmtpMail(
                SmtpServer.parse(url),
                name="smtp" if number == 1 else f"smtp{number}",
                sender=settings.notify_mail_from,
                timeout=settings.notify_timeout_seconds,
                clock=clock,
            )
            for number, url in enumerate(settings.notify_smtp_urls, start=1)
        ],
    }


def _sms(name: str, settings: NotifySettings) -> Provider:
    if name == "generic":
        return GenericSms(
            settings.notify_sms_generic_url,
            settings.notify_sms_generic_key.get_secret_value(),
            callback_url=settings.callback(name),
            timeout=settings.notify_timeout_seconds,
        )
    return TwilioSms(
        settings.notify_twilio_url,
        settings.notify_twilio_account_sid,
        settings.notify_twilio_auth_token.get_secret_value(),
        sender=settings.notify_twilio_from,
        callback_url=settings.callback(name),
        timeout=settings.notify_timeout_seconds,
    )


def make_sender(
    settings: NotifySettings,
    *,
    commands: CommandHandler,
    read_models: ReadModels,
    pool: "asyncpg.Pool[asyncpg.Record]",
    clock: Clock,
) -> Sender:
    """The sender of this process."""
    return Sender(
        commands=commands,
        read_models=read_models,
        claims=Claims(pool),
        clock=clock,
        providers=make_providers(settings, clock),
        house=settings.house,
        delays=settings.notify_retry_delays,
        concurrency=settings.notify_concurrency,
    )
