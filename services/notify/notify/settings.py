"""Settings of notify, from the environment. The defaults fit the sandbox; production must name its own providers."""

from datetime import time, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from forecourt.config import ServiceSettings
from notify.notification import Language
from notify.policies import House
from notify.providers.smtp import SmtpServer
from notify.quiet_hours import QuietHours
from notify.retries import DEFAULT_DELAYS

SANDBOX_KEY = "sandbox-key-of-the-generic-gateway"
SANDBOX_SID = "AC00000000000000000000000000000000"
SANDBOX_TOKEN = "sandbox-token-of-the-twilio-gateway"  # noqa: S105  # opens nothing but the sandbox

OUTSIDE = ("notify_smtp_urls", "notify_mail_from", "notify_callback_url")
OF_PROVIDER = {
    "generic": ("notify_sms_generic_url", "notify_sms_generic_key"),
    "twilio": ("notify_twilio_account_sid", "notify_twilio_auth_token", "notify_twilio_from"),
}


def _listed(value: Any) -> Any:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def _quiet(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        start, end = (time.fromisoformat(part.strip()) for part in value.split("-"))
    except ValueError:
        raise ValueError("must be two times of day, such as 21:00-08:00") from None
    return QuietHours(start, end)


def _stores(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [part.split("=", 1) for part in value.split(",") if part.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("must be number=name pairs, separated by commas")
    return tuple((number.strip(), name.strip()) for number, name in pairs)


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return tuple(timedelta(seconds=float(part)) for part in _listed(value))
    except ValueError:
        raise ValueError("must be seconds, separated by commas") from None


class NotifySettings(ServiceSettings):
    """What the notify service needs to know. Times in seconds."""

    forecourt_env: Literal["development", "production"] = "development"
    """``production`` refuses the sandbox's addresses and keys: providers and senders have to be named."""

    notify_sms_providers: Annotated[
        tuple[Literal["generic", "twilio"], ...], NoDecode, BeforeValidator(_listed), Field(min_length=1)
    ] = ("generic", "twilio")
    """The SMS providers, in order of preference."""

    notify_sms_generic_url: str = "http://127.0.0.1:8026"
    """The generic SMS gateway."""

    notify_sms_generic_key: SecretStr = SecretStr(SANDBOX_KEY)
    """Signs requests to the generic gateway, and its reports."""

    notify_twilio_url: str = "http://127.0.0.1:8026"
    """Twilio, or a gateway of its shape."""

    notify_twilio_account_sid: str = SANDBOX_SID
    """The account at Twilio."""

    notify_twilio_auth_token: SecretStr = SecretStr(SANDBOX_TOKEN)
    """The account's token, which also signs Twilio's reports."""

    notify_twilio_from: str = "+8613900000000"
    """The number that messages come from, E.164."""

    notify_smtp_urls: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed), Field(min_length=1)] = (
        "smtp://127.0.0.1:2525",
    )
    """The mail servers, in order of preference; see `notify.providers.smtp.SmtpServer` for what a URL may say."""

    notify_mail_from: str = "Forecourt <service@forecourt.example>"
    """The sender of mails."""

    notify_callback_url: str = "http://127.0.0.1:9100"
    """Where providers reach the HTTP side of ``serve``, as they see it."""

    notify_quiet_hours: Annotated[QuietHours, NoDecode, BeforeValidator(_quiet)] = QuietHours()
    """When messages wait, in the customer's time zone."""

    notify_default_language: Language = "zh"
    """The language of customers who have said nothing."""

    notify_default_time_zone: str = "Asia/Shanghai"
    """The time zone of customers who have said nothing."""

    notify_stores: Annotated[tuple[tuple[str, str], ...], NoDecode, BeforeValidator(_stores)] = ()
    """Names of stores for messages: ``D001=鸿通浦东店,D002=...``."""

    notify_retry_delays: Annotated[
        tuple[timedelta, ...], NoDecode, BeforeValidator(_seconds), Field(min_length=1)
    ] = DEFAULT_DELAYS
    """Seconds between the rounds of attempts to send, separated by commas, by the (virtual) clock."""

    notify_concurrency: int = Field(default=16, ge=1, le=200)
    """Messages of one channel that are sent at once, per process."""

    notify_timeout_seconds: PositiveFloat = 8.0
    """How long a provider may take to answer, in real time."""

    @field_validator("notify_smtp_urls")
    @classmethod
    def _mail_servers(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            SmtpServer.parse(url)
        return urls

    @model_validator(mode="after")
    def _no_sandbox_in_production(self) -> Self:
        if self.forecourt_env == "production":
            needed = [*OUTSIDE, *(name for p in self.notify_sms_providers for name in OF_PROVIDER[p])]
            missing = [name.upper() for name in needed if name not in self.model_fields_set]
            if missing:
                raise ValueError(f"FORECOURT_ENV=production needs {', '.join(missing)}")
        return self

    @property
    def house(self) -> House:
        """The rules of the house."""
        return House(
            quiet=self.notify_quiet_hours,
            store_names=self.notify_stores,
            default_language=self.notify_default_language,
            default_time_zone=self.notify_default_time_zone,
        )

    def callback(self, provider: str) -> str:
        """The URL that a provider reports to."""
        return f"{self.notify_callback_url.rstrip('/')}/callbacks/sms/{provider}"
