"""Access, TLS and limits from the settings. All raise `ConfigError` naming the variable."""

from pathlib import Path
from typing import Any

from forecourt.access.callers import Callers
from forecourt.access.certificates import CertificateIdentities
from forecourt.access.development import DevelopmentTokens
from forecourt.access.keys import FileKeys, TokenKeys, UrlKeys
from forecourt.access.rates import RateLimiter, StreamLimiter
from forecourt.access.tokens import TokenVerifier
from forecourt.config import ConfigError, Settings, split_address
from forecourt.rpc.server import Limits
from forecourt.rpc.streams import Streams
from forecourt.rpc.tls import CertificateFiles, Tls


def check(settings: Settings) -> None:
    """Everything that can be wrong with access and TLS, before anything is started."""
    callers(settings)
    tls(settings)


def callers(settings: Settings) -> Callers:
    """Who tells who calls."""
    tokens = TokenVerifier(
        _keys(settings), audience=settings.forecourt_token_audience, issuer=settings.forecourt_token_issuer
    )
    path = settings.forecourt_certificate_identities
    if path is not None and settings.forecourt_tls_client_ca is None:
        raise ConfigError(
            "FORECOURT_TLS_CLIENT_CA: is not set, and FORECOURT_CERTIFICATE_IDENTITIES needs it"
        )
    try:
        return Callers(tokens, CertificateIdentities(path))
    except (OSError, ValueError) as error:
        raise _unreadable("FORECOURT_CERTIFICATE_IDENTITIES", error) from None


def token_issuer(settings: Settings) -> DevelopmentTokens:
    """Who issues development tokens, which the servers of the same data folder believe."""
    if settings.forecourt_env == "production":
        raise ConfigError("FORECOURT_ENV: development tokens are not issued in production")
    for variable in ("forecourt_jwks_file", "forecourt_jwks_url"):
        if getattr(settings, variable) is not None:
            raise ConfigError(f"{variable.upper()}: is set, so tokens come from whom those keys belong to")
    return _development(settings)


def _development(settings: Settings) -> DevelopmentTokens:
    try:
        return DevelopmentTokens(
            settings.forecourt_data,
            audience=settings.forecourt_token_audience,
            issuer=settings.forecourt_token_issuer,
        )
    except (OSError, ValueError) as error:
        raise _unreadable("FORECOURT_DATA", error) from None


def _keys(settings: Settings) -> TokenKeys:
    production = settings.forecourt_env == "production"
    file, url = settings.forecourt_jwks_file, settings.forecourt_jwks_url
    if file is not None and url is not None:
        raise ConfigError("FORECOURT_JWKS_FILE: only one of it and FORECOURT_JWKS_URL may be set")
    if production and file is None and url is None:
        raise ConfigError("FORECOURT_JWKS_URL: is not set, and FORECOURT_ENV=production has no default")
    if production and not settings.forecourt_token_issuer:
        raise ConfigError("FORECOURT_TOKEN_ISSUER: is not set, and FORECOURT_ENV=production has no default")
    if url is not None:
        if production and not url.startswith("https:"):
            raise ConfigError("FORECOURT_JWKS_URL: must be https where FORECOURT_ENV=production")
        return UrlKeys(url, interval=settings.forecourt_jwks_seconds)
    if file is None:
        return _development(settings).keys
    try:
        return FileKeys(file)
    except (OSError, ValueError) as error:
        raise _unreadable("FORECOURT_JWKS_FILE", error) from None


def tls(settings: Settings) -> Tls | None:
    """How the gRPC servers speak TLS; None where they do not."""
    cert = _both(settings)
    if cert is None:
        if settings.forecourt_env == "production" and not settings.forecourt_plaintext:
            raise ConfigError(
                "FORECOURT_TLS_CERT: is not set; where a proxy before the process has TLS, "
                "FORECOURT_PLAINTEXT=true says so"
            )
        return None
    second = settings.grpc_mtls_listen
    try:
        files = CertificateFiles(*cert, settings.forecourt_tls_client_ca)
    except (OSError, ValueError) as error:
        raise _unreadable("FORECOURT_TLS_CERT", error) from None
    if second is not None and not files.has_client_ca:
        raise ConfigError("FORECOURT_TLS_CLIENT_CA: is not set, and GRPC_MTLS_LISTEN needs it")
    return Tls(files, None if second is None else split_address(second))


def _both(settings: Settings) -> tuple[Path, Path] | None:
    cert, key = settings.forecourt_tls_cert, settings.forecourt_tls_key
    if cert is not None and key is not None:
        return cert, key
    needs: dict[str, Any] = {
        "FORECOURT_TLS_CERT": cert,
        "FORECOURT_TLS_KEY": key,
        "FORECOURT_TLS_CLIENT_CA": settings.forecourt_tls_client_ca,
        "GRPC_MTLS_LISTEN": settings.grpc_mtls_listen,
    }
    given = next((name for name, value in needs.items() if value is not None), None)
    if given is not None:
        missing = "FORECOURT_TLS_CERT" if cert is None else "FORECOURT_TLS_KEY"
        raise ConfigError(f"{missing}: is not set, and {given} needs it")
    return None


def limits(settings: Settings) -> Limits:
    """What the gRPC servers take on at most."""
    return Limits(
        message_bytes=settings.forecourt_max_message_bytes,
        concurrent_rpcs=settings.forecourt_max_concurrent_rpcs,
        connection_seconds=settings.forecourt_connection_seconds,
        idle_connection_seconds=settings.forecourt_idle_connection_seconds,
        drain_seconds=settings.forecourt_drain_seconds,
    )


def rates(settings: Settings) -> RateLimiter:
    """How often an identity may call."""
    return RateLimiter(settings.forecourt_rate_limit, settings.forecourt_rate_burst)


def streams(settings: Settings) -> Streams:
    """The rules for streams."""
    return Streams(
        settings.forecourt_stream_seconds,
        settings.forecourt_stream_write_seconds,
        StreamLimiter(settings.forecourt_max_streams),
    )


def _unreadable(variable: str, error: Exception) -> ConfigError:
    reason = str(error) if isinstance(error, ValueError) else type(error).__name__
    return ConfigError(f"{variable}: cannot be read ({reason})")
