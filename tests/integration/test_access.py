"""Who calls, over real connections: key sets that rotate, certificates, limits, and streams that stand still."""

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from forecourt.access.callers import Callers
from forecourt.access.certificates import CertificateIdentities
from forecourt.access.development import Certificate, DevelopmentAuthority, write
from forecourt.access.keys import FileKeys, TokenKeys, UrlKeys
from forecourt.access.rates import RateLimiter, StreamLimiter
from forecourt.access.tokens import TokenVerifier
from forecourt.clock import SystemClock
from forecourt.config import Settings, load_from
from forecourt.eventstore.memory import MemoryLog
from forecourt.rpc import wiring
from forecourt.rpc.calls import MetadataReader
from forecourt.rpc.endpoints import Backend
from forecourt.rpc.server import GrpcServer, Limits
from forecourt.rpc.streams import Streams
from forecourt.rpc.tls import CertificateFiles, Tls
from forecourt.testing.probes import poll_async
from forecourt.testing.token_keys import Signer, jwk_set
from tests.integration.edge_shop import TOKENS, Client, make_api, make_backend, message
from tests.integration.test_edge import detail, fields, opening, refused
from tests.odd_certificates import ODD, odd_certificate

pytestmark = pytest.mark.integration

ID = "6f0f2c4e-0000-4000-8000-000000000002"
TOKEN = TOKENS.issue("amy", roles=["salesperson"], dealers=["D001"], brands=["hongtong"])
GET = message("GetBasketRequest", basket_id=ID)


class Ticks:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def serving(backend: Backend, tls: Tls | None = None) -> AsyncIterator[GrpcServer]:
    """A server of the shop."""
    server = GrpcServer([(make_api(), backend)], Limits(notice_seconds=0.01, drain_seconds=1), tls=tls)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.drain()


@asynccontextmanager
async def shop_of(backend: Backend, token: str = TOKEN) -> AsyncIterator[Client]:
    """A client of a plain server."""
    async with (
        serving(backend) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield Client(channel, token)


# --- key sets


def token_of(signer: Signer, **changed: Any) -> str:
    now = SystemClock().now().timestamp()
    claims = {
        "sub": "amy",
        "aud": "forecourt",
        "exp": now + 600,
        "roles": ["salesperson"],
        "dealers": ["D001"],
    }
    return signer.sign(claims | {"brands": ["hongtong"]} | changed)


def believing(keys: TokenKeys, certificates: CertificateIdentities | None = None) -> Backend:
    """A backend that verifies with these keys."""
    tokens = TokenVerifier(keys, audience="forecourt")
    callers = Callers(tokens, certificates or CertificateIdentities(None))
    return replace(make_backend(), metadata=MetadataReader(callers, SystemClock()))


async def reason(call: Any, code: grpc.StatusCode = grpc.StatusCode.UNAUTHENTICATED) -> str:
    """The stable reason of a refusal."""
    return str(detail(await refused(call, code), error_details_pb2.ErrorInfo).reason)


async def test_a_refusal_names_the_header_and_the_reason() -> None:
    async with shop_of(make_backend(), "garbage") as shop:
        status = await refused(shop.call("GetBasket", GET), grpc.StatusCode.UNAUTHENTICATED)
    assert status.message == "authorization: the token is not well-formed"
    assert fields(status) == {"authorization"}


async def test_a_key_file_may_be_exchanged(tmp_path: Path) -> None:
    old, new, ticks = Signer("ES256", kid="old"), Signer("EdDSA", kid="new"), Ticks()
    path = tmp_path / "jwks.json"
    path.write_text(jwk_set(old))
    async with shop_of(believing(FileKeys(path, monotonic=ticks)), token_of(old)) as shop:
        later = Client(shop._channel, token_of(new))
        await shop.call("GetBasket", GET)
        assert await reason(later.call("GetBasket", GET)) == "token-key-unknown"
        path.write_text("half of a fi")
        ticks.now += 2
        assert await reason(later.call("GetBasket", GET)) == "token-key-unknown"
        path.write_text(jwk_set(new))
        ticks.now += 2
        await later.call("GetBasket", GET)

        async def ended() -> bool:
            call = shop.call("GetBasket", GET)
            return await call.code() is grpc.StatusCode.UNAUTHENTICATED

        await poll_async(ended, 10, what="the end of what the old key had signed")


async def test_a_key_file_that_was_emptied_ends_all_tokens(tmp_path: Path) -> None:
    signer, ticks = Signer("EdDSA", kid="leaked"), Ticks()
    path = tmp_path / "jwks.json"
    path.write_text(jwk_set(signer))
    async with shop_of(believing(FileKeys(path, monotonic=ticks)), token_of(signer)) as shop:
        await shop.call("GetBasket", GET)
        path.write_text(jwk_set())
        ticks.now += 2
        forged = Client(shop._channel, token_of(signer, sub="eve"))
        assert await reason(forged.call("GetBasket", GET)) == "token-key-unknown"
        await poll_async(partial(answers, shop, not_any_more=True), 10, what="the end of the cached token")


class KeyServer:
    """Serves a key set over HTTP, and counts."""

    def __init__(self) -> None:
        self.text = ""
        self.status = 200
        self.asked = 0

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(text=self.text, status=self.status)


@pytest.fixture
async def key_server() -> AsyncIterator[tuple[KeyServer, str]]:
    served = KeyServer()
    app = web.Application()
    app.router.add_get("/jwks", served.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield served, f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    await runner.cleanup()


async def test_keys_at_a_url_rotate_and_are_asked_for_seldom(key_server: tuple[KeyServer, str]) -> None:
    served, url = key_server
    old, new, ticks = Signer("RS256", kid="old"), Signer("ES256", kid="new"), Ticks()
    served.text = jwk_set(old)
    async with shop_of(believing(UrlKeys(url, interval=30, monotonic=ticks)), token_of(old)) as shop:
        await asyncio.gather(*(shop.call("GetBasket", GET) for _ in range(20)))
        assert served.asked == 1
        later = Client(shop._channel, token_of(new))
        served.text = jwk_set(old, new)
        for number in range(50):
            stranger = Client(shop._channel, token_of(Signer(kid=f"unknown-{number}")))
            assert await reason(stranger.call("GetBasket", GET)) == "token-key-unknown"
        assert served.asked == 1
        ticks.now += 30
        await later.call("GetBasket", GET)
        assert served.asked == 2
        served.status = 503
        ticks.now += 30
        stranger = Client(shop._channel, token_of(Signer(kid="unknown")))
        assert await reason(stranger.call("GetBasket", GET)) == "token-key-unknown"
        assert served.asked == 3
        await later.call("GetBasket", GET)


async def test_keys_of_the_settings_rotate_on_a_running_server(
    key_server: tuple[KeyServer, str], tmp_path: Path
) -> None:
    """By file and by URL, at the speed of the settings: the new key counts without a restart, the old one ends."""
    served, url = key_server
    old, new = Signer("ES256", kid="old"), Signer("EdDSA", kid="new")
    path = tmp_path / "jwks.json"
    served.text = jwk_set(old)
    path.write_text(jwk_set(old))
    for variables in (
        {"FORECOURT_JWKS_FILE": str(path)},
        {"FORECOURT_JWKS_URL": url, "FORECOURT_JWKS_SECONDS": "0.1"},
    ):
        callers = wiring.callers(load_from(Settings, variables))
        backend = replace(make_backend(), metadata=MetadataReader(callers, SystemClock()))
        async with shop_of(backend, token_of(old)) as shop:
            later = Client(shop._channel, token_of(new))
            await shop.call("GetBasket", GET)
            assert await reason(later.call("GetBasket", GET)) == "token-key-unknown"
            served.text = jwk_set(old, new)
            path.write_text(served.text)
            await poll_async(partial(answers, later), 10, what="the new key")
            assert await answers(shop)
            served.text = jwk_set(new)
            path.write_text(served.text)
            await poll_async(partial(answers, shop, not_any_more=True), 10, what="the end of the old key")
            assert await reason(shop.call("GetBasket", GET)) == "token-key-unknown"
            assert await answers(later)
        served.text = jwk_set(old)


async def answers(shop: Client, *, not_any_more: bool = False) -> bool:
    """Whether a token counts."""
    code = await shop.call("GetBasket", GET).code()
    return code is (grpc.StatusCode.UNAUTHENTICATED if not_any_more else grpc.StatusCode.OK)


async def test_without_a_first_key_set_calls_are_unavailable(key_server: tuple[KeyServer, str]) -> None:
    served, url = key_server
    served.status = 500
    signer, ticks = Signer(), Ticks()
    async with shop_of(believing(UrlKeys(url, interval=30, monotonic=ticks)), token_of(signer)) as shop:
        unavailable = grpc.StatusCode.UNAVAILABLE
        assert await reason(shop.call("GetBasket", GET), unavailable) == "token-keys-unavailable"
        served.status, served.text = 200, jwk_set(signer)
        ticks.now += 2
        await shop.call("GetBasket", GET)


# --- certificates

TABLE = """
[[identity]]
uri = "spiffe://hongtong.example/feed"
actor = "manufacturer:hongtong"
roles = ["salesperson"]
dealers = ["D001"]
brands = ["hongtong"]
"""


@pytest.fixture
def authority() -> DevelopmentAuthority:
    return DevelopmentAuthority.create()


@pytest.fixture
def folder(tmp_path: Path, authority: DevelopmentAuthority) -> Path:
    """A server's certificate, its authority, and the table of identities."""
    write(tmp_path, "server", authority.issue("server", hosts=["localhost", "127.0.0.1"]))
    (tmp_path / "ca.pem").write_bytes(authority.pair.certificate)
    (tmp_path / "identities.toml").write_text(TABLE)
    return tmp_path


def tls_of(folder: Path, *, client_ca: bool = True, **more: Any) -> Tls:
    ca = folder / "ca.pem" if client_ca else None
    return Tls(
        CertificateFiles(folder / "server.pem", folder / "server-key.pem", ca, monotonic=Ticks(), **more)
    )


def channel_to(
    port: int, authority: DevelopmentAuthority, client: Certificate | None = None
) -> grpc.aio.Channel:
    own = (client.key, client.certificate) if client is not None else (None, None)
    # Each channel shall make a connection of its own.
    options = [("grpc.use_local_subchannel_pool", 1)]
    credentials = grpc.ssl_channel_credentials(authority.pair.certificate, *own)
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options)


def secure_backend(folder: Path) -> Backend:
    return believing(TOKENS.keys, CertificateIdentities(folder / "identities.toml"))


async def test_a_certificate_says_who_calls_and_a_token_decides(
    folder: Path, authority: DevelopmentAuthority
) -> None:
    feed = authority.issue("feed", uris=["spiffe://hongtong.example/feed"])
    backend = secure_backend(folder)
    async with (
        serving(backend, tls_of(folder)) as server,
        channel_to(server.port, authority, feed) as channel,
    ):
        shop = Client(channel, TOKEN)
        await shop.call("OpenBasket", opening(basket_id=ID), authorization="")
        with_token = str(ID).replace("2", "3", 1)
        await shop.call("OpenBasket", opening(basket_id=with_token))
        garbage = shop.call("GetBasket", GET, authorization="Bearer garbage")
        assert await reason(garbage) == "token-malformed"
    actors = [
        event.actor_id
        for basket in (ID, with_token)
        async for page in backend.commands._store.read_stream(f"basket-{basket}")
        for event in page
    ]
    assert actors == ["manufacturer:hongtong", "amy"]


def forecourt(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line."""
    command = [sys.executable, "-m", "forecourt.cli", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


async def test_certificates_of_the_command_line_serve_people_and_systems(tmp_path: Path) -> None:
    """As docs/access.md has it: tokens on one address, the feed's certificate on the other."""
    data = {"FORECOURT_DATA": str(tmp_path)}
    done = await asyncio.to_thread(forecourt, "certificates", "--client", "feed", **data)
    assert done.returncode == 0, done.stderr
    tls = tmp_path / "tls"
    table = TABLE.replace("hongtong.example", "forecourt.development")
    (tmp_path / "identities.toml").write_text(table)
    settings = load_from(
        Settings,
        {
            **data,
            "FORECOURT_TLS_CERT": str(tls / "server.pem"),
            "FORECOURT_TLS_KEY": str(tls / "server-key.pem"),
            "FORECOURT_TLS_CLIENT_CA": str(tls / "ca.pem"),
            "GRPC_MTLS_LISTEN": "127.0.0.1:0",
            "FORECOURT_CERTIFICATE_IDENTITIES": str(tmp_path / "identities.toml"),
        },
    )
    backend = replace(make_backend(), metadata=MetadataReader(wiring.callers(settings), SystemClock()))
    token = wiring.token_issuer(settings).issue(
        "amy", roles=["salesperson"], dealers=["D001"], brands=["hongtong"]
    )
    root = (tls / "ca.pem").read_bytes()
    own = (tls / "feed-key.pem").read_bytes(), (tls / "feed.pem").read_bytes()
    async with (
        serving(backend, wiring.tls(settings)) as server,
        grpc.aio.secure_channel(f"127.0.0.1:{server.port}", grpc.ssl_channel_credentials(root)) as people,
        grpc.aio.secure_channel(
            f"127.0.0.1:{server.mtls_port}", grpc.ssl_channel_credentials(root, *own)
        ) as systems,
    ):
        await Client(people, token).call("GetBasket", GET)
        await Client(systems, "").call("GetBasket", GET, authorization="")
        assert await reason(Client(people, "").call("GetBasket", GET, authorization="")) == (
            "credentials-missing"
        )


@pytest.mark.parametrize("command", [["token", "--actor", "amy", "--role", "salesperson"], ["certificates"]])
async def test_nothing_for_development_is_made_in_production(tmp_path: Path, command: list[str]) -> None:
    variables = {"FORECOURT_ENV": "production", "FORECOURT_DATA": str(tmp_path)}
    done = await asyncio.to_thread(forecourt, *command, **variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("configuration: FORECOURT_ENV: ")
    assert os.listdir(tmp_path) == []


async def test_who_comes_with_a_certificate_is_in_the_audit_by_the_name_of_the_table(
    folder: Path, authority: DevelopmentAuthority
) -> None:
    feed = authority.issue("feed", uris=["spiffe://hongtong.example/feed"])
    stranger = authority.issue("stranger", uris=["spiffe://elsewhere.example/feed"])
    foreign = DevelopmentAuthority.create().issue("feed", uris=["spiffe://hongtong.example/feed"])
    log = MemoryLog()
    backend = replace(make_backend(log), metadata=secure_backend(folder).metadata)
    close = message("CloseBasketRequest", basket_id=ID)
    async with serving(backend, tls_of(folder)) as server:
        codes = []
        for certificate in (feed, stranger, foreign):
            async with channel_to(server.port, authority, certificate) as channel:
                codes.append(await Client(channel, "").call("CloseBasket", close, authorization="").code())
    assert codes == [
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNAVAILABLE,
    ]
    said = [(entry.type, entry.actor_id, json.loads(entry.data)["slug"]) for entry in log.events]
    # Whom TLS turns away has made no call.
    assert said == [
        ("audit.CommandRefused", "manufacturer:hongtong", "not-found"),
        ("audit.CallsRejected", "", "certificate-unknown"),
    ]


@pytest.mark.parametrize("kind", ODD)
async def test_a_certificate_that_cannot_be_read_is_refused_and_in_the_audit(
    folder: Path, authority: DevelopmentAuthority, kind: str
) -> None:
    log = MemoryLog()
    backend = replace(make_backend(log), metadata=secure_backend(folder).metadata)
    async with (
        serving(backend, tls_of(folder)) as server,
        channel_to(server.port, authority, odd_certificate(authority, kind)) as channel,
    ):
        shop = Client(channel, "")
        assert await reason(shop.call("GetBasket", GET, authorization="")) == "certificate-unknown"
        # Whoever has a token needs none that can be read.
        await Client(channel, TOKEN).call("GetBasket", GET)
    rejected = [entry for entry in log.events if entry.type == "audit.CallsRejected"]
    assert [(entry.actor_id, json.loads(entry.data)["slug"]) for entry in rejected] == [
        ("", "certificate-unknown")
    ]


async def test_a_certificate_that_names_nobody_is_refused(
    folder: Path, authority: DevelopmentAuthority
) -> None:
    other = authority.issue("other", uris=["spiffe://elsewhere.example/feed"])
    async with (
        serving(secure_backend(folder), tls_of(folder)) as server,
        channel_to(server.port, authority, other) as channel,
    ):
        call = Client(channel, "").call("GetBasket", GET, authorization="")
        assert await reason(call) == "certificate-unknown"


async def test_a_bound_token_counts_only_with_its_certificate(
    folder: Path, authority: DevelopmentAuthority
) -> None:
    own, other = authority.issue("own"), authority.issue("other")
    digest = x509.load_pem_x509_certificate(own.certificate).fingerprint(hashes.SHA256())
    confirmation = {"x5t#S256": base64.urlsafe_b64encode(digest).rstrip(b"=").decode()}
    bound = TOKENS.issue("amy", roles=["salesperson"], dealers=["D001"], brands=["b"], cnf=confirmation)
    async with (
        serving(secure_backend(folder), tls_of(folder)) as server,
        channel_to(server.port, authority, own) as its_own,
        channel_to(server.port, authority, other) as stolen,
    ):
        for _ in range(2):
            await Client(its_own, bound).call("GetBasket", GET)
            call = Client(stolen, bound).call("GetBasket", GET)
            assert await reason(call) == "token-bound-to-another-certificate"


async def test_tls_turns_away_other_authorities_and_expired_certificates(
    folder: Path, authority: DevelopmentAuthority
) -> None:
    expired = authority.issue("feed", uris=["spiffe://hongtong.example/feed"], days=-1)
    foreign = DevelopmentAuthority.create().issue("feed", uris=["spiffe://hongtong.example/feed"])
    async with serving(secure_backend(folder), tls_of(folder)) as server:
        for certificate in (None, expired, foreign):
            async with channel_to(server.port, authority, certificate) as channel:
                call = Client(channel, TOKEN).call("GetBasket", GET)
                assert await call.code() is grpc.StatusCode.UNAVAILABLE
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as plain:
            assert await Client(plain, TOKEN).call("GetBasket", GET).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_second_address_for_certificates_leaves_the_first_to_tokens(
    folder: Path, authority: DevelopmentAuthority
) -> None:
    tls = replace(tls_of(folder), second=("127.0.0.1", 0))
    async with (
        serving(secure_backend(folder), tls) as server,
        channel_to(server.port, authority) as people,
        channel_to(server.mtls_port, authority) as nobody,
    ):
        await Client(people, TOKEN).call("GetBasket", GET)
        await health_pb2_grpc.HealthStub(people).Check(health_pb2.HealthCheckRequest())
        assert await Client(nobody, TOKEN).call("GetBasket", GET).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_is_taken_up_and_a_broken_one_is_not(
    folder: Path, authority: DevelopmentAuthority
) -> None:
    ticks, second = Ticks(), DevelopmentAuthority.create("Another CA")
    files = CertificateFiles(folder / "server.pem", folder / "server-key.pem", monotonic=ticks)
    async with serving(secure_backend(folder), Tls(files)) as server:

        async def answers(trusted: DevelopmentAuthority) -> bool:
            ticks.now += 2
            async with channel_to(server.port, trusted) as channel:
                return await Client(channel, TOKEN).call("GetBasket", GET).code() is grpc.StatusCode.OK

        assert await answers(authority)
        (folder / "server.pem").write_text("nonsense")
        assert await answers(authority)
        write(folder, "server", second.issue("server", hosts=["127.0.0.1"]))
        assert await answers(second)
        assert not await answers(authority)


# --- limits


async def test_who_calls_too_often_is_told_when_to_come_again() -> None:
    ticks = Ticks()
    backend = make_backend()
    callers = believing(TOKENS.keys).metadata._identities
    limited = MetadataReader(callers, backend.clock, RateLimiter(4, 2, monotonic=ticks))
    async with shop_of(replace(backend, metadata=limited)) as shop:
        for _ in range(2):
            await shop.call("GetBasket", GET)
        status = await refused(shop.call("GetBasket", GET), grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert detail(status, error_details_pb2.ErrorInfo).reason == "rate-exceeded"
        delay = detail(status, error_details_pb2.RetryInfo).retry_delay
        assert delay.ToMilliseconds() == 250
        other = TOKENS.issue("ben", roles=["salesperson"], dealers=["D001"], brands=["hongtong"])
        await Client(shop._channel, other).call("GetBasket", GET)
        ticks.now += 0.25
        await shop.call("GetBasket", GET)


async def silence() -> AsyncIterator[Any]:
    yield message("Row", number=1, text="abc")
    await asyncio.Event().wait()


async def test_a_stream_that_sends_nothing_is_ended_with_the_reason() -> None:
    async with shop_of(replace(make_backend(), streams=Streams(idle_seconds=0.2))) as shop:
        status = await refused(shop.call("Upload", silence()), grpc.StatusCode.DEADLINE_EXCEEDED)
        assert detail(status, error_details_pb2.ErrorInfo).reason == "stream-idle"
        both = shop.call("Chat", silence())
        assert (await both.read()).text == "cba"
        assert await reason(both.read(), grpc.StatusCode.DEADLINE_EXCEEDED) == "stream-idle"


async def rest(call: Any) -> None:
    """Read what is left of a stream."""
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_a_stream_that_does_not_read_is_ended() -> None:
    limiter = StreamLimiter(1)
    async with shop_of(replace(make_backend(), streams=Streams(write_seconds=0.3, limiter=limiter))) as shop:
        flood = message("GetBasketRequest", basket_id=ID, mode="x" * 5_000, page_size=100_000)
        call = shop.call("Watch", flood, timeout=60)
        assert (await call.read()).number == 1

        async def forgotten() -> bool:
            return not limiter._open

        await poll_async(forgotten, 20, what="the end of the stream at the server")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rest(call)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "nothing was read" in (caught.value.details() or "")


async def test_an_identity_has_so_many_streams_and_no_more() -> None:
    async with shop_of(replace(make_backend(), streams=Streams(limiter=StreamLimiter(1)))) as shop:
        first = shop.call("Chat", silence())
        await first.read()
        second = shop.call("Watch", message("GetBasketRequest", basket_id=ID, page_size=1))
        assert await reason(second.read(), grpc.StatusCode.RESOURCE_EXHAUSTED) == "too-many-streams"
        first.cancel()

        async def free() -> bool:
            call = shop.call("Watch", message("GetBasketRequest", basket_id=ID, page_size=1))
            try:
                return bool((await call.read()).number)
            except grpc.aio.AioRpcError:
                return False

        await poll_async(free, 10, what="the place of the cancelled stream")
