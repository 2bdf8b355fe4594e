"""The sandbox itself: what the tests of everything else rely on."""

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp

from forecourt.embedded.process import free_port
from forecourt.testing.given import an_id
from forecourt.testing.probes import poll_async
from notify.providers.port import Outgoing
from notify.providers.sms_generic import GenericSms
from notify.sandbox.evidence import Evidence
from notify.sandbox.faults import Fault, Faults
from notify.sandbox.server import Sandbox
from notify.settings import SANDBOX_KEY, SANDBOX_SID, SANDBOX_TOKEN


def message(label: str) -> Outgoing:
    return Outgoing(an_id(label), "+8613800000001", "", f"text {label}", "")


async def test_a_kill_loses_no_evidence(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    arguments = [f"--{name}-port={port}" for name, port in zip(("smtp", "sms", "http"), ports, strict=True)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "notify.sandbox", *arguments, f"--data={tmp_path}"
    )
    try:
        async with aiohttp.ClientSession() as http:

            async def shown() -> list[str] | None:
                try:
                    async with http.get(f"http://127.0.0.1:{ports[2]}/messages") as response:
                        return [m["text"] for m in (await response.json())["messages"]] or ["none"]
                except aiohttp.ClientError:
                    return None

            assert await poll_async(shown, 30) == ["none"]
            gateway = GenericSms(f"http://127.0.0.1:{ports[1]}", SANDBOX_KEY, callback_url="", timeout=5)
            await gateway.send(message("a"))
            await gateway.send(message("b"))
            await gateway.send(message("b"))
            assert await shown() == ["text a", "text b"]
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    evidence = Evidence(tmp_path)
    assert [(m.text, m.repeats) for m in evidence.find()] == [("text a", 0), ("text b", 1)]
    evidence.close()


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    evidence.add(channel="sms", provider="generic", to="+86", text="whole", key="k")
    evidence.close()
    path = tmp_path / "messages.jsonl"
    path.write_bytes(path.read_bytes() + b'{"number":2,"chan')
    again = Evidence(tmp_path)
    assert [m.text for m in again.find()] == ["whole"]
    found = again.by_key("generic", "k")
    assert found is not None
    assert found.number == 1
    again.close()


def test_a_fault_is_used_up_and_may_be_for_one_number() -> None:
    faults = Faults()
    faults.set(Fault(provider="generic", kind="busy", times=2, to="+1"))
    assert faults.take("generic", "+2", "busy") is None
    assert faults.take("twilio", "+1", "busy") is None
    assert faults.take("generic", "+1", "error") is None
    assert [faults.take("generic", "+1", "busy") is not None for _ in range(3)] == [True, True, False]


async def test_what_arrived_can_be_filtered_and_is_escaped_for_people() -> None:
    async with Sandbox(SANDBOX_KEY, SANDBOX_SID, SANDBOX_TOKEN) as sandbox, aiohttp.ClientSession() as http:
        sandbox.evidence.add(channel="sms", provider="generic", to="+861", text="<b>sms</b>", key="k1")
        sandbox.evidence.add(
            channel="email", provider="smtp", to="a@b.cn", text="mail", subject="s", reference="k2@host"
        )
        url = f"http://127.0.0.1:{sandbox.http_port}"
        for query, expected in {
            "channel=sms": ["<b>sms</b>"],
            "to=a@b.cn": ["mail"],
            "key=k2": ["mail"],
            "contains=s": ["<b>sms</b>", "mail"],
            "provider=twilio": [],
        }.items():
            async with http.get(f"{url}/messages?{query}") as response:
                assert [m["text"] for m in (await response.json())["messages"]] == expected
        async with http.get(f"{url}/messages?colour=red") as response:
            assert response.status == 400
        async with http.get(url) as response:
            assert "&lt;b&gt;sms&lt;/b&gt;" in await response.text()
        async with http.post(f"{url}/faults", json={"provider": "smoke", "kind": "busy"}) as response:
            assert response.status == 400
