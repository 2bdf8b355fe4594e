"""What arrived, in memory and in a file: each line is written before the answer, so a kill loses no evidence."""

from pathlib import Path
from typing import IO, Literal

import msgspec

from forecourt.clock import SystemClock


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a provider took. ``repeats`` counts further requests with the same key."""

    number: int
    channel: Literal["sms", "email"]
    provider: Literal["generic", "twilio", "smtp"]
    reference: str
    to: str
    text: str
    key: str = ""
    sender: str = ""
    subject: str = ""
    html: str = ""
    received_at: str
    repeats: int = 0
    receipt: str = ""


class Evidence:
    """The messages that arrived, in order."""

    def __init__(self, folder: Path | None = None) -> None:
        self._messages: list[Arrived] = []
        self._by_key: dict[str, int] = {}
        self._clock = SystemClock()
        self._file: IO[bytes] | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "messages.jsonl"
            if path.exists():
                self._load(path.read_bytes())
            self._file = path.open("ab")

    def _load(self, lines: bytes) -> None:
        # A last line that a kill cut short was never answered for.
        for line in lines.split(b"\n")[:-1]:
            self._keep(msgspec.json.decode(line, type=Arrived))

    def _keep(self, message: Arrived) -> None:
        if message.number <= len(self._messages):
            self._messages[message.number - 1] = message
        else:
            self._messages.append(message)
        if message.key:
            self._by_key[f"{message.provider}:{message.key}"] = message.number

    def _write(self, message: Arrived) -> Arrived:
        self._keep(message)
        if self._file is not None:
            self._file.write(msgspec.json.encode(message) + b"\n")
            self._file.flush()
        return message

    def add(
        self,
        *,
        channel: Literal["sms", "email"],
        provider: Literal["generic", "twilio", "smtp"],
        to: str,
        text: str,
        reference: str = "",
        key: str = "",
        sender: str = "",
        subject: str = "",
        html: str = "",
    ) -> Arrived:
        """Note a message that was taken."""
        number = len(self._messages) + 1
        return self._write(
            Arrived(
                number=number,
                channel=channel,
                provider=provider,
                reference=reference or f"{provider}-{number:06d}",
                to=to,
                text=text,
                key=key,
                sender=sender,
                subject=subject,
                html=html,
                received_at=self._clock.now().isoformat(),
            )
        )

    def by_key(self, provider: str, key: str) -> Arrived | None:
        """The message that came with an idempotency key."""
        number = self._by_key.get(f"{provider}:{key}")
        return None if number is None else self._messages[number - 1]

    def repeated(self, message: Arrived) -> Arrived:
        """Note that a message came again with the same key, and was not sent again."""
        current = self._messages[message.number - 1]
        return self._write(msgspec.structs.replace(current, repeats=current.repeats + 1))

    def received(self, message: Arrived, receipt: str) -> Arrived:
        """Note which receipt was sent back."""
        return self._write(msgspec.structs.replace(self._messages[message.number - 1], receipt=receipt))

    def find(
        self, *, channel: str = "", provider: str = "", to: str = "", key: str = "", contains: str = ""
    ) -> list[Arrived]:
        """Messages that fit every condition that is given."""
        return [
            m
            for m in self._messages
            if (not channel or m.channel == channel)
            and (not provider or m.provider == provider)
            and (not to or m.to == to)
            and (not key or key in (m.key, m.reference.partition("@")[0]))
            and (not contains or contains in f"{m.subject}\n{m.text}")
        ]

    def __len__(self) -> int:
        return len(self._messages)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
