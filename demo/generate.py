"""Makes the demo's input files, the same ones for the same seed: ``python -m demo.generate``.

``input/customers.csv``: 2,000 customers of a group of 7 stores, some rows bad on purpose. ``input/leads/*.xml``:
60 ADF/XML leads, three of them malformed. ``input/vehicles.csv``: the vehicles that come into stock.
All people are invented; mobile numbers and VINs are random ones that pass the checks.
"""

import csv
import io
import random
import string
from collections.abc import Iterator
from pathlib import Path

from trade.vin import expected_check_digit

SEED = 20260105
CUSTOMERS = 2_000
LEADS = 60
VEHICLES = 30
DEALERS = tuple(f"D{number:03}" for number in range(1, 8))
MODELS = ("Hongtong E5", "Hongtong E7", "Hongtong S3", "Hongtong S9")

INPUT = Path(__file__).parent / "input"
COLUMNS = ("name", "mobile", "email", "kind", "language", "vin", "dealer", "consents")

_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕"
_GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂英华玉萍红建国志海燕春梅晓雪峰宇浩然子轩梓涵"
_ENGLISH = (
    "Alice Chen",
    "Brian Wu",
    "Carol Lin",
    "David Zhou",
    "Emma Tang",
    "Frank Xu",
    "Grace He",
    "Henry Luo",
)
_PREFIXES = ("130", "131", "135", "136", "137", "138", "139", "150", "151", "158", "159", "186", "187", "188")
_VIN_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"
_KINDS = ("prospect", "buyer", "buyer", "repair", "repair", "vip", "member", "company")

BAD_MOBILES = ("12345", "138001380", "not given", "+86 999", "1380013800X")
BAD_VINS = ("LSVAA4180E2184841", "LSVIO4181E2184841", "LSV123", "5YJSA1E10HF000000")


def main() -> None:
    """Write all input files."""
    INPUT.mkdir(exist_ok=True)
    chance = random.Random(SEED)
    (INPUT / "customers.csv").write_bytes(customers(chance))
    (INPUT / "vehicles.csv").write_text(vehicles(chance), encoding="utf-8")
    leads_folder = INPUT / "leads"
    leads_folder.mkdir(exist_ok=True)
    for number, document in enumerate(leads(chance), start=1):
        (leads_folder / f"{number:03}.xml").write_bytes(document)


def customers(chance: random.Random, count: int = CUSTOMERS) -> bytes:
    """The customer file: UTF-8, but for a few rows that some old program wrote in GBK. At least 200 rows."""
    count = max(count, 200)
    good = [_customer(chance) for _ in range(count)]
    spoilt = chance.sample(range(100, count), 60)
    broken = frozenset(spoilt[50:])
    for number in spoilt[:14]:
        good[number]["mobile"] = chance.choice(BAD_MOBILES)
    for number in spoilt[14:24]:
        good[number]["vin"] = chance.choice(BAD_VINS)
    for number in spoilt[24:34]:
        good[number]["name"] = ""
    for number in spoilt[34:50]:
        original = good[chance.randrange(100)]
        # At the same store: another one may have the same customer.
        good[number] |= {column: original[column] for column in ("name", "mobile", "dealer")}
    lines = [_line(dict(zip(COLUMNS, COLUMNS, strict=True))).encode()]
    for number, row in enumerate(good):
        if number in broken:
            row["name"] = _chinese_name(chance)
        lines.append(_line(row).encode("gbk" if number in broken else "utf-8"))
    return b"".join(lines)


def _customer(chance: random.Random) -> dict[str, str]:
    english = chance.random() < 0.08
    kind = chance.choice(_KINDS)
    mobile = _mobile(chance)
    owns = kind in ("buyer", "repair", "vip", "member") and chance.random() < 0.6
    return {
        "name": chance.choice(_ENGLISH) if english else _chinese_name(chance),
        "mobile": f"{mobile[:3]} {mobile[3:7]} {mobile[7:]}" if chance.random() < 0.2 else mobile,
        "email": f"{_word(chance)}.{mobile[-4:]}@example.com" if chance.random() < 0.45 else "",
        "kind": kind,
        "language": "en" if english else "zh",
        "vin": make_vin(chance) if owns else "",
        "dealer": chance.choice(DEALERS),
        "consents": "service marketing" if chance.random() < 0.5 else "service",
    }


def vehicles(chance: random.Random) -> str:
    """The vehicles that come into stock: VIN, model, store."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("vin", "model", "dealer"))
    for number in range(VEHICLES):
        writer.writerow((make_vin(chance), MODELS[number % len(MODELS)], DEALERS[number % len(DEALERS)]))
    return out.getvalue()


def leads(chance: random.Random) -> Iterator[bytes]:
    """ADF/XML 1.0 documents; numbers 17, 34 and 51 are malformed, each in a way of its own."""
    for number in range(1, LEADS + 1):
        document = lead_document(chance, number)
        if number == 17:
            document = document.replace("</customer>", "")
        elif number == 34:
            document = document.replace(_between(document, "<contact>", "</contact>"), "")
        elif number == 51:
            document = document.replace("<adf>", "<lead>").replace("</adf>", "</lead>")
        yield document.encode()


def lead_document(chance: random.Random, number: int) -> str:
    """An ADF/XML 1.0 document, well formed."""
    name, mobile = _chinese_name(chance), _mobile(chance)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<?adf version="1.0"?>
<adf>
  <prospect>
    <id sequence="1" source="car-portal">{number:06}</id>
    <requestdate>2026-01-05T{8 + number % 10:02}:{number % 60:02}:00+08:00</requestdate>
    <vehicle interest="buy" status="new">
      <year>2026</year>
      <make>Hongtong</make>
      <model>{MODELS[number % len(MODELS)].removeprefix("Hongtong ")}</model>
    </vehicle>
    <customer>
      <contact>
        <name part="full">{name}</name>
        <email>{_word(chance)}@example.com</email>
        <phone type="cellphone">{mobile}</phone>
      </contact>
      <comments>Please call in the afternoon.</comments>
    </customer>
    <vendor>
      <vendorname>{DEALERS[number % len(DEALERS)]}</vendorname>
      <contact><name part="full">Hongtong</name></contact>
    </vendor>
    <provider>
      <name part="full">car-portal</name>
    </provider>
  </prospect>
</adf>
"""


def make_vin(chance: random.Random) -> str:
    """A random VIN of a Chinese maker with a right check digit."""
    vin = "LHT" + "".join(chance.choice(_VIN_LETTERS) for _ in range(5)) + "0" + "T"
    vin += "A" + "".join(chance.choice(string.digits) for _ in range(6))
    return vin[:8] + expected_check_digit(vin) + vin[9:]


def _line(row: dict[str, str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([row[column] for column in COLUMNS])
    return out.getvalue()


def _chinese_name(chance: random.Random) -> str:
    return chance.choice(_SURNAMES) + "".join(chance.choice(_GIVEN) for _ in range(chance.choice((1, 2, 2))))


def _mobile(chance: random.Random) -> str:
    return chance.choice(_PREFIXES) + "".join(chance.choice(string.digits) for _ in range(8))


def _word(chance: random.Random) -> str:
    return "".join(chance.choice(string.ascii_lowercase) for _ in range(7))


def _between(text: str, start: str, end: str) -> str:
    return text[text.index(start) : text.index(end) + len(end)]


if __name__ == "__main__":
    main()
