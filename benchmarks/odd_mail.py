"""Hundreds of odd messages as programs really write them, each with what its sender meant."""

from __future__ import annotations

import base64
import binascii
import quopri
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

#: Texts by the label that a sender gives, and the codec that it really writes in.
CHARSETS: Final = (
    *(("iso-8859-1", "cp1252", "“Grüße” – 5 €"), ("us-ascii", "cp1252", "It’s")),
    *(("windows-1252", "cp1252", "Œuvre…"), ("iso-8859-15", "iso8859-15", "5 €")),
    *(("iso-8859-2", "iso8859-2", "Žluťoučký kůň"), ("windows-1250", "cp1250", "Žluťoučký „kůň“")),
    *(
        ("koi8-r", "koi8-r", "Привет"),
        ("windows-1251", "cp1251", "Привет"),
        ("x-cp1251", "cp1251", "Да"),
    ),
    *(
        ("iso-8859-5", "iso8859-5", "Привет"),
        ("koi8-u", "koi8-u", "Привіт"),
        ("cp866", "cp866", "Привет"),
    ),
    *(("iso-8859-7", "iso8859-7", "Καλημέρα"), ("windows-1253", "cp1253", "Καλημέρα")),
    *(
        ("iso-8859-8-i", "iso8859-8", "שלום"),
        ("windows-1255", "cp1255", "שלום"),
        ("logical", "iso8859-8", "שלום"),
    ),
    *(("windows-1256", "cp1256", "مرحبا"), ("iso-8859-6", "iso8859-6", "مرحبا")),
    *(
        ("iso-8859-9", "cp1254", "Işık 5 €"),
        ("windows-874", "cp874", "สวัสดี"),
        ("tis-620", "cp874", "สวัสดี…"),
    ),
    *(
        ("iso-2022-jp", "iso2022_jp", "日本語"),
        ("shift_jis", "cp932", "①日本語～"),
        ("x-sjis", "cp932", "日本"),
    ),
    *(
        ("euc-jp", "euc_jp", "日本語"),
        ("windows-31j", "cp932", "㈱日本"),
        ("cp932", "cp932", "髙橋"),
    ),
    *(("gb2312", "gbk", "朱镕基"), ("gbk", "gbk", "朱镕基"), ("gb18030", "gb18030", "朱镕基")),
    *(("x-gbk", "gbk", "镕"), ("big5", "cp950", "中文測試"), ("cn-big5", "cp950", "中文")),
    *(
        ("euc-kr", "cp949", "똠방각하"),
        ("ks_c_5601-1987", "cp949", "똠방"),
        ("korean", "cp949", "한국어"),
    ),
    *(
        ("utf-8", "utf-8", "grüße 📦"),
        ("utf8", "utf-8", "grüße"),
        ("unicode-1-1-utf-8", "utf-8", "ä"),
    ),
    *(
        ("utf-16", "utf-16", "grüße"),
        ("macintosh", "mac-roman", "naïve"),
        ("x-unknown", "utf-8", "ä"),
    ),
)
NAMES: Final = ("a.txt", "a b.pdf", "Grüße.pdf", "日本語.doc", "a;b.txt", 'a"b.txt', "a(b).txt")
FILE: Final = bytes(range(256)) * 3


@dataclass
class Odd:
    """A message, and what a person who opens it should see."""

    kind: str
    data: bytes
    subject: str = "odd"
    text: str = "Hello"
    files: dict[str, bytes] = field(default_factory=dict)


def odd_messages() -> list[Odd]:
    """The corpus: always the same."""
    from broken_mail import broken_messages
    from client_mail import client_messages
    from odder_mail import odder_messages

    kinds = (_charsets, _words, _names, _bodies, _encodings, _types, _old, _forwarded)
    return [
        *(each for kind in kinds for each in kind()),
        *odder_messages(),
        *client_messages(),
        *broken_messages(),
    ]


def mail(body: bytes, content_type: str = "text/plain", *fields: str) -> bytes:
    head = "".join(f"{each}\r\n" for each in fields)
    return (
        b"From: Bob <bob@example.org>\r\nTo: ada@example.com\r\n"
        + f"{head}MIME-Version: 1.0\r\nContent-Type: {content_type}\r\n".encode()
        + (b"" if any(each.startswith("Subject") for each in fields) else b"Subject: odd\r\n")
        + b"\r\n"
        + body
    )


def multipart(subtype: str, *parts: bytes, boundary: str = "b") -> tuple[bytes, str]:
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts)
    return body + b"--%b--\r\n" % boundary.encode(), f"multipart/{subtype}; boundary={boundary}"


def part(content: bytes, content_type: str = "text/plain", *fields: str) -> bytes:
    head = "".join(f"{each}\r\n" for each in fields)
    return f"Content-Type: {content_type}\r\n{head}\r\n".encode() + content


def base64_lines(content: bytes) -> bytes:
    return base64.encodebytes(content).replace(b"\n", b"\r\n")


def _charsets() -> Iterator[Odd]:
    for label, codec, text in CHARSETS:
        octets = text.encode(codec)
        yield Odd(
            "charset",
            mail(
                base64_lines(octets),
                f"text/plain; charset={label}",
                "Content-Transfer-Encoding: base64",
            ),
            text=text,
        )
        word = f"=?{label}?B?{base64.b64encode(octets).decode()}?="
        yield Odd("word", mail(b"Hello", "text/plain", f"Subject: {word}"), subject=text)
        if codec not in ("utf-16",):
            html = f"<html><meta charset={label}><p>{text}</p>".encode(codec)
            if label not in ("x-unknown",):
                yield Odd(
                    "meta",
                    mail(base64_lines(html), "text/html", "Content-Transfer-Encoding: base64"),
                    text=text,
                )


def _words() -> Iterator[Odd]:
    for written, subject in (
        ("=?UTF-8?Q?Ready_to_go?_=E2=9C=93?=", "Ready to go? ✓"),
        ("=?utf-8?q?a?= =?utf-8?q?b??= c", "ab? c"),
        ("=?utf-8?b?w6Q=?= =?utf-8?b?w6Q=?=", "ää"),
        ("=?utf-8?b?w6?= =?utf-8?b?pA==?=", "ä"),
        ("=?utf-8*de?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?utf-8?q?with spaces in it?=", "with spaces in it"),
        ('"=?utf-8?q?quoted?="', '"quoted"'),
        ("a =?utf-8?q?b?=c", "a bc"),
        ("(=?utf-8?q?x?=)", "(x)"),
        ("=?gb2312?b?6UY=?=", "镕"),
        ("=?utf-8?b?8J+TpiBib3g?=", "📦 box"),
        ("Gr\u00fc\u00dfe", "Grüße"),
    ):
        yield Odd("word", mail(b"Hello", "text/plain", f"Subject: {written}"), subject=subject)


def _names() -> Iterator[Odd]:
    for name in NAMES:
        clean = name.replace('"', "")
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        word = f"=?utf-8?B?{base64.b64encode(name.encode()).decode()}?="
        encoded = quote(name, safe="")
        for disposition in (
            f'attachment; filename="{quoted}"',
            f'attachment; filename="{word}"',
            f"attachment; filename*=utf-8''{encoded}",
            f"attachment; filename*0*=utf-8''{encoded[:4]}; filename*1*={encoded[4:]}",
        ):
            if not len(encoded) >= 4 or "%" in encoded[2:4]:
                continue
            body, content_type = multipart(
                "mixed",
                part(b"Hello"),
                part(
                    base64_lines(FILE),
                    "application/octet-stream",
                    "Content-Transfer-Encoding: base64",
                    f"Content-Disposition: {disposition}",
                ),
            )
            yield Odd("name", mail(body, content_type), files={clean: FILE})


def _bodies() -> Iterator[Odd]:
    html = part(b"<p>Hello</p>", "text/html; name=body.html")
    yield Odd("named body", mail(b"<p>Hello</p>", "text/html; name=body.html"))
    inline = ("Content-Disposition: inline; filename=body.html",)
    yield Odd("named body", mail(b"<p>Hello</p>", "text/html", *inline))
    for parts, text in (
        ((part(b"one"), part(b"two")), "one two"),
        ((part(b"<p>one</p>", "text/html"), part(b"<p>two</p>", "text/html")), "one two"),
        ((html, part(b"a footer")), "Hello a footer"),
        ((part(b"one"), part(b"a,b", "text/csv")), "one a,b"),
    ):
        body, content_type = multipart("mixed", *parts)
        yield Odd("several bodies", mail(body, content_type), text=text)
    inner, inner_type = multipart(
        "alternative", part(b"Hello"), part(b"<p>Hello</p>", "text/html"), boundary="a"
    )
    body, content_type = multipart("mixed", part(inner, inner_type), part(b"footer"))
    yield Odd("several bodies", mail(body, content_type), text="Hello footer")
    body, content_type = multipart("mixed", part(b"Hello"))
    yield Odd("cut off", mail(body.replace(b"--b--\r\n", b""), content_type))
    yield Odd("no boundary", mail(b"Hello", "multipart/mixed"))
    yield Odd("no boundary", mail(b"Hello", "multipart/mixed; boundary=other"))
    yield Odd("preamble", mail(b"This is MIME.\r\n" + body + b"epilogue", content_type))
    body, content_type = multipart("digest", b"\r\nSubject: x\r\n\r\nwithin", part(b"Hello"))
    yield Odd(
        "nested",
        mail(body, content_type),
        text="---------- Message within ---------- Subject: x within Hello",
    )


def _encodings() -> Iterator[Odd]:
    for name, octets in (
        ("base64", b"SGVs\r\nbG8=\r\n"),
        ("base64", b"SGVs bG8=\r\n"),
        ("BASE64 ", b"SGVsbG8"),
        ("base64", b"SGU=\r\nbGxv\r\n"),
        ("base64", b"SGVsbG8=\r\n-- \r\n"),
        ("quoted-printable", b"Hel=6Co  \t\r\n"),
        ("quoted-printable", b"Hel=\r\nlo\r\n"),
        ("quoted-printable", b"Hel=  \r\nlo\r\n"),
        ("quoted-printable", b"Hel=6co"),
        ("8bit", b"Hello"),
        ("7bits", b"Hello"),
        ("binary", b"Hello\n"),
    ):
        yield Odd("encoding", mail(octets, "text/plain", f"Content-Transfer-Encoding: {name}"))


def _types() -> Iterator[Odd]:
    for content_type in (
        *("text/plain (hand made); charset=utf-8", "text/plain; charset=utf-8 (a (nested) one)"),
        *("plain", "(((", "text", "text/plain;", "TEXT/PLAIN; CHARSET=UTF-8", "text / plain"),
        *("text/plain; charset", "text/plain; charset=", 'text/plain; charset="utf-8'),
        *("text/plain charset=utf-8", "text/plain; name*", "text/plain; name*0*", "text/plain;;;"),
        *(
            "text/plain; charset='utf-8'",
            "text/plain; format=flowed",
            "text/foo",
            "text/plain; x*=y",
        ),
    ):
        yield Odd("type", mail(b"Hello", content_type))
    flowed = "text/plain; format=flowed"
    yield Odd("flowed", mail(b"one \r\ntwo", flowed), text="one two")
    yield Odd("flowed", mail(b"on \r\ne", flowed + "; delsp=yes"), text="one")
    yield Odd(
        "flowed",
        mail(
            quopri.encodestring(b"one \r\ntwo"),
            flowed,
            "Content-Transfer-Encoding: quoted-printable",
        ),
        text="one two",
    )


def _old() -> Iterator[Odd]:
    lines = b"".join(binascii.b2a_uu(FILE[at : at + 45]) for at in range(0, len(FILE), 45))
    encoded = (b"begin 644 a.bin\n" + lines + b"`\nend\n").replace(b"\n", b"\r\n")
    yield Odd("uuencode", mail(b"Hello\r\n" + encoded), files={"a.bin": FILE})
    yield Odd(
        "uuencode",
        mail(b"Hello\r\n" + encoded + encoded.replace(b"a.bin", b"b.bin")),
        files={"a.bin": FILE, "b.bin": FILE},
    )
    body, content_type = multipart("mixed", part(b"Hello\r\n" + encoded), part(b"", "text/plain"))
    yield Odd("uuencode", mail(body, content_type), files={"a.bin": FILE})
    file = part(
        encoded, "application/octet-stream; name=a.bin", "Content-Transfer-Encoding: x-uuencode"
    )
    body, content_type = multipart("mixed", part(b"Hello"), file)
    yield Odd("uuencode", mail(body, content_type), files={"a.bin": FILE})
    for folded in ("Subject:\r\n odd", "Subject: odd \r\n ", "subject : odd", "SUBJECT:odd"):
        yield Odd("field", mail(b"Hello", "text/plain", folded))
    yield Odd("field", mail(b"Hello").replace(b"\r\n", b"\n"))


def _forwarded() -> Iterator[Odd]:
    within = (
        "From: Eve <eve@example.net>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nInner words"
    )
    shown = "Hello ---------- Message within ---------- From: Eve <eve@example.net> Subject: Grüße Inner words"
    body, content_type = multipart("mixed", part(b"Hello"), part(within.encode(), "message/rfc822"))
    yield Odd("forwarded", mail(body, content_type), text=shown)
    calendar = b"BEGIN:VCALENDAR"
    yield Odd("calendar", mail(calendar, "text/calendar; method=REQUEST"), text=calendar.decode())
    yield Odd("table", mail(b"a,b", "text/csv"), text="a,b")
