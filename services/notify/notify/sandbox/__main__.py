"""``python -m notify.sandbox``: see `notify.sandbox`."""

import argparse
import asyncio
import signal
from pathlib import Path

from forecourt import config
from notify.sandbox.server import Sandbox
from notify.settings import NotifySettings


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m notify.sandbox", description=__doc__)
    parser.add_argument("--smtp-port", type=int, default=2525, help="for mail")
    parser.add_argument("--sms-port", type=int, default=8026, help="for both SMS gateways")
    parser.add_argument("--http-port", type=int, default=8025, help="for what arrived, and for faults")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--data", type=Path, help="folder to keep what arrived in")
    parser.add_argument(
        "--receipt-seconds", type=float, default=0.2, help="pause before a delivery is reported"
    )
    asyncio.run(_run(parser.parse_args()))


async def _run(options: argparse.Namespace) -> None:
    settings = config.load(NotifySettings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sandbox = Sandbox(
        key=settings.notify_sms_generic_key.get_secret_value(),
        account_sid=settings.notify_twilio_account_sid,
        auth_token=settings.notify_twilio_auth_token.get_secret_value(),
        smtp_port=options.smtp_port,
        sms_port=options.sms_port,
        http_port=options.http_port,
        host=options.host,
        data=options.data,
        receipt_seconds=options.receipt_seconds,
    )
    await sandbox.run(stop)


if __name__ == "__main__":
    main()
