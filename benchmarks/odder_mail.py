"""More odd messages: of the kinds of `odd_mail`, and what people met with later."""

from __future__ import annotations

import quopri
from collections.abc import Iterator
from typing import Final

from odd_mail import FILE, Odd, base64_lines, mail, multipart, part

#: Labels that no browser knows and programs write, the codec that they mean, and a text.
LABELS: Final = (
    *(("win-1251", "cp1251", "Привет"), ("windows1251", "cp1251", "Привет")),
    *(("cp-1251", "cp1251", "Привет"), ("windows-cp1251", "cp1251", "Привет")),
    *(("1251", "cp1251", "Привет"), ("win1250", "cp1250", "kůň")),
    *(("x-windows-949", "cp949", "똠방"), ("x-windows-950", "cp950", "中文")),
    *(("cp950", "cp950", "中文"), ("big5-eten", "cp950", "中文"), ("big5-hkscs", "big5", "中文")),
    *(("cp936", "gbk", "朱镕"), ("ms936", "gbk", "朱镕"), ("windows-936", "gbk", "朱镕")),
    *(("GB-2312", "gbk", "朱镕"), ("x-gb2312", "gbk", "朱镕"), ("gb_18030", "gb18030", "朱镕")),
    *(("utf8mb4", "utf-8", "ä📦"), ("UTF_8", "utf-8", "ä"), ('"utf-8";', "utf-8", "ä")),
    *(("utf-7", "utf-7", "Grüße ☺"), ("unicode-1-1-utf-7", "utf-7", "Grüße ☺")),
    *(("utf-16le", "utf-16le", "ä"), ("cp65001", "utf-8", "ä"), ("utf 8", "utf-8", "ä")),
    *(("ibm850", "cp850", "ü"), ("ibm-850", "cp850", "ü"), ("cp00858", "cp858", "5 €")),
    *(("iso-8859-1:1987", "cp1252", "ä"), ("ISO_8859-2:1987", "iso8859-2", "ů")),
    *(("8859-2", "iso8859-2", "ů"), ("ISO 8859-2", "iso8859-2", "ů")),
    *(("latin9", "iso8859-15", "€"), ("latin-9", "iso8859-15", "€")),
    *(("iso8859_15", "iso8859-15", "€"), ("cp28592", "iso8859-2", "ů")),
    *(("koi8-r format=flowed", "koi8-r", "Привет"), ("koi8-r, x", "koi8-r", "Привет")),
    *(("iso-2022-jp-ms", "iso2022_jp", "日本"), ("cp50220", "iso2022_jp", "日本")),
    *(("x-mac-ce", "mac-latin2", "kůň"), ("x-mac-turkish", "mac-turkish", "ş")),
    *(("unknown-8bit", "utf-8", "ä"), ("default", "cp1252", "ä"), ("KS_C_5601", "cp949", "똠")),
)
#: Words of a subject as they are written, and what they say.
SUBJECTS: Final = (
    ("=?utf-8?B?R3LDvMOf?=\r\n =?utf-8?Q?e?=", "Grüße"),
    ("=?utf-8?Q?Gr=C3=BC?=\r\n\t=?iso-8859-1?Q?=DFe?=", "Grüße"),
    ("=?UTF8?Q?Gr=c3=bc=c3=9fe?=", "Grüße"),
    ("=?utf-8?B?R3LDvMOfZQ?=", "Grüße"),
    ("=?utf-8?B?R3LD vMOf ZQ==?=", "Grüße"),
    ("=?utf-8?Q??=", ""),
    ("Re: =?utf-8?q?=5Bx=5D?= =?utf-8?q?_y?=", "Re: [x] y"),
    ("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?= =?iso-2022-jp?B?GyRCOGwbKEI=?=", "日本語"),
    ("=?utf-7?Q?Gr+APwA3w-e?=", "Grüße"),
    ("=?utf-8?q?a=0Ab?=", "a b"),
    ("=?utf-8?q?=E2=80=AEgnp.exe?=", "gnp.exe"),
    ("=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
    ("=?utf-8?q?unclosed", "=?utf-8?q?unclosed"),
    ("=?utf-8?Q?=F0=9F=93?=\r\n =?utf-8?Q?=A6_box?=", "📦 box"),
    ("=?cp-850?Q?=81?=", "ü"),
    ("=?utf-8?Q?a?==?utf-8?Q?b?=", "ab"),
    ("=?utf-8?Q?=3D=3Futf-8=3FQ=3Fx=3F=3D?=", "=?utf-8?Q?x?="),
    ("=?us-ascii?Q?Gr=FC=DFe?=", "Grüße"),
    ("=?utf-8?Q?Bad=ZZ?=", "Bad=ZZ"),
)
#: Parameters of a Content-Disposition, and the file name that they state.
NAMES: Final = (
    ("filename*1*=%C3%9Fe.pdf; filename*0*=utf-8''Gr%C3%BC", "Grüße.pdf"),
    ('filename*0="long name"; filename*1=" part two.pdf"', "long name part two.pdf"),
    ("filename*0*=utf-8''Gr%C3; filename*1*=%BC; filename*2=\"n.pdf\"", "Grün.pdf"),
    ('filename*1="a"; filename*2=".pdf"', "a.pdf"),
    ("filename*=iso-8859-1'de'Gr%FC%DFe.pdf", "Grüße.pdf"),
    ("filename*=\"utf-8''Gr%C3%BC.pdf\"", "Grü.pdf"),
    ('filename*0="=?utf-8?B?R3LDv"; filename*1="MOfZS5wZGY=?="', "Grüße.pdf"),
    ('filename="=?utf-8?Q?Gr=C3=BC?=\r\n =?utf-8?Q?=C3=9Fe.pdf?="', "Grüße.pdf"),
    ("filename==?utf-8?B?R3LDvMOfZS5wZGY=?=", "Grüße.pdf"),
    ("filename=my report.pdf", "my report.pdf"),
    ('filename="C:\\Users\\a.pdf"', "a.pdf"),
    ('filename="../../etc/passwd"', "passwd"),
    ("filename=\"a.pdf\" ; filename*=utf-8''%zz.pdf", "%zz.pdf"),
    ('filename =\r\n "a.pdf"', "a.pdf"),
)
FLOWED: Final = (
    (b"> one \r\n> two\r\n>> deep \r\n>> er\r\nthree", "", "> one two >> deep er three"),
    (b" From here \r\n on\r\n >not quoted", "", "From here on >not quoted"),
    (b"one \r\n-- \r\nBob", "", "one -- Bob"),
    ("日本 \r\n語".encode(), "; delsp=yes; charset=utf-8", "日本語"),
    (b"on \r\ne", '; DelSp="Yes"', "one"),
)
HTML: Final = (
    ("<!--[if mso]><p>Outlook</p><![endif]--><!--[if !mso]><!--><p>Hello</p><!--<![endif]-->", ""),
    ('<a title="a > b" href="x">Hello</a>', ""),
    ("<p class='a>b'>Hello</p><p title=\">Hello</p>", "Hello Hello"),
    ("<!-- a > b -->Hello<!-- c", ""),
    ("<p>1 < 2 and 3 > 2</p>", "1 < 2 and 3 > 2"),
    ("Hello<noscript> there</noscript>", "Hello there"),
    ("<script>if (a<b) x()</script>Hello<style>p{}</style>", ""),
    ("<ul><li>one<li>two</ul>", "one two"),
    ("<p>5&nbsp;&euro; &lt;b&gt; &#x1F4E6; A&T</p>", "5 € <b> 📦 A&T"),
)
WITHIN: Final = b"From: Eve <eve@example.net>\r\nSubject: S\r\n\r\nInner"
SHOWN: Final = "---------- Message within ---------- From: Eve <eve@example.net> Subject: S Inner"


def odder_messages() -> Iterator[Odd]:
    kinds = (
        _charsets,
        _fields,
        _names,
        _texts,
        _bodies,
        _alternatives,
        _encodings,
        _within,
        _parts,
    )
    for kind in kinds:
        yield from kind()


def _charsets() -> Iterator[Odd]:
    for label, codec, text in LABELS:
        content = base64_lines(text.encode(codec))
        encoding = "Content-Transfer-Encoding: base64"
        yield Odd("label", mail(content, f"text/plain; charset={label}", encoding), text=text)
    html = '<!-- <meta charset=koi8-r> --><meta charset="windows-1251"><p>Да</p>'
    yield Odd("meta", mail(html.encode("cp1251"), "text/html"), text="Да")
    html = "<meta content='text/html;charset=koi8-r' http-equiv=content-type><p>Да</p>"
    yield Odd("meta", mail(html.encode("koi8-r"), "text/html"), text="Да")
    html = "<meta charset=koi8-r><p>Да</p>"
    yield Odd("meta", mail(html.encode("cp1251"), "text/html; charset=cp1251"), text="Да")


def _fields() -> Iterator[Odd]:
    for written, subject in SUBJECTS:
        yield Odd("word", mail(b"Hello", "text/plain", f"Subject: {written}"), subject=subject)
    for charset, codec, subject in (
        ("koi8-r", "koi8-r", "Тема письма"),
        ("gb2312", "gbk", "测试邮件"),
        ("shift_jis", "cp932", "日本語テスト"),
        ("utf-8", "cp1252", "Grüße"),
    ):
        raw = b"Subject: " + subject.encode(codec)
        text = f"text/plain; charset={charset}"
        odd = b"Subject: odd"
        yield Odd("not encoded", mail(b"Hello", text).replace(odd, raw), subject=subject)
        name = subject.encode(codec) + b".bin"
        file = part(b"x", 'application/octet-stream; name="NAME"').replace(b"NAME", name)
        body, content_type = multipart("mixed", part(b"Hello", text), file)
        data = mail(body, content_type).replace(odd, raw)
        files = {f"{subject}.bin": b"x"}
        yield Odd("not encoded", data, subject=subject, files=files)
    for head in (
        b"From bob@example.org Mon Nov 30 09:00:00 2026\r\nSubject: odd\r\n",
        b">From bob@example.org Mon Nov 30 09:00:00 2026\r\nSubject: odd\r\n",
        b"Subject:odd\r\n\t\r\nX: y\r\n",
        b"no colon here\r\nSubject: odd\r\n",
        b"Subject: odd\x00\r\n",
        b"Subject: odd\r\nSubject: second\r\n",
        b"Subject: odd\r\nContent-Type: text/plain;\r\n charset=\r\n  utf-8\r\n",
    ):
        yield Odd("field", head + b"\r\nHello")


def _names() -> Iterator[Odd]:
    for parameters, name in NAMES:
        disposition = f"Content-Disposition: attachment; {parameters}"
        file = part(
            base64_lines(FILE),
            "application/octet-stream",
            "Content-Transfer-Encoding: base64",
            disposition,
        )
        body, content_type = multipart("mixed", part(b"Hello"), file)
        yield Odd("name", mail(body, content_type), files={name: FILE})


def _texts() -> Iterator[Odd]:
    for content, parameters, text in FLOWED:
        yield Odd("flowed", mail(content, f"text/plain; format=flowed{parameters}"), text=text)
    for html, text in HTML:
        yield Odd("html", mail(html.encode(), "text/html; charset=utf-8"), text=text or "Hello")
    yield Odd("html", mail("<p>ä</p>".encode("utf-8-sig"), "text/html; charset=cp1252"), text="ä")
    enriched = b"<bold>Hello</bold> <<x>\r\nthere\r\n\r\n<param>red</param>you"
    yield Odd("enriched", mail(enriched, "text/enriched"), text="Hello <x> there you")
    rich = b"<bold>Hello</bold><nl>there<lt><comment>x</comment>"
    yield Odd("enriched", mail(rich, "text/richtext"), text="Hello there<")
    right = "שלום (world)"
    yield Odd("right to left", mail(right.encode(), "text/plain; charset=utf-8"), text=right)
    yield Odd("text", mail(b"\xef\xbb\xbfHello", "text/plain; charset=iso-8859-1"))
    yield Odd("table", mail(b"a;\xe4", "text/csv; charset=iso-8859-1; header=present"), text="a;ä")
    clear = "-----BEGIN PGP SIGNED MESSAGE----- Hash: SHA256 Hello - -- Bob"
    yield Odd("signed", mail(clear.encode()), text=clear)


def _bodies() -> Iterator[Odd]:
    picture = part(
        base64_lines(b"GIF89a"),
        "image/gif; name=a.gif",
        "Content-Transfer-Encoding: base64",
        "Content-ID: <a@x>",
    )
    html = part(
        b'<p>Hello</p><img src="cid:a@x">', "text/html; name=body.html", "Content-ID: <root@x>"
    )
    body, content_type = multipart("related", picture, html)
    yield Odd("named body", mail(body, f'{content_type}; start="<root@x>"; type="text/html"'))
    file = part(b"x", "application/pdf; name=a.pdf", "Content-Disposition: inline")
    body, content_type = multipart("mixed", part(b"one"), file, part(b"two"))
    yield Odd("several bodies", mail(body, content_type), text="one two", files={"a.pdf": b"x"})
    body, content_type = multipart(
        "mixed", part(b"Hello"), part(b"a\tb", "text/tab-separated-values")
    )
    yield Odd("several bodies", mail(body, content_type), text="Hello a b")
    yield Odd(
        "attachment alone",
        mail(b"x", "application/pdf; name=a.pdf"),
        text="",
        files={"a.pdf": b"x"},
    )


def _alternatives() -> Iterator[Odd]:
    html, calendar = part(b"<p>Hello</p>", "text/html"), part(b"BEGIN:VCALENDAR", "text/calendar")
    related, related_type = multipart("related", html, boundary="r")
    for parts in (
        (html, part(b"Hello")),
        (part(b"\r\n"), html),
        (part(b" \r\n \r\n"), html),
        (html,),
        (part(related, related_type), part(b"Hello")),
        (part(b"Hello"), html, calendar),
        (html, calendar),
        (part(b"<bold>Hello</bold>", "text/enriched"), part(b"x", "application/x-foo")),
    ):
        body, content_type = multipart("alternative", *parts)
        yield Odd("alternative", mail(body, content_type))


def _encodings() -> Iterator[Odd]:
    for encoding, content, text in (
        ("quoted-printable; x", b"Hel=6Co", "Hello"),
        ('"base64"', b"SGVsbG8=", "Hello"),
        ("base64,", b"SGVsbG8=", "Hello"),
        ("base64", b"SGVsbG8=\r\n\r\n--\r\nsent by a list", "Hello"),
        ("base64", b"SGVs\r\n______________\r\nlist mailing list", "Hel"),
        ("base64", b"SGVs!bG8*", "Hello"),
        ("quoted-printable", b"5 =e2=82=ac =ZZ =", "5 € =ZZ"),
        ("quoted-printable", "ä".encode(), "ä"),
        ("x-unknown", b"Hello", "Hello"),
    ):
        fields = f"Content-Transfer-Encoding: {encoding}"
        yield Odd("encoding", mail(content, "text/plain; charset=utf-8", fields), text=text)


def _within() -> Iterator[Odd]:
    for content, encoding in (
        (base64_lines(WITHIN), "base64"),
        (quopri.encodestring(WITHIN), "quoted-printable"),
        (b"From eve@example.net Mon Nov 30 09:00:00 2026\r\n" + WITHIN, "7bit"),
    ):
        within = part(content, "message/rfc822", f"Content-Transfer-Encoding: {encoding}")
        body, content_type = multipart("mixed", part(b"Hello"), within)
        yield Odd("forwarded", mail(body, content_type), text=f"Hello {SHOWN}")
    yield Odd("forwarded", mail(WITHIN, "message/rfc822"), text=SHOWN)
    body, content_type = multipart("digest", b"\r\n" + WITHIN, b"\r\n" + WITHIN)
    yield Odd("forwarded", mail(body, content_type), text=f"{SHOWN} {SHOWN}")


def _parts() -> Iterator[Odd]:
    body, content_type = multipart("mixed", part(b"Hello"), boundary="=_(a+b)?*[x]")
    yield Odd("boundary", mail(body, content_type.replace("=", '="', 1) + '"'))
    body, _ = multipart("mixed", part(b"Hello"), boundary="abcdef")
    yield Odd("boundary", mail(body, 'multipart/mixed; boundary*0="abc"; boundary*1="def"'))
    yield Odd("boundary", mail(body, "multipart/mixed; boundary*=us-ascii''abcdef"))
    inner, inner_type = multipart("mixed", part(b"Hello"), boundary="bb")
    body, content_type = multipart("mixed", part(inner, inner_type), part(b"end"))
    yield Odd("boundary", mail(body, content_type), text="Hello end")
    body, content_type = multipart("mixed", b"\r\nHello")
    yield Odd("part", mail(body.rstrip(), content_type))
    yield Odd("part", mail(body, content_type, "Content-Transfer-Encoding: base64"))
    body, content_type = multipart("mixed", part(b"Hello"), b"Content-Type: text/plain\r\n")
    yield Odd("part", mail(body, content_type))
