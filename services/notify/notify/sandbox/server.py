"""The whole sandbox in one process, on one loop."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from notify.sandbox.evidence import Evidence
from notify.sandbox.faults import Faults
from notify.sandbox.gateways import Gateways
from notify.sandbox.mail import Mailbox, MailServer
from notify.sandbox.viewer import Viewer


@dataclass
class Sandbox:
    """Starts and stops the servers; a port of 0 is replaced by a free one."""

    key: str
    account_sid: str
    auth_token: str
    smtp_port: int = 0
    sms_port: int = 0
    http_port: int = 0
    host: str = "127.0.0.1"
    data: Path | None = None
    receipt_seconds: float = 0.2

    async def __aenter__(self) -> "Sandbox":
        self.evidence = Evidence(self.data)
        self.faults = Faults()
        async with AsyncExitStack() as stack:
            stack.callback(self.evidence.close)
            mail = MailServer(Mailbox(self.evidence, self.faults))
            stack.push_async_callback(mail.close)
            self.smtp_port = await mail.start(self.host, self.smtp_port)
            gateways = Gateways(
                self.evidence, self.faults, self.key, self.account_sid, self.auth_token, self.receipt_seconds
            )
            self.sms_port = await self._serve(stack, gateways.app(), self.sms_port)
            self.http_port = await self._serve(
                stack, Viewer(self.evidence, self.faults).app(), self.http_port
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _serve(self, stack: AsyncExitStack, app: web.Application, port: int) -> int:
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.2)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, self.host, port).start()
        return int(runner.addresses[0][1])

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop."""
        async with self:
            await stop.wait()
