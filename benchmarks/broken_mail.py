"""Messages as libraries and broken programs write them: fields, file names, types, HTML."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from client_mail import BASE64, JIS, file, whole
from odd_mail import FILE, Odd, base64_lines, mail, multipart, part


def broken_messages() -> Iterator[Odd]:
    for kind in (_libraries, _fields, _file_names, _broken):
        yield from kind()


def _libraries() -> Iterator[Odd]:
    for named in (
        'filename="=?UTF-8?q?Gr=C3=BC=C3=9Fe.pdf?="',
        'filename="=?utf-8?B?R3LDvA==?=\r\n =?utf-8?B?w59lLnBkZg==?="',
        "filename*0*=utf-8''Gr%C3%BC%C3%9Fe;\r\n filename*1*=.pdf",
        "filename*0*=UTF-8''Gr%C3%BC%C3; filename*1*=%9Fe.pdf",
        "filename=\"Gr__e.pdf\"; filename*=utf-8''Gr%C3%BC%C3%9Fe.pdf",
        "filename*=utf-8''Gr%C3%BC%C3%9Fe.pdf; filename=\"Gr__e.pdf\"",
        "filename=Gr\u00fc\u00dfe.pdf",
        'filename="Gr\u00fc\u00dfe.pdf"',
        "filename*=UTF8''Gr%C3%BC%C3%9Fe.pdf",
        "filename*=''Gr%C3%BC%C3%9Fe.pdf",
        "filename*=Gr%C3%BC%C3%9Fe.pdf",
        "filename*=\"UTF-8''Gr%C3%BC%C3%9Fe.pdf\"",
        "filename*=UTF-8''\"Gr%C3%BC%C3%9Fe.pdf\"",
        "FILENAME*=utf-8''Gr%c3%bc%c3%9fe.pdf",
        "filename*=utf-8''=?utf-8?B?R3LDvMOfZS5wZGY=?=",
        "filename*=UTF-8''Grüße.pdf",
    ):
        body, content_type = multipart(
            "mixed",
            part(b"Hello"),
            part(b"x", "application/pdf", f"Content-Disposition: attachment; {named}"),
        )
        yield Odd("library name", mail(body, content_type), files={"Grüße.pdf": b"x"})
    only_type = part(b"x", 'application/pdf; name="a.pdf"', "Content-Disposition: attachment")
    yield Odd("library name", whole("mixed", part(b"Hello"), only_type), files={"a.pdf": b"x"})
    for disposition in (
        "attachment filename=a.txt",
        '"attachment"; filename=a.txt',
        "Attachment;filename=a.txt",
        "attachment;;filename=a.txt",
        "attachment; size=1; filename=a.txt;",
        "attachment, filename=a.txt",
        "attachment: filename=a.txt",
        "unknown; filename=a.txt",
        "attachment; filename = a.txt",
        "attachment; filename:a.txt",
        "filename=a.txt",
    ):
        named = part(b"x", "text/plain; name=a.txt", f"Content-Disposition: {disposition}")
        yield Odd("disposition", whole("mixed", part(b"Hello"), named), files={"a.txt": b"x"})
    yield Odd(
        "only files",
        whole("mixed", file("a.pdf"), file("b.pdf")),
        text="",
        files={"a.pdf": FILE, "b.pdf": FILE},
    )
    yield Odd(
        "file beside",
        whole("alternative", part(b"Hello"), part(b"<p>Hello</p>", "text/html"), file()),
        files={"a.pdf": FILE},
    )
    yield Odd(
        "file beside",
        whole("related", part(b"<p>Hello</p>", "text/html"), file()),
        files={"a.pdf": FILE},
    )
    for content_type in (
        *("text/html; charset: utf-8", 'text/html; charset = "utf-8"', "Text/HTML; Charset=UTF8"),
        *("text/html charset=utf-8", "text/html,charset=utf-8", "text/html; utf-8"),
        *("text/html; charset=utf-8; charset=iso-8859-7", "text/html; charset=UTF-8;;"),
        *('"text/html"; charset=utf-8', "text/html; charset=utf-8\r\n\t"),
    ):
        yield Odd("library type", mail("<p>Größe</p>".encode(), content_type), text="Größe")


def _fields() -> Iterator[Odd]:
    for written, subject in (
        ("=?utf-8?Q?a\r\n b?=", "a b"),
        ("=?windows-1252?Q?It=92s?=", "It’s"),
        (f"=?utf-8?B?{base64.b64encode(('ä' * 2400).encode()).decode()}?=", "ä" * 2400),
        ("=?utf-8?Q?" + "=C3=A4" * 1500 + "?=", "ä" * 1500),
        ("=?utf-8?q?a_?= =?iso-8859-1?q?b=E4?=", "a bä"),
        ("=?utf-8?Q?Gr=C3=BC=C3=9Fe?=,=?utf-8?Q?_x?=", "Grüße, x"),
        ("=?utf-8?Q?=F0=9F=91=A8=E2=80=8D=F0=9F=91=A9?=", "👨\u200d👩"),
        ("=?utf-8?B?4oCPg?=", "\u200f"),
        ("=?utf-8?Q?a=00b?=", "a b"),
        ("=?UTF-8?B??= x", "x"),
        ("[=?utf-8?Q?Gr=C3=BC=C3=9Fe?=]", "[Grüße]"),
        ("=?utf-8?Q?5_=E2=82=AC?==?utf-8?Q?_=2B?=", "5 € +"),
        ("=?utf-8?Q?100%=20=3D_100=25?=", "100% = 100%"),
        ("&#1055;&#1088;", "&#1055;&#1088;"),
        ("=?utf-8?Q?a\tb?=", "a b"),
        ("=?utf-8?B?YQ==\r\n ?=", "a"),
        ("= ?utf-8?Q?a?=", "= ?utf-8?Q?a?="),
        ("=?UTF-8?Q?=47?= =?UTF-8?B?csO8w59l?=", "Grüße"),
    ):
        yield Odd("subject", mail(b"Hello", "text/plain", f"Subject: {written}"), subject=subject)
    for raw, codec, charset in (
        ("Тема", "koi8-r", "koi8-r"),
        ("件名", "cp932", "Shift_JIS"),
        ("件名", "euc_jp", "euc-jp"),
    ):
        data = mail(b"Hello", f"text/html; charset={charset}").replace(
            b"Subject: odd", b"Subject: " + raw.encode(codec)
        )
        yield Odd("not encoded", data, subject=raw)
    meta = '<meta charset="windows-1251"><p>Тема</p>'.encode("cp1251")
    yield Odd(
        "not encoded",
        mail(meta, "text/html").replace(b"Subject: odd", b"Subject: " + "Тема".encode("cp1251")),
        subject="Тема",
        text="Тема",
    )


def _file_names() -> Iterator[Odd]:
    for named, name in (
        ('filename="a.pdf."', "a.pdf"),
        ('filename=".htaccess"', "htaccess"),
        ('filename="a\\\\b.pdf"', "b.pdf"),
        ('filename="\\\\\\\\server\\\\share\\\\a.pdf"', "a.pdf"),
        ('filename="a%20b.pdf"', "a%20b.pdf"),
        ('filename="a?.pdf"', "a.pdf"),
        ('filename="=?utf-8?Q?a=2Fb=2Epdf?="', "b.pdf"),
        ('filename="a\tb.pdf"', "a b.pdf"),
        ('filename="a\r\n b.pdf"', "a b.pdf"),
        ('filename="a.tar.gz"', "a.tar.gz"),
        ('filename="=?iso-8859-1?Q?Gr=FC=DFe?=.pdf"', "Grüße.pdf"),
        ("filename==?iso-8859-1?Q?a b.pdf?=", "a b.pdf"),
        ('filename="a.pdf"; filename="b.pdf"', "a.pdf"),
        ('filename="' + "n" * 300 + '.pdf"', "n" * 196 + ".pdf"),
    ):
        attached = part(b"x", "application/pdf", f"Content-Disposition: attachment; {named}")
        yield Odd("file name", whole("mixed", part(b"Hello"), attached), files={name: b"x"})


def _broken() -> Iterator[Odd]:
    yield Odd(
        "blank line first", b"\r\nSubject: odd\r\n\r\nHello", subject="", text="Subject: odd Hello"
    )
    yield Odd("CR LF LF", mail(b"Hello").replace(b"\r\n", b"\r\r\n"))
    yield Odd("no header", b"Hello\r\nworld\r\n", subject="", text="Hello world")
    yield Odd(
        "no MIME-Version", mail(b"<p>Hello</p>", "text/html").replace(b"MIME-Version: 1.0\r\n", b"")
    )
    yield Odd("header only", b"From: Bob <bob@example.org>\r\nSubject: odd\r\n", text="")
    yield Odd("nothing", b"", subject="", text="")
    body, content_type = multipart("mixed", part(b"Hello"), file())
    for written in (
        "multipart/mixed; boundary=b ",
        'Multipart/Mixed; Boundary="b"',
        "multipart/mixed;boundary=b;charset=utf-8",
        'multipart/mixed; boundary = "b"',
        '"multipart/mixed"; boundary=b',
    ):
        yield Odd("boundary", mail(body, written), files={"a.pdf": FILE})
    yield Odd(
        "boundary",
        mail(body.replace(b"--b", b"-- b"), 'multipart/mixed; boundary=" b"'),
        files={"a.pdf": FILE},
    )
    yield Odd(
        "boundary",
        mail(body.replace(b"--b\r\n", b"--b  \t\r\n"), content_type),
        files={"a.pdf": FILE},
    )
    yield Odd(
        "boundary", mail(body.replace(b"--b--", b"--b-"), content_type), files={"a.pdf": FILE}
    )
    uncoded = (
        whole("mixed", part(b"Hello"), file())
        .replace(b"boundary=whole", 'boundary="größe"'.encode())
        .replace(b"--whole", "--größe".encode())
    )
    yield Odd("boundary", uncoded, files={"a.pdf": FILE})
    for encoding, content, text in (
        ("quoted-printable", b"a=0D=0Ab", "a b"),
        ("quoted-printable", b"a=\r\n\r\nb", "a b"),
        ("quoted-printable", b"Hello=", "Hello"),
        ("quoted-printable", b"=48ello=20\r\n", "Hello"),
        ("quoted-printable", b"x=y&a=zz", "x=y&a=zz"),
        ("base64", b"SGVsbG8", "Hello"),
        ("base64", b"SGVs\r\n\r\nbG8=", "Hello"),
        ("8-bit", "ä".encode(), "ä"),
        ("utf-8", "ä".encode(), "ä"),
        ("7bit", "ä".encode(), "ä"),
        ("Quoted-Printable ", b"=C3=A4", "ä"),
        ("quoted-printable (x)", b"=C3=A4", "ä"),
    ):
        yield Odd(
            "encoding",
            mail(content, "text/plain; charset=utf-8", f"Content-Transfer-Encoding: {encoding}"),
            text=text,
        )
    for charset, octets, text in (
        ("iso-8859-11", "สวัสดี".encode("iso8859_11"), "สวัสดี"),
        ("iso-8859-1", "Größe".encode(), "GrÃ¶ÃŸe"),
        ("utf-8", "Größe".encode("cp1252"), "Gr\ufffd\ufffde"),
        ("ucs-2", "Hello".encode("utf-16-le"), "Hello"),
        ("iso-8859-8", "שלום".encode("iso8859_8"), "שלום"),
        ("windows-1258", "Tiêng".encode("cp1258"), "Tiêng"),
        ("cp857", "ğ".encode("cp857"), "ğ"),
        ("x-mac-roman", "ü".encode("mac_roman"), "ü"),
        ('ISO-8859-1"', "ü".encode("latin-1"), "ü"),
        ("=?utf-8?q?utf-8?=", "ü".encode(), "ü"),
        ("charset=utf-8", "ü".encode(), "ü"),
        ('""', "ü".encode(), "ü"),
        ("_iso-2022-jp$esc", "日本".encode(JIS), "日本"),
    ):
        yield Odd(
            "charset",
            mail(base64_lines(octets), f"text/plain; charset={charset}", BASE64),
            text=text,
        )
    for html, text in (
        ("<plaintext>Hello", "Hello"),
        ("<HTML><BODY>Hello</BODY></HTML><p>footer", "Hello footer"),
        ("<p>a<p>b", "a b"),
        ("<td>a</td><td>b</td>", "a b"),
        ("Hello<br/>you<BR />too", "Hello you too"),
        ("<textarea>a</textarea><select><option>b<option>c</select>", "a b c"),
        ("<![CDATA[Hello]]>", ""),
        ("<p hidden>no</p>Hello", "no Hello"),
        ("a&shy;b&zwnj;c", "a\xadb\u200cc"),
        ("&#128;&#x92;", "€’"),
        ("&lt;b&gt;&amp;lt;", "<b>&lt;"),
        ("<p>a\u2028b</p>", "a\u2028b"),
        ("<a href='x'>a</a><a href='y'>b</a>", "ab"),
        ("<div>a</div>b", "a b"),
        ("a<div>b</div>", "a b"),
        ("a<p>b", "a b"),
        ("<title>x</title>Hello", "Hello"),
        ("<svg><title>x</title></svg>Hello", "Hello"),
        ("<math>x</math>", "x"),
        ("<?php echo 1 ?>Hello", "Hello"),
        ("< b>Hello", "< b>Hello"),
        ("<p>Hello", "Hello"),
        ("</p>Hello</unknown>", "Hello"),
        ("<style>p{}</style >Hello", "Hello"),
        ("<script>document.write('</p>')</script>Hello", "Hello"),
        ('<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0//EN" "http://x">Hello', "Hello"),
        ("<!-->Hello-->", "Hello-->"),
        ("<!--->Hello", "Hello"),
        ("<!-- a --!>Hello", "Hello"),
    ):
        yield Odd("html", mail(html.encode(), "text/html; charset=utf-8"), text=text)
