"""What every provider adapter does, held against real servers: the sandbox, on real sockets.

The sender relies on one thing above all: an adapter says "not sent" only where that is certain.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from forecourt.clock import ManualClock
from forecourt.testing.given import an_id
from notify.providers.port import Accepted, Answer, Failed, Outgoing, Provider
from notify.providers.sms_generic import GenericSms
from notify.providers.sms_twilio import TwilioSms
from notify.providers.smtp import SmtpMail, SmtpServer
from notify.sandbox.evidence import Arrived
from notify.sandbox.faults import Fault
from notify.sandbox.server import Sandbox
from notify.settings import SANDBOX_KEY, SANDBOX_SID, SANDBOX_TOKEN

NUMBER, MAIL = "+8613800000001", "wang@example.com"
TIMEOUT = 1.0


@dataclass
class Bench:
    """A provider adapter, and the server that it talks to."""

    sandbox: Sandbox
    provider: Provider
    server: Any
    address: str

    def message(self, label: str = "m", **changes: Any) -> Outgoing:
        values = {
            "key": an_id(label),
            "address": self.address,
            "subject": "您的爱车已到店",
            "text": "王小明您好 <ok> & ☃",
            "html": "<p>王小明您好</p>",
        }
        return Outgoing(**{**values, **changes})

    def fault(self, kind: Any, *, taken: bool = False, times: int | None = 1) -> None:
        self.sandbox.faults.set(Fault(provider=self.server, kind=kind, taken=taken, times=times))

    def arrived(self) -> list[Arrived]:
        return self.sandbox.evidence.find(provider=self.server)


def generic(sandbox: Sandbox) -> Provider:
    return GenericSms(f"http://127.0.0.1:{sandbox.sms_port}", SANDBOX_KEY, callback_url="", timeout=TIMEOUT)


def twilio(sandbox: Sandbox) -> Provider:
    return TwilioSms(
        f"http://127.0.0.1:{sandbox.sms_port}",
        SANDBOX_SID,
        SANDBOX_TOKEN,
        sender="+8613900000000",
        callback_url="",
        timeout=TIMEOUT,
    )


def smtp(sandbox: Sandbox) -> Provider:
    return SmtpMail(
        SmtpServer.parse(f"smtp://127.0.0.1:{sandbox.smtp_port}"),
        name="smtp",
        sender="Forecourt <service@forecourt.example>",
        timeout=TIMEOUT,
        clock=ManualClock(),
    )


MAKERS: dict[str, tuple[Callable[[Sandbox], Provider], str]] = {
    "generic": (generic, NUMBER),
    "twilio": (twilio, NUMBER),
    "smtp": (smtp, MAIL),
}


@pytest.fixture(params=list(MAKERS))
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    make, address = MAKERS[request.param]
    async with Sandbox(SANDBOX_KEY, SANDBOX_SID, SANDBOX_TOKEN) as sandbox:
        provider = make(sandbox)
        yield Bench(sandbox, provider, request.param, address)


async def test_a_message_arrives_as_it_was_written(bench: Bench) -> None:
    answer = await bench.provider.send(bench.message())
    (arrived,) = bench.arrived()
    assert answer == Accepted(arrived.reference)
    assert (arrived.to, arrived.text, arrived.channel) == (
        bench.address,
        "王小明您好 <ok> & ☃",
        bench.provider.channel,
    )
    if bench.provider.channel == "email":
        assert (arrived.subject, arrived.html) == ("您的爱车已到店", "<p>王小明您好</p>")
        assert arrived.reference == f"{an_id('m')}@forecourt.example"


async def test_what_is_busy_has_surely_not_sent_it(bench: Bench) -> None:
    bench.fault("busy")
    answer = await bench.provider.send(bench.message())
    assert isinstance(answer, Failed)
    assert answer.outcome == "not_sent"
    assert isinstance(await bench.provider.send(bench.message()), Accepted)
    assert len(bench.arrived()) == 1


async def test_what_refuses_for_good_is_not_asked_again(bench: Bench) -> None:
    bench.fault("refuse")
    answer = await bench.provider.send(bench.message())
    assert isinstance(answer, Failed)
    assert answer.outcome == "refused"
    assert bench.arrived() == []


async def test_what_does_not_listen_has_surely_not_sent_it(bench: Bench) -> None:
    await bench.sandbox.__aexit__()
    answer = await bench.provider.send(bench.message())
    assert answer == Failed("not_sent", "connect_failed")


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("kind", ["timeout", "drop"])
async def test_what_breaks_off_leaves_the_outcome_unknown(bench: Bench, kind: str, taken: bool) -> None:
    bench.fault(kind, taken=taken)
    answer = await bench.provider.send(bench.message())
    assert isinstance(answer, Failed)
    assert answer.outcome == "unknown"
    assert len(bench.arrived()) == taken


async def test_a_provider_that_claims_to_repeat_safely_does(bench: Bench) -> None:
    bench.fault("timeout", taken=True)
    await bench.provider.send(bench.message())
    assert isinstance(await bench.provider.send(bench.message()), Accepted)
    assert len(bench.arrived()) == (1 if bench.provider.repeats_safely else 2)


async def test_a_provider_that_can_find_out_tells_what_became_of_it(bench: Bench) -> None:
    taken = await bench.provider.send(bench.message("taken"))
    found = [await bench.provider.find_out(bench.message(label)) for label in ("taken", "never")]
    if bench.provider.can_find_out:
        assert found == [taken, Failed("withdrawn", "withdrawn")]
    else:
        assert found == [Failed("unknown", "cannot_be_asked")] * 2


async def test_finding_out_is_never_surer_than_the_answer(bench: Bench) -> None:
    await bench.sandbox.__aexit__()
    answer = await bench.provider.find_out(bench.message())
    assert isinstance(answer, Failed)
    assert answer.outcome == "unknown"


async def test_many_at_once_all_arrive_once(bench: Bench) -> None:
    messages = [bench.message(f"m{n}", text=f"message {n}") for n in range(20)]
    answers = await asyncio.gather(*(bench.provider.send(m) for m in messages))
    assert all(isinstance(answer, Accepted) for answer in answers)
    assert sorted(m.text for m in bench.arrived()) == sorted(m.text for m in messages)


async def test_no_address_and_no_text_in_codes_and_logs(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Answer] = []
    with caplog.at_level(logging.DEBUG, logger="notify"):
        for kind in ("busy", "refuse", "drop"):
            bench.fault(kind)
            answers.append(await bench.provider.send(bench.message()))
    told = caplog.text + repr(answers)
    assert bench.address not in told
    assert "王小明" not in told


@pytest.mark.parametrize("bench", ["generic", "twilio"], indirect=True)
@pytest.mark.parametrize("taken", [True, False])
async def test_garbage_leaves_the_outcome_unknown(bench: Bench, taken: bool) -> None:
    bench.fault("garbage", taken=taken)
    assert await bench.provider.send(bench.message()) == Failed("unknown", "unreadable_answer")


@pytest.mark.parametrize("name", ["generic", "twilio"])
async def test_an_answer_that_comes_in_pieces_is_understood(name: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=201)
        await response.prepare(request)
        for piece in (b'{"id": "M1", "si', b'd": "M1"}'):
            await response.write(piece)
            await asyncio.sleep(0.1)
        return response

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        providers: dict[str, Provider] = {
            "generic": GenericSms(url, "key", callback_url="", timeout=TIMEOUT),
            "twilio": TwilioSms(url, "AC1", "token", sender="", callback_url="", timeout=TIMEOUT),
        }
        message = Outgoing(an_id("m"), NUMBER, "", "text", "")
        assert await providers[name].send(message) == Accepted("M1")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("bench", ["generic"], indirect=True)
@pytest.mark.parametrize("taken", [True, False])
async def test_a_gateway_that_fails_inside_leaves_the_outcome_unknown(bench: Bench, taken: bool) -> None:
    bench.fault("error", taken=taken)
    assert await bench.provider.send(bench.message()) == Failed("unknown", "http_500")


@pytest.mark.parametrize("bench", ["twilio"], indirect=True)
async def test_twilio_is_believed_when_it_says_itself_that_it_failed(bench: Bench) -> None:
    bench.fault("error")
    assert await bench.provider.send(bench.message()) == Failed("not_sent", "http_500")


@pytest.mark.parametrize("bench", ["generic", "twilio"], indirect=True)
async def test_a_number_that_is_none_is_refused(bench: Bench) -> None:
    answer = await bench.provider.send(bench.message(address="12"))
    assert isinstance(answer, Failed)
    assert answer.outcome == "refused"


@pytest.mark.parametrize("bench", ["generic", "twilio"], indirect=True)
async def test_a_wrong_key_is_our_mistake_and_costs_no_message(bench: Bench) -> None:
    url = f"http://127.0.0.1:{bench.sandbox.sms_port}"
    strangers: list[Provider] = [
        GenericSms(url, "x", callback_url="", timeout=TIMEOUT),
        TwilioSms(url, SANDBOX_SID, "x", sender="", callback_url="", timeout=TIMEOUT),
    ]
    for stranger in strangers:
        assert await stranger.send(bench.message()) == Failed("not_sent", "http_401")


@pytest.mark.parametrize("bench", ["smtp"], indirect=True)
@pytest.mark.parametrize("change", [{"subject": "a\nBcc: x@example.com"}, {"address": "王@example.com"}])
async def test_a_mail_that_cannot_be_written_is_refused(bench: Bench, change: dict[str, str]) -> None:
    assert await bench.provider.send(bench.message(**change)) == Failed("refused", "malformed_message")


@pytest.mark.parametrize("bench", ["smtp"], indirect=True)
async def test_a_server_without_encryption_is_refused_where_it_is_demanded(bench: Bench) -> None:
    strict = SmtpMail(
        SmtpServer.parse(f"smtp://127.0.0.1:{bench.sandbox.smtp_port}?starttls=yes"),
        name="smtp",
        sender="service@forecourt.example",
        timeout=TIMEOUT,
        clock=ManualClock(),
    )
    answer = await strict.send(bench.message())
    assert isinstance(answer, Failed)
    assert answer.outcome == "not_sent"
    assert bench.arrived() == []
