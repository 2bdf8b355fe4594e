"""Settings from the environment, checked at start: a mistake is named by its variable and the reason.

A service adds its own by subclassing `ServiceSettings`, with fields named like the variables in small letters.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from forecourt.privacy.master import LocalMaster, MasterKey, VaultTransit, WithOld, development_master


class ConfigError(Exception):
    """A variable of the environment is missing or wrong; the message names it and says why."""


def _url(*schemes: str) -> Any:
    def check(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes:
            raise ValueError(f"must be a URL with scheme {' or '.join(schemes)}")
        return value

    return AfterValidator(check)


def _listed(value: object) -> object:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port``. Raises `ValueError`."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be host:port, the port 0 to 65535")
    return host.strip("[]"), int(port)


def _address(value: str) -> str:
    split_address(value)
    return value


Address = Annotated[str, AfterValidator(_address)]
DatabaseUrl = Annotated[str, _url("postgresql", "postgres")]
StoreUrl = Annotated[str, _url("postgresql", "postgres", "esdb", "esdb+discover", "kurrentdb", "memory")]
BrokerUrl = Annotated[str, _url("amqp", "amqps")]


S = TypeVar("S", bound="ServiceSettings")


class ServiceSettings(BaseSettings):
    """Base class of settings: a field is the variable of the same name in capitals; empty is not set.

    The text below a field is what the configuration reference says about its variable.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        case_sensitive=False,
        env_ignore_empty=True,
        use_attribute_docstrings=True,
    )


class Settings(ServiceSettings):
    """What every process needs to know. Times in seconds."""

    database_url: DatabaseUrl | None = None
    """PostgreSQL, ``postgresql://user:password@host:port/database``: read models, leases, checkpoints, and the
    event store unless it is elsewhere. Every role needs it."""

    event_store_url: StoreUrl | None = None
    """Where events are kept, if not in ``DATABASE_URL``: ``postgresql://…``, or ``esdb://…`` for EventStoreDB."""

    amqp_uri: BrokerUrl | None = None
    """RabbitMQ, ``amqp://user:password@host:port/vhost``; ``relay`` and ``work`` need it."""

    grpc_listen: Address = "127.0.0.1:50051"
    """Address of the gRPC API (``serve``)."""

    http_listen: Address = "127.0.0.1:9100"
    """Address of metrics, health and providers' callbacks; each process needs its own."""

    forecourt_env: Literal["development", "production"] = "development"
    """``production`` refuses every default that is not safe there."""

    forecourt_clock: Literal["system", "virtual"] = "system"
    """``virtual``: the shared virtual clock, never in production."""

    forecourt_jwks_file: Path | None = None
    """The public keys that tokens are verified with: a JWK set, read again when it changes. In development a key of
    its own in ``FORECOURT_DATA`` is used instead; one of this and the URL is required in production."""

    forecourt_jwks_url: Annotated[str, _url("http", "https")] | None = None
    """Where the same is fetched; ``https`` in production."""

    forecourt_jwks_seconds: float = Field(default=30.0, gt=0, le=3600)
    """The least time between two fetches, however many tokens name unknown keys. Ten times as long is the most."""

    forecourt_token_issuer: str | None = None
    """Who issues tokens, their ``iss``; required in production."""

    forecourt_token_audience: str = "forecourt"  # noqa: S105  # whom tokens are for, no secret
    """Whom tokens are for, their ``aud``."""

    forecourt_tls_cert: Path | None = None
    """The certificate of the gRPC servers with its chain, PEM; read again when it changes. Without it, no TLS."""

    forecourt_tls_key: Path | None = None
    """The private key of that certificate, PEM."""

    forecourt_tls_client_ca: Path | None = None
    """The authorities of client certificates, PEM. Callers need one, of ``GRPC_MTLS_LISTEN`` where that is set, else of
    ``GRPC_LISTEN``."""

    grpc_mtls_listen: Address | None = None
    """A second address of the gRPC API, for callers with a client certificate."""

    forecourt_certificate_identities: Path | None = None
    """Whom client certificates name, in TOML; read again when it changes."""

    forecourt_plaintext: bool = False
    """Whether gRPC may do without TLS in production, because a proxy or mesh before the process has it."""

    forecourt_reflection: bool = True
    """Whether the gRPC server describes its API to who asks."""

    forecourt_roles_file: Path | None = None
    """Which role may do what, in TOML, instead of the roles that come with the services."""

    forecourt_master_key: SecretStr | None = None
    """Wraps the keys of persons: 32 bytes in Base64, several separated by commas, the first wraps. Made in
    ``FORECOURT_DATA`` in development; one of this, the file or Vault is required in production."""

    forecourt_master_key_file: Path | None = None
    """A file with the same as ``FORECOURT_MASTER_KEY``."""

    forecourt_old_master_key: SecretStr | None = None
    """Master keys of before, in the same form, that unwrap and never wrap: until ``forecourt keys rotate`` is done."""

    forecourt_old_master_key_file: Path | None = None
    """A file with the same as ``FORECOURT_OLD_MASTER_KEY``."""

    forecourt_vault_addr: Annotated[str, _url("http", "https")] | None = None
    """Vault, whose Transit engine wraps the keys of persons instead; ``https`` in production."""

    forecourt_vault_token: SecretStr | None = None
    """The token for Vault."""

    forecourt_vault_token_file: Path | None = None
    """A file with that token instead; read again whenever it is used."""

    forecourt_vault_key: str = Field(default="forecourt", pattern=r"^[A-Za-z0-9_.-]{1,100}$")
    """The name of the Transit key, of type ``aes256-gcm96``."""

    forecourt_retry_delays: Annotated[tuple[PositiveFloat, ...], NoDecode, BeforeValidator(_listed)] = (
        1,
        10,
        60,
        600,
    )
    """Seconds before each further attempt of an event handler, separated by commas."""

    otel_exporter_otlp_endpoint: Annotated[str, _url("http", "https")] | None = None
    """The collector that traces go to, by OTLP over HTTP at ``/v1/traces`` below it. Without it there are none."""

    forecourt_data: Path = Path("var")
    """Folder of the development key and of private servers."""

    forecourt_log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe lines that are logged."""

    forecourt_pool_size: int = Field(default=10, ge=1, le=200)
    """Database connections of a process; what listens, and each projector and relay, has further ones."""

    forecourt_statement_seconds: float = Field(default=30.0, ge=0.1, le=600)
    """How long PostgreSQL may take for a statement, or to connect, before it counts as away; ten times as long where
    read models are kept. What takes as long as a table is large, such as making an index, has no such limit."""

    forecourt_drain_seconds: float = Field(default=10.0, ge=0, le=600)
    """How long a process finishes what it has in hand after SIGTERM."""

    forecourt_max_message_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024)
    """Largest gRPC message, in bytes."""

    forecourt_max_concurrent_rpcs: int = Field(default=2_000, ge=1)
    """Calls at once; more are refused as RESOURCE_EXHAUSTED."""

    forecourt_rate_limit: float = Field(default=2_000, ge=0)
    """Calls a second that one identity may make, in each process; 0 for any number."""

    forecourt_rate_burst: int = Field(default=4_000, ge=1)
    """Calls that it may make at once after a pause."""

    forecourt_max_streams: int = Field(default=100, ge=1)
    """Streaming calls that one identity may have open, in each process."""

    forecourt_stream_seconds: float = Field(default=300.0, gt=0)
    """How long a stream may send nothing while it is waited for; then it is ended."""

    forecourt_stream_write_seconds: float = Field(default=60.0, gt=0)
    """How long a stream may not take what is sent to it; then it is ended."""

    forecourt_connection_seconds: float = Field(default=3_600.0, gt=0)
    """The age at which a gRPC connection is closed, its calls under way finished; so that load spreads again."""

    forecourt_idle_connection_seconds: float = Field(default=900.0, gt=0)
    """How long a gRPC connection without calls stays open."""

    @field_validator("forecourt_clock")
    @classmethod
    def _real_in_production(cls, clock: str, info: ValidationInfo) -> str:
        if clock == "virtual" and info.data.get("forecourt_env") == "production":
            raise ValueError("must be 'system' where FORECOURT_ENV=production")
        return clock

    @property
    def database(self) -> str:
        """``DATABASE_URL``. Raises `ConfigError` where it is not set."""
        return self._needed("database_url")

    @property
    def store(self) -> str:
        """``EVENT_STORE_URL``, by default the database. Raises `ConfigError` where neither is set."""
        return self.event_store_url or self.database

    @property
    def broker(self) -> str:
        """``AMQP_URI``. Raises `ConfigError` where it is not set."""
        return self._needed("amqp_uri")

    def _needed(self, field: str) -> str:
        value: str | None = getattr(self, field)
        if value is None:
            raise ConfigError(f"{field.upper()}: is not set")
        return value

    def master_key(self) -> MasterKey:
        """What the keys of persons are wrapped with, and what they were wrapped with before.

        Raises `ConfigError` where it is missing in production, wrong, or given in more than one way.
        """
        self._at_most_one("forecourt_master_key", "forecourt_master_key_file", "forecourt_vault_addr")
        old = self._local("forecourt_old_master_key")
        return self._present_master() if old is None else WithOld(self._present_master(), old)

    def _present_master(self) -> MasterKey:
        if self.forecourt_vault_addr is not None:
            return self._vault(self.forecourt_vault_addr)
        if (local := self._local("forecourt_master_key")) is not None:
            return local
        if self.forecourt_env == "production":
            raise ConfigError("FORECOURT_MASTER_KEY: is not set, and FORECOURT_ENV=production has no default")
        return _local_master("FORECOURT_DATA", development_master(self.forecourt_data))

    def _local(self, name: str) -> LocalMaster | None:
        """The keys in a variable, or in the file that the one beside it names."""
        in_file = f"{name}_file"
        self._at_most_one(name, in_file)
        if (secret := getattr(self, name)) is not None:
            return _local_master(name.upper(), secret.get_secret_value())
        if (path := getattr(self, in_file)) is not None:
            return _local_master(in_file.upper(), _text_of(in_file.upper(), path))
        return None

    def _at_most_one(self, *names: str) -> None:
        given = [name.upper() for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"{given[0]}: only one of {', '.join(given)} may be set")

    def _vault(self, address: str) -> MasterKey:
        self._at_most_one("forecourt_vault_token", "forecourt_vault_token_file")
        token: str | Path
        if self.forecourt_vault_token_file is not None:
            token = self.forecourt_vault_token_file
            _text_of("FORECOURT_VAULT_TOKEN_FILE", token)
        elif self.forecourt_vault_token is not None:
            token = self.forecourt_vault_token.get_secret_value()
        else:
            raise ConfigError("FORECOURT_VAULT_TOKEN: is not set, and FORECOURT_VAULT_ADDR needs it")
        if self.forecourt_env == "production" and not address.startswith("https:"):
            raise ConfigError("FORECOURT_VAULT_ADDR: must be https where FORECOURT_ENV=production")
        return VaultTransit(address, token, self.forecourt_vault_key)


def _local_master(variable: str, text: str) -> LocalMaster:
    try:
        return LocalMaster.parse(text)
    except ValueError as error:
        raise ConfigError(f"{variable}: {error}") from None


def _text_of(variable: str, path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{variable}: cannot be read ({type(error).__name__})") from None


def load(cls: type[S]) -> S:
    """Settings of a class from the environment. Raises `ConfigError` naming each variable that is wrong."""
    return _checked(cls, {})


def load_from(cls: type[S], environment: Mapping[str, str]) -> S:
    """Settings of a class from given variables, and the environment for those that are not given."""
    given = {name.lower(): value for name, value in environment.items() if value}
    return _checked(cls, {name: given[name] for name in cls.model_fields if name in given})


def _checked(cls: type[S], given: dict[str, Any]) -> S:
    try:
        return cls(**given)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        lines = [f"{str(p['loc'][0]).upper() if p['loc'] else cls.__name__}: {p['msg']}" for p in problems]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None
    except SettingsError as error:
        raise ConfigError(str(error)) from None
