"""Templates: complete, checked at start, sandboxed, escaped, and never edited once they exist."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from forecourt.errors import InvalidInput
from notify.catalogue import (
    CHANNELS,
    FOLDER,
    LANGUAGES,
    BrokenTemplate,
    Catalogue,
    TemplateUnknown,
    catalogue,
)

SEALS = Path(__file__).parents[2] / "golden" / "notify" / "TEMPLATES"


def folder(tmp_path: Path, **files: str) -> Path:
    """A catalogue of one template, with some files replaced (``en_sms`` for ``en.sms.j2``)."""
    target = tmp_path / "vehicle_arrived" / "v1"
    shutil.copytree(FOLDER / "vehicle_arrived" / "v1", target)
    for name, text in files.items():
        (target / f"{name.replace('_', '.')}.j2").write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", sorted(catalogue().templates))
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("channel", CHANNELS)
def test_every_template_speaks_every_language_on_every_channel(
    name: str, language: Any, channel: Any
) -> None:
    version = catalogue().latest(name)
    rendered = catalogue().render(
        name, version, language, channel, catalogue().sample(name, version), "Asia/Shanghai"
    )
    assert rendered.text
    assert "{{" not in rendered.text + rendered.html + rendered.subject
    assert "\n" not in rendered.subject
    if channel == "sms":
        assert len(rendered.text) <= 200


def test_no_template_that_exists_was_edited() -> None:
    """A changed text is a new version: messages of the past must still be explained by their template."""
    files = {
        str(path.relative_to(FOLDER)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(FOLDER.rglob("*.*"))
    }
    sealed = (line.split("  ", 1) for line in SEALS.read_text().splitlines())
    assert files == {name: digest for digest, name in sealed}


def test_a_missing_language_is_found_at_start(tmp_path: Path) -> None:
    broken = folder(tmp_path)
    (broken / "vehicle_arrived" / "v1" / "en.sms.j2").unlink()
    with pytest.raises(BrokenTemplate, match=r"en\.sms\.j2 is missing"):
        Catalogue(broken)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ vni }}", "vni"),
        ("{{ vin", "unexpected end"),
        ("   ", "is empty"),
        ("{{ vin | money }}", "does not fit"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_a_broken_template_is_found_at_start(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BrokenTemplate, match=reason):
        Catalogue(folder(tmp_path, en_sms=text))


def test_a_mail_needs_subject_text_and_html(tmp_path: Path) -> None:
    with pytest.raises(BrokenTemplate, match="blocks"):
        Catalogue(folder(tmp_path, en_email="{% block text %}hello{% endblock %}"))


def test_html_is_escaped_and_text_is_not() -> None:
    values = {"name": "<b>Bobby</b> & Co", "store": "S", "vin": "V"}
    mail = catalogue().render("vehicle_arrived", 1, "en", "email", values, "Asia/Shanghai")
    assert "<b>Bobby</b> & Co" in mail.text
    assert "&lt;b&gt;Bobby&lt;/b&gt; &amp; Co" in mail.html
    assert "<b>" not in mail.html


def test_a_subject_is_one_line_whatever_the_values_hold() -> None:
    values = {"name": "n", "store": "s", "model": "H5\r\nBcc: everybody@example.com", "total": "1.00 CNY"}
    mail = catalogue().render("order_placed", 1, "en", "email", values, "Asia/Shanghai")
    assert "\n" not in mail.subject
    assert "\r" not in mail.subject


def test_times_are_the_customers() -> None:
    values = {"name": "n", "store": "s", "vin": "V", "starts_at": "2026-03-05T01:30:00+00:00"}

    def text(language: Any, zone: str) -> str:
        return catalogue().render("appointment_booked", 1, language, "sms", values, zone).text

    assert "2026年3月5日 09:30" in text("zh", "Asia/Shanghai")
    assert "5 March 2026 02:30" in text("en", "Europe/Berlin")


@pytest.mark.parametrize(("name", "version"), [("nonsense", 1), ("vehicle_arrived", 99)])
def test_an_unknown_template_is_refused(name: str, version: int) -> None:
    with pytest.raises(TemplateUnknown):
        catalogue().render(name, version, "zh", "sms", {}, "Asia/Shanghai")


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        catalogue().render("vehicle_arrived", 1, "zh", "sms", {}, "Mars/Olympus")
    assert "time_zone" in refused.value.fields
