"""Message templates by name, version, language and channel: in a sandbox, checked before the first message.

Files: ``templates/<name>/v<N>/<language>.<channel>.j2`` and ``templates/<name>/v<N>/sample.json``, the
values that the template needs with examples. A version that was ever sent
is not edited: a changed text is a new version.

An SMS template is its text. An email template has the blocks ``subject``, ``text`` and ``html``; values are
escaped in the ``html`` block only. A value that is missing is an error, never an empty place in a letter.
All values are strings; the filters ``moment`` (ISO 8601 time, shown in the customer's time zone), ``day``
(ISO 8601 date) and ``money`` (``123.40 CNY``) spell them in the language of the message.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import StrictUndefined, Template, TemplateError, pass_context
from jinja2.runtime import Context as RenderContext
from jinja2.sandbox import SandboxedEnvironment

from forecourt.errors import InvalidInput, NotFound
from notify.notification import Channel, Language

LANGUAGES: tuple[Language, ...] = get_args(Language)
CHANNELS: tuple[Channel, ...] = get_args(Channel)
BLOCKS = ("subject", "text", "html")
FOLDER = Path(__file__).parent / "templates"

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


class TemplateUnknown(NotFound):
    """There is no template of that name and version."""


class BrokenTemplate(Exception):
    """A template is missing or does not render. Found at start."""


@dataclass(frozen=True)
class Rendered:
    """A message as it is sent; an SMS has neither ``subject`` nor ``html``."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True)
class _Source:
    plain: Template
    escaped: Template


def _spell_day(value: date, language: str) -> str:
    if language == "zh":
        return f"{value.year}年{value.month}月{value.day}日"
    return f"{value.day} {MONTHS[value.month - 1]} {value.year}"


@pass_context
def _moment(context: RenderContext, value: str) -> str:
    local = datetime.fromisoformat(value).astimezone(context["time_zone"])
    return f"{_spell_day(local.date(), context['language'])} {local:%H:%M}"


@pass_context
def _day(context: RenderContext, value: str) -> str:
    return _spell_day(date.fromisoformat(value), context["language"])


def _money(value: str) -> str:
    amount, _, currency = value.partition(" ")
    return f"{currency} {Decimal(amount):,.2f}"


def _environment(*, autoescape: bool) -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, autoescape=autoescape, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(moment=_moment, day=_day, money=_money)
    return environment


class Catalogue:
    """All templates, compiled. Raises `BrokenTemplate` when one is missing or its sample does not render."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._sources: dict[tuple[str, int, Language, Channel], _Source] = {}
        self._samples: dict[tuple[str, int], dict[str, str]] = {}
        self._latest: dict[str, int] = {}
        plain, escaped = _environment(autoescape=False), _environment(autoescape=True)
        for version_folder in sorted(folder.glob("*/v*")):
            self._load(version_folder, plain, escaped)
        self._check()

    def latest(self, name: str) -> int:
        """The newest version of a template. Raises `TemplateUnknown`."""
        if name not in self._latest:
            raise TemplateUnknown("template: unknown", fields={"template": "there is no such template"})
        return self._latest[name]

    def sample(self, name: str, version: int) -> dict[str, str]:
        """Example values, one for everything the template needs. Raises `TemplateUnknown`."""
        if (name, version) not in self._samples:
            raise TemplateUnknown("template: unknown version", fields={"version": "there is no such version"})
        return dict(self._samples[name, version])

    @property
    def templates(self) -> dict[str, int]:
        """The newest version of each template, by name."""
        return dict(self._latest)

    def render(
        self,
        name: str,
        version: int,
        language: Language,
        channel: Channel,
        values: Mapping[str, str],
        time_zone: str,
    ) -> Rendered:
        """The message. The one way to a text: a preview and a message sent are the same call.

        Raises `TemplateUnknown`, and `InvalidInput` where a value is missing or does not fit its filter.
        """
        self.sample(name, version)
        source = self._sources[name, version, language, channel]
        context = {**values, "language": language, "time_zone": _zone(time_zone)}
        try:
            if channel == "sms":
                return Rendered("", _one_line(source.plain.render(context)), "")
            return Rendered(
                subject=_one_line(_block(source.plain, "subject", context)),
                text=_block(source.plain, "text", context).strip(),
                html=_block(source.escaped, "html", context).strip(),
            )
        except (TemplateError, ValueError, InvalidOperation) as error:
            # The message of a template error names variables, never their values; others are not passed on.
            reason = error.message if isinstance(error, TemplateError) else "a value does not fit its filter"
            raise InvalidInput(f"values: {reason}", fields={"values": str(reason)}) from error

    def _load(self, folder: Path, plain: SandboxedEnvironment, escaped: SandboxedEnvironment) -> None:
        name, version = folder.parent.name, int(folder.name.removeprefix("v"))
        for language in LANGUAGES:
            for channel in CHANNELS:
                path = folder / f"{language}.{channel}.j2"
                if not path.exists():
                    raise BrokenTemplate(f"template {name} v{version}: {path.name} is missing")
                text = path.read_text(encoding="utf-8")
                try:
                    source = _Source(plain.from_string(text), escaped.from_string(text))
                except TemplateError as error:
                    raise BrokenTemplate(f"template {name} v{version}: {path.name}: {error}") from error
                if channel == "email" and set(BLOCKS) - source.plain.blocks.keys():
                    raise BrokenTemplate(
                        f"template {name} v{version}: {path.name}: needs the blocks {BLOCKS}"
                    )
                self._sources[name, version, language, channel] = source
        self._samples[name, version] = json.loads((folder / "sample.json").read_text(encoding="utf-8"))
        self._latest[name] = max(version, self._latest.get(name, 0))

    def _check(self) -> None:
        for name, version, language, channel in self._sources:
            try:
                rendered = self.render(
                    name, version, language, channel, self._samples[name, version], "Asia/Shanghai"
                )
            except InvalidInput as error:
                raise BrokenTemplate(f"template {name} v{version} {language}.{channel}: {error}") from error
            if not rendered.text.strip() or (channel == "email" and not rendered.subject):
                raise BrokenTemplate(f"template {name} v{version} {language}.{channel}: is empty")


def _block(template: Template, block: str, values: Mapping[str, Any]) -> str:
    context = template.new_context(dict(values))
    return "".join(str(part) for part in template.blocks[block](context))


def _one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text).strip()


def _zone(time_zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidInput("time_zone: unknown", fields={"time_zone": "must be an IANA time zone"}) from error


@cache
def catalogue() -> Catalogue:
    """The templates of this release, loaded and checked once."""
    return Catalogue()
