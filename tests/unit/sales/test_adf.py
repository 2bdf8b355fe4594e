"""ADF documents: what becomes a lead, and the reason why something does not."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies

from sales.adf import AdfLead, read_adf
from tests.unit.sales.samples import VIN

PROSPECT = """<prospect status="new">
  <id sequence="1" source="AutoPortal">42</id>
  <requestdate>2026-01-05T09:30:00+08:00</requestdate>
  <vehicle interest="buy" status="new"><year>2026</year><make>Hongtong</make><model>H5</model></vehicle>
  <customer>
    <contact><name part="first">小明</name><name part="last">王</name>
      <phone type="voice">138 0013 8000</phone><email>wang@example.com</email></contact>
    <comments>Can I   try it
      on Saturday?</comments>
  </customer>
  <vendor><vendorname>D001</vendorname></vendor>
  <provider><name part="full">AutoPortal</name></provider>
</prospect>"""


def adf(*prospects: str, encoding: str = "UTF-8") -> bytes:
    text = f'<?xml version="1.0" encoding="{encoding}"?><?adf version="1.0"?><adf>{"".join(prospects)}</adf>'
    return text.encode(encoding)


def reason_for(document: bytes) -> str:
    (only,) = read_adf(document)
    assert only.lead is None
    assert only.xml == document
    return only.reason


def lead_of(document: bytes) -> AdfLead:
    (only,) = read_adf(document)
    assert only.lead is not None, only.reason
    return only.lead


def test_a_whole_prospect() -> None:
    assert lead_of(adf(PROSPECT)) == AdfLead(
        name="小明 王",
        phone="138 0013 8000",
        email="wang@example.com",
        model="Hongtong H5",
        vin=None,
        comments="Can I try it on Saturday?",
        provider="AutoPortal",
        requested_at=datetime(2026, 1, 5, 1, 30, tzinfo=UTC),
    )


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16", "GB18030", "gbk", "GB2312"])
def test_chinese_names_in_every_encoding_that_portals_use(encoding: str) -> None:
    assert lead_of(adf(PROSPECT, encoding=encoding)).name == "小明 王"


def test_a_full_name_wins_over_its_parts() -> None:
    document = PROSPECT.replace("<contact>", '<contact><name part="full">Wang Xiaoming</name>')
    assert lead_of(adf(document)).name == "Wang Xiaoming"


def test_an_invalid_number_does_not_matter_where_the_address_is_good() -> None:
    lead = lead_of(adf(PROSPECT.replace("138 0013 8000", "12")))
    assert (lead.phone, lead.email) == (None, "wang@example.com")


def test_the_vin_of_a_wanted_car() -> None:
    assert lead_of(adf(PROSPECT.replace("<year>", f"<vin>{VIN.lower()}</vin><year>"))).vin == VIN


def test_a_time_without_zone_is_taken_as_utc() -> None:
    lead = lead_of(adf(PROSPECT.replace("+08:00", "")))
    assert lead.requested_at == datetime(2026, 1, 5, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<requestdate>2026-01-05T09:30:00+08:00", "<requestdate>yesterday", "requestdate"),
        ("<requestdate>2026-01-05T09:30:00+08:00", "<requestdate>0001-01-01T00:00:00+08:00", "requestdate"),
        ("<requestdate>2026-01-05T09:30:00+08:00", "<requestdate>9999-12-31T23:59:59-08:00", "requestdate"),
        ("<make>Hongtong</make><model>H5</model>", "", "neither <make> nor <model>"),
        ("138 0013 8000", "12", "no valid <phone> or <email>"),
        ('<name part="first">小明</name><name part="last">王</name>', "", "no <name>"),
        (
            '<name part="first">小明',
            '<name part="first">' + "x" * 201,
            "<name>: String should have at most 200",
        ),
        ("<year>", "<vin>LSVAA49J232047371</vin><year>", "<vin>: the check digit"),
        ("<contact>", "<contacts>", "not well-formed XML, at line"),
        ("</prospect>", "", "not well-formed XML, at line"),
    ],
)
def test_a_malformed_prospect_is_answered_with_the_reason(old: str, new: str, reason: str) -> None:
    document = PROSPECT.replace(old, new)
    if "<email>" in document and "phone" in reason:
        document = document.replace("wang@example.com", "nobody")
    assert reason in reason_for(adf(document))


@pytest.mark.parametrize("missing", ["customer", "vehicle"])
def test_a_prospect_without_its_parts(missing: str) -> None:
    document = PROSPECT.replace(f"<{missing}", "<other", 1).replace(f"</{missing}>", "</other>", 1)
    assert f"has no <{missing}>" in reason_for(adf(document))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "not well-formed"),
        (b"name=Wang&phone=13800138000", "not well-formed"),
        (b"<lead/>", "root element is not <adf>"),
        (b"<adf/>", "has no <prospect>"),
        (b"<adf>" + b"<prospect/>" * 101 + b"</adf>", "more than 100"),
        (b"\xff\xfe\x00", "not "),
        (b'<?xml version="1.0" encoding="klingon"?><adf/>', "encoding"),
        (b'<?xml version="1.0" encoding="gbk"?><adf>\xff\xff</adf>', "encoding"),
        (b'<!DOCTYPE adf [<!ENTITY a "aaaa">]><adf>&a;</adf>', "entities"),
        (b'<!DOCTYPE adf [<!ENTITY a SYSTEM "file:///etc/passwd">]><adf>&a;</adf>', "entities"),
        (b"<adf>" + b"<a>" * 5_000 + b"</a>" * 5_000 + b"</adf>", "nested"),
    ],
)
def test_what_is_no_adf_is_answered_with_the_reason(document: bytes, reason: str) -> None:
    assert reason in reason_for(document)


def test_the_reason_never_holds_the_persons_data() -> None:
    document = adf(PROSPECT.replace("138 0013 8000", "12").replace("wang@example.com", "wang-at-example"))
    assert "wang" not in reason_for(document)


def test_one_bad_prospect_does_not_take_the_others_with_it() -> None:
    good, bad = PROSPECT, PROSPECT.replace("<make>Hongtong</make><model>H5</model>", "")
    first, second, third = read_adf(adf(good, bad, good.replace("小明", "大明")))
    assert first.lead is not None
    assert second.lead is None
    assert third.lead is not None
    assert third.lead.name == "大明 王"
    assert "AutoPortal" in second.xml.decode()


@given(strategies.binary(max_size=300))
def test_any_bytes_are_answered(document: bytes) -> None:
    assert all(prospect.lead is None and prospect.reason for prospect in read_adf(document))


@given(strategies.integers(0, 900), strategies.binary(max_size=4))
def test_a_damaged_document_is_a_lead_or_has_a_reason(at: int, damage: bytes) -> None:
    document = adf(PROSPECT)
    for prospect in read_adf(document[:at] + damage + document[at + len(damage) :]):
        assert (prospect.lead is None) == bool(prospect.reason)
