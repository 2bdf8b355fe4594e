"""What the people of the demo's input files are called, and how to find any of it in a text.

A name or a free text counts as found where it stands as it is, a telephone number where eleven digits stand by
themselves or behind a country code, with or without blanks, an address where it stands as an address. All may be spelt
in JSON's escapes. Left out is what is too short to belong to somebody: names of one character, numbers that are not
whole.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

FREE_TEXTS = (
    "Please call in the afternoon.",
    "noise from the front axle",
    "filter leaks",
    "fit a new gasket",
    "Waited too long",
    "The vehicle was promised for noon and was ready in the evening.",
    "It happened again.",
    "Spoke to the workshop.",
    "A free car wash.",
    "quiet, good brakes",
    "not reachable under this number",
)
"""What the staff of the demo write down about customers."""

_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")
_NUMBER = re.compile(r"(?<!\d)(?:\+?86[ -]?)?(1\d{2}(?:[ -]?\d){8})(?!\d)")
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_CHINESE = re.compile(r"[\u4e00-\u9fff]{2,}")
_ENGLISH = re.compile(r"\b[A-Z][a-z]+ [A-Z][a-z]+\b")


@dataclass(frozen=True)
class Persons:
    """What belongs to them."""

    names: frozenset[str]
    numbers: frozenset[str]
    addresses: frozenset[str]
    texts: tuple[str, ...] = FREE_TEXTS

    def found_in(self, text: str) -> set[str]:
        """What of it is in a text."""
        text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
        runs = set(_CHINESE.findall(text))
        pieces = {
            run[start : start + size]
            for run in runs
            for size in (2, 3, 4)
            for start in range(len(run) - size + 1)
        }
        return set(
            self.names & (pieces | set(_ENGLISH.findall(text)))
            | self.numbers & {_digits(number) for number in _NUMBER.findall(text)}
            | self.addresses & set(_ADDRESS.findall(text))
            | {one for one in self.texts if one in text}
        )


def persons_of(folder: Path) -> Persons:
    """Everybody in the demo's files of input, also those whose rows and documents are refused."""
    lines = (folder / "customers.csv").read_text(encoding="utf-8", errors="replace").splitlines()
    rows = list(csv.DictReader(lines))
    leads = [path.read_text(encoding="utf-8") for path in sorted((folder / "leads").glob("*.xml"))]
    named = [match for lead in leads for match in re.findall(r'<name part="full">([^<]+)</name>', lead)]
    people = {name for name in named if name not in ("Hongtong", "car-portal")}
    mobiles = {row["mobile"] or "" for row in rows}
    mobiles |= {one for lead in leads for one in re.findall(r"<phone[^>]*>([^<]+)</phone>", lead)}
    return Persons(
        names=frozenset(
            name
            for name in {*people, *(row["name"] for row in rows)}
            if len(name) > 1 and "\ufffd" not in name
        ),
        numbers=frozenset(digits for mobile in mobiles if len(digits := _digits(mobile)) == 11),
        addresses=frozenset(
            {row["email"] for row in rows if row["email"]}
            | {one for lead in leads for one in re.findall(r"<email>([^<]+)</email>", lead)}
        ),
    )


def _digits(number: str) -> str:
    return re.sub(r"\D", "", number).removeprefix("86")
