"""Messages inside their S/MIME signature are read; what can't be opened stays as it is."""

from __future__ import annotations

import base64
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from smtp_blinker.web.reader import details, entry, markup, signed
from smtp_blinker.web.reader.bodies import attachments

INNER = (
    b'Content-Type: multipart/mixed; boundary="q"\r\n\r\n'
    b"--q\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Gr\xc3\xbc\xc3\x9fe</p>\r\n"
    b"--q\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\nx\r\n--q--\r\n"
)
DATA = "2a864886f70d010701"
SIGNED_DATA = "2a864886f70d010702"
ENVELOPED_DATA = "2a864886f70d010703"


def element(tag: int, content: bytes, *, is_open: bool = False) -> bytes:
    """An element of BER; *is_open* is the indefinite form."""
    if is_open:
        return bytes([tag, 0x80]) + content + b"\0\0"
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes(4)
    return bytes([tag, 0x84]) + length + content


def cms(content: bytes, kind: str = SIGNED_DATA, *, is_open: bool = False) -> bytes:
    """A ContentInfo (RFC 5652 section 3) without a signer."""

    def made(tag: int, *contents: bytes) -> bytes:
        return element(tag, b"".join(contents), is_open=is_open)

    if is_open:
        octets = made(0x24, *(element(0x04, content[at : at + 50]) for at in range(0, 999, 50)))
    else:
        octets = element(0x04, content)
    inner = made(0x30, element(0x06, bytes.fromhex(DATA)), made(0xA0, octets))
    data = made(0x30, element(0x02, b"\1"), made(0x31, made(0x30, element(0x05, b""))), inner)
    return made(0x30, element(0x06, bytes.fromhex(kind)), made(0xA0, data))


def mail(content: bytes, content_type: str = "application/pkcs7-mime; name=smime.p7m") -> bytes:
    return (
        f"From: bob@example.org\r\nSubject: odd\r\nContent-Type: {content_type}\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\n".encode()
    ) + base64.encodebytes(content)


def described(data: bytes) -> dict[str, Any]:
    message, content = signed.read(data)
    listed = entry.Entry("id", "", 0.0, True, len(data)).as_dict()
    return details.describe(listed, content, message)


@pytest.mark.parametrize("is_open", [False, True], ids=["DER", "BER"])
@pytest.mark.parametrize(
    "content_type",
    [
        "application/pkcs7-mime; smime-type=signed-data; name=smime.p7m",
        "application/x-pkcs7-mime",
        "application/octet-stream; name=SMIME.P7M",
    ],
)
def test_what_is_inside_a_signature_is_shown(content_type: str, is_open: bool) -> None:
    data = mail(cms(INNER, is_open=is_open), content_type)
    shown = described(data)
    assert shown["text"] == "Grüße"
    assert shown["text_from_html"]
    assert ["Subject", "odd"] in shown["headers"]
    message, content = signed.read(data)
    assert "<p>Grüße</p>" in b"".join(markup.document(message, content)).decode()
    assert [each.filename for each in attachments(message, content)] == ["a.pdf"]
    summary = entry.summarize(len(data), content, message)
    assert (summary["subject"], summary["snippet"]) == ("odd", "Grüße")


def test_a_signature_around_another_is_opened_too() -> None:
    data = mail(cms(mail(cms(INNER))))
    assert described(data)["text"] == "Grüße"


def test_a_signed_message_within_another_is_opened() -> None:
    within = mail(cms(b"Content-Type: text/plain\r\n\r\nInner words"))
    data = b"Content-Type: message/rfc822\r\n\r\n" + within
    assert "Inner words" in described(data)["text"]


def test_a_signed_message_that_is_cut_off_is_shown_as_far_as_it_goes() -> None:
    text = b"Content-Type: text/plain\r\n\r\n" + b"Hello " * 1000
    shown = described(mail(cms(text)[:2000]))
    assert shown["text"].startswith("Hello Hello")


@pytest.mark.parametrize(
    "content",
    [cms(INNER, ENVELOPED_DATA), b"", b"\x30", b"0\x80" * 1000, b"x" * 100, cms(b"")[:30]],
)
def test_what_is_no_signed_data_stays_an_attachment(content: bytes) -> None:
    message, data = signed.read(mail(content))
    assert [each.filename for each in attachments(message, data)] == ["smime.p7m"]
    assert described(mail(content))["text"] == ""


def test_broken_signatures_raise_nothing() -> None:
    chance = random.Random(13)
    for whole in (cms(INNER), cms(INNER, is_open=True)):
        for _ in range(2000):
            broken = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                broken[chance.randrange(70)] = chance.randrange(256)
            signed.signed_content(bytes(broken))


@pytest.mark.parametrize(
    "content",
    [
        b"\x04\x00" * 2**20,
        b"\x31\x80" + b"\x04\x00" * 2**20,
        (b"\x31\x80" * 7 + b"\x04\x00" * 3 + b"\0\0" * 7) * 60_000,
        b"\x31\x80" * 2**20,
    ],
)
def test_a_hostile_signature_takes_little_time(content: bytes) -> None:
    start = cms(b"")
    at = start.index(b"\x31")
    began = time.process_time()
    signed.signed_content(
        b"0\x80" + start[2:13] + b"\xa0\x80\x30\x80" + start[at - 3 : at] + content
    )
    assert time.process_time() - began < 2


def test_a_message_that_openssl_signed(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(INNER)
    new = "req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -subj /CN=bob -days 2"
    for command in (
        new,
        "smime -sign -nodetach -in in -signer cert -inkey key -out smime",
        "cms -sign -nodetach -stream -indef -in in -signer cert -inkey key -out cms",
        "smime -encrypt -in in -out closed cert",
    ):
        try:
            subprocess.run(
                ["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True
            )
        except FileNotFoundError:
            pytest.skip("openssl is missing: apt-get install openssl")
    for name in ("smime", "cms"):
        assert described((tmp_path / name).read_bytes())["text"] == "Grüße"
    assert described((tmp_path / "closed").read_bytes())["text"] == ""
