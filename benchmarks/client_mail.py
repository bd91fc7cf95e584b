"""Messages as mail programs write them, by name: what differs from one to the next."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Iterator
from typing import Final

from odd_mail import FILE, Odd, base64_lines, mail, multipart, part

BASE64: Final = "Content-Transfer-Encoding: base64"
QUOTED: Final = "Content-Transfer-Encoding: quoted-printable"
WITHIN: Final = "---------- Message within ----------"
STATUS: Final = "---------- Delivery status ----------"
GIF: Final = b"GIF89a\x01\x00\x01\x00"
JIS: Final = "iso2022_jp"
FAILED: Final = b"Reporting-MTA: dns; mx.example.net\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n"
SHOWN_FAILED: Final = f"{STATUS} Reporting-MTA: dns; mx.example.net Action: failed Status: 5.1.1"
RETURNED: Final = b"From: Ada <ada@example.com>\r\nSubject: First\r\n\r\nIt said\r\n"
SHOWN_RETURNED: Final = f"{WITHIN} From: Ada <ada@example.com> Subject: First It said"


def client_messages() -> Iterator[Odd]:
    for kind in (
        *(_outlook, _apple, _gmail, _thunderbird, _lists, _bounces, _receipts, _calendars),
        *(_notes, _japanese, _chinese_and_korean, _machines, _old_programs),
    ):
        yield from kind()


def word(text: str, charset: str = "utf-8", codec: str = "") -> str:
    return f"=?{charset}?B?{base64.b64encode(text.encode(codec or charset)).decode()}?="


def file(name: str = "a.pdf", content: bytes = FILE, content_type: str = "") -> bytes:
    return part(
        base64_lines(content),
        content_type or f'application/pdf; name="{name}"',
        BASE64,
        f'Content-Disposition: attachment; filename="{name}"',
    )


def picture(content_id: str, name: str = "image001.png") -> bytes:
    return part(
        base64_lines(GIF), f'image/gif; name="{name}"', BASE64, f"Content-ID: <{content_id}>"
    )


def both(text: bytes = b"Hello", html: bytes = b"<p>Hello</p>", boundary: str = "alt") -> bytes:
    content, content_type = multipart(
        "alternative", part(text), part(html, "text/html"), boundary=boundary
    )
    return part(content, content_type)


def whole(subtype: str, *parts: bytes, fields: tuple[str, ...] = (), more: str = "") -> bytes:
    body, content_type = multipart(subtype, *parts, boundary="whole")
    return mail(body, content_type + more, *fields)


def inside(subtype: str, *parts: bytes, boundary: str = "in") -> bytes:
    body, content_type = multipart(subtype, *parts, boundary=boundary)
    return part(body, content_type)


def _outlook() -> Iterator[Odd]:
    html = b'<img src="cid:image001.png@01D9A1B2.C3D4E5F0"><p>Hello<o:p></o:p></p>'
    related = inside("related", both(html=html), picture("image001.png@01D9A1B2.C3D4E5F0"))
    yield Odd("outlook", whole("mixed", related, file("Plan.docx")), files={"Plan.docx": FILE})
    unused = inside("related", both(), picture("logo@x", "logo.gif"))
    yield Odd("outlook", whole("mixed", unused), files={"logo.gif": GIF})
    tnef = part(base64_lines(b"x"), 'application/ms-tnef; name="winmail.dat"', BASE64)
    yield Odd("outlook", whole("mixed", part(b"Hello"), tnef), files={"winmail.dat": b"x"})
    word_html = (
        "<html xmlns:o='urn:schemas-microsoft-com:office:office'><head><style><!-- p {} --></style>"
        "<!--[if gte mso 9]><xml><o:x>no</o:x></xml><![endif]--></head><body lang=EN-US>"
        "<![if !supportLists]>&middot; <![endif]><p class=MsoNormal>Hello<o:p>&nbsp;</o:p></p>"
    )
    yield Odd("outlook", mail(word_html.encode(), "text/html; charset=us-ascii"), text="· Hello")
    quoted = quopri.encodestring("It’s".encode("cp1252"))
    yield Odd("outlook", mail(quoted, 'text/plain; charset="us-ascii"', QUOTED), text="It’s")
    inline = part(
        b"x", "text/plain; name=notes.txt", "Content-Disposition: inline; filename=notes.txt"
    )
    yield Odd("outlook", whole("mixed", both(), inline), files={"notes.txt": b"x"})
    unnamed = part(b"<p>Sent from Outlook</p>", "text/html", "Content-Disposition: inline")
    yield Odd("outlook", whole("mixed", part(b"Hello"), unnamed), text="Hello Sent from Outlook")
    yield Odd(
        "outlook",
        mail(
            b"Hello",
            "text/plain",
            f"Subject: {word('Müller, Jürgen: ', 'iso-8859-1')}",
            "Thread-Topic: x",
        ),
        subject="Müller, Jürgen:",
    )
    item = part(RETURNED, "message/rfc822", "Content-Disposition: attachment")
    yield Odd("outlook", whole("mixed", part(b"Hello"), item), text=f"Hello {SHOWN_RETURNED}")
    yield Odd(
        "outlook",
        whole(
            "mixed",
            part(b"Hello"),
            part(
                b"x",
                'application/octet-stream;\r\n\tname="a.msg"',
                'Content-Disposition: attachment;\r\n\tfilename="a.msg"; size=1;\r\n\tcreation-date="Mon, 01 Jan 2024 00:00:00 GMT"',
            ),
        ),
        files={"a.msg": b"x"},
    )


def _apple() -> Iterator[Odd]:
    mixed = inside(
        "mixed", part(b"<p>one</p>", "text/html"), file(), part(b"<p>two</p>", "text/html")
    )
    yield Odd(
        "apple",
        whole("alternative", part(b"one\r\n\r\ntwo"), mixed),
        text="one two",
        files={"a.pdf": FILE},
    )
    inline = part(
        base64_lines(FILE),
        "image/jpeg;\r\n\tname=IMG_0001.jpeg;\r\n\tx-apple-part-url=1A2B@home",
        "Content-Disposition: inline;\r\n\tfilename=IMG_0001.jpeg",
        BASE64,
    )
    yield Odd(
        "apple",
        whole("mixed", part(b"one"), inline, part(b"\r\nSent from my iPhone")),
        text="one Sent from my iPhone",
        files={"IMG_0001.jpeg": FILE},
    )
    double = inside(
        "appledouble",
        part(base64_lines(b"fork"), 'application/applefile; name="%a.pdf"', BASE64),
        file(),
    )
    yield Odd(
        "apple", whole("mixed", part(b"Hello"), double), files={"%a.pdf": b"fork", "a.pdf": FILE}
    )
    composed = "A\u0308.pdf"
    named = part(
        base64_lines(FILE),
        "application/pdf;\r\n\tx-unix-mode=0644;\r\n\tname*=utf-8''A%CC%88.pdf",
        "Content-Disposition: attachment;\r\n\tfilename*=utf-8''A%CC%88.pdf",
        BASE64,
    )
    yield Odd("apple", whole("mixed", part(b"Hello"), named), files={composed: FILE})
    yield Odd(
        "apple",
        whole(
            "mixed",
            part(b"Hello"),
            part(
                b"(This file must be converted with BinHex 4.0)\r\n\r\n:#:",
                "application/mac-binhex40; name=a.hqx",
            ),
        ),
        files={"a.hqx": b"(This file must be converted with BinHex 4.0)\r\n\r\n:#:"},
    )
    smart = "X-Uniform-Type-Identifier: com.apple.mail-draft"
    yield Odd(
        "apple", mail("“Hello”".encode(), "text/plain;\r\n\tcharset=utf-8", smart), text="“Hello”"
    )
    yield Odd(
        "apple",
        whole(
            "alternative",
            part(b"Hello"),
            part(
                b'<html><head></head><body dir="auto"><div>Hello</div><blockquote type="cite">Hi</blockquote></body></html>',
                "text/html",
            ),
        ),
    )


def _gmail() -> Iterator[Odd]:
    known = part(
        base64_lines(FILE),
        'application/pdf; name="a.pdf"',
        'Content-Disposition: attachment; filename="a.pdf"',
        BASE64,
        "X-Attachment-Id: f_lx1",
        "Content-ID: <f_lx1>",
    )
    yield Odd("gmail", whole("mixed", both(), known), files={"a.pdf": FILE})
    flowed = 'text/plain; charset="UTF-8"; format=flowed; delsp=yes'
    yield Odd("gmail", mail(b"Hel \r\nlo", flowed))
    amp = part(b"<!doctype html><html amp4email>", 'text/x-amp-html; charset="UTF-8"')
    yield Odd(
        "gmail", whole("alternative", part(b"Hello"), amp, part(b"<p>Hello</p>", "text/html"))
    )
    reaction = part(
        b'{"version":1,"emoji":"x"}', "text/vnd.google.email-reaction+json; charset=utf-8"
    )
    yield Odd(
        "gmail",
        whole("alternative", part(b"Hello"), reaction, part(b"<p>Hello</p>", "text/html")),
        files={},
    )
    clipped = b'<div dir="ltr">Hello<br clear="all"><div><br></div>-- <br><div class="gmail_signature">Bob</div></div>'
    yield Odd("gmail", mail(clipped, "text/html; charset=UTF-8"), text="Hello -- Bob")
    quote = b'<div>Hello</div><div class="gmail_quote"><div class="gmail_attr">On Mon, Ada &lt;<a href="mailto:ada@example.com">ada@example.com</a>&gt; wrote:<br></div><blockquote>Hi</blockquote></div>'
    yield Odd(
        "gmail",
        mail(quote, "text/html; charset=UTF-8"),
        text="Hello On Mon, Ada <ada@example.com> wrote: Hi",
    )
    folded = "Subject: =?UTF-8?Q?Gr=C3=BC=C3=9Fe_aus_K=C3=B6ln_und_D=C3=BCsseldorf?=\r\n\t=?UTF-8?B?IPCfk6Y=?="
    yield Odd(
        "gmail", mail(b"Hello", "text/plain", folded), subject="Grüße aus Köln und Düsseldorf 📦"
    )


def _thunderbird() -> Iterator[Odd]:
    removed = part(
        b"You deleted an attachment from this message.\r\n",
        'text/x-moz-deleted; name="Deleted: a.pdf"',
        "Content-Transfer-Encoding: 8bit",
        'Content-Disposition: inline; filename="Deleted: a.pdf"',
    )
    yield Odd(
        "thunderbird",
        whole("mixed", part(b"Hello"), removed),
        files={"Deleted a.pdf": b"You deleted an attachment from this message.\r\n"},
    )
    card = part(
        b"begin:vcard\r\nend:vcard",
        'text/x-vcard; charset=utf-8;\r\n name="bob.vcf"',
        'Content-Disposition: attachment;\r\n filename="bob.vcf"',
    )
    yield Odd(
        "thunderbird",
        whole("mixed", part(b"Hello"), card),
        files={"bob.vcf": b"begin:vcard\r\nend:vcard"},
    )
    kept = "X-Mozilla-Status: 0001\r\nX-Mozilla-Status2: 00000000\r\nX-Mozilla-Keys: " + " " * 80
    yield Odd(
        "thunderbird", b"From - Mon Nov 30 09:00:00 2026\r\n" + mail(b"Hello", "text/plain", kept)
    )
    signed = inside(
        "mixed", inside("mixed", part(b"Hello"), boundary="deep"), boundary="mid"
    ).replace(b"multipart/mixed;", b'multipart/mixed; protected-headers="v1";', 1)
    signature = part(
        b"-----BEGIN PGP SIGNATURE-----", 'application/pgp-signature; name="OpenPGP_signature.asc"'
    )
    yield Odd(
        "thunderbird",
        whole(
            "signed",
            signed,
            signature,
            more='; micalg=pgp-sha256; protocol="application/pgp-signature"',
        ),
        files={"OpenPGP_signature.asc": b"-----BEGIN PGP SIGNATURE-----"},
    )
    encrypted = part(
        b"-----BEGIN PGP MESSAGE-----",
        'application/octet-stream; name="encrypted.asc"',
        'Content-Disposition: inline; filename="encrypted.asc"',
    )
    yield Odd(
        "thunderbird",
        whole(
            "encrypted",
            part(b"Version: 1", "application/pgp-encrypted"),
            encrypted,
            fields=("Subject: ...",),
            more='; protocol="application/pgp-encrypted"',
        ),
        subject="...",
        text="",
        files={"encrypted.asc": b"-----BEGIN PGP MESSAGE-----"},
    )
    forwarded = b"\r\n\r\n-------- Forwarded Message --------\r\nSubject: x\r\n\r\nHello\r\n"
    yield Odd(
        "thunderbird",
        mail(forwarded, "text/plain; charset=UTF-8; format=flowed"),
        text="-------- Forwarded Message -------- Subject: x Hello",
    )
    eml = part(
        RETURNED,
        'message/rfc822; charset=UTF-8; name="First.eml"',
        'Content-Disposition: attachment; filename="First.eml"',
        "Content-Transfer-Encoding: 8bit",
    )
    yield Odd(
        "thunderbird",
        whole("mixed", part(b"Hello"), eml),
        text=f"Hello {SHOWN_RETURNED}",
        files={"First.eml": RETURNED},
    )


def _lists() -> Iterator[Odd]:
    one = b"\r\nFrom: Eve <eve@example.net>\r\nSubject: One\r\n\r\n1\r\n"
    digest = inside("digest", one, one.replace(b"One", b"Two").replace(b"1", b"2"), boundary="dig")
    said = f"{WITHIN} From: Eve <eve@example.net> Subject: One 1 {WITHIN} From: Eve <eve@example.net> Subject: Two 2"
    masthead = part(
        b"Masthead",
        'text/plain; charset="us-ascii"',
        "Content-Description: Masthead (L Digest, Vol 1)",
    )
    footer = part(
        b"Footer",
        'text/plain; charset="us-ascii"',
        "Content-Description: Digest Footer",
        "Content-Disposition: inline",
    )
    yield Odd("mailman", whole("mixed", masthead, digest, footer), text=f"Masthead {said} Footer")
    yield Odd("mailman", whole("mixed", both(), footer), text="Hello Footer")
    yield Odd(
        "mailman",
        mail(b"Hello\r\n-------------- next part --------------\r\nAn attachment", "text/plain"),
        text="Hello -------------- next part -------------- An attachment",
    )
    rfc1153 = (
        b"L Digest\r\n\r\n" + b"-" * 70 + b"\r\n\r\nSubject: x\r\n\r\nHello\r\n\r\n" + b"-" * 30
    )
    yield Odd("majordomo", mail(rfc1153), text=f"L Digest {'-' * 70} Subject: x Hello {'-' * 30}")
    yield Odd(
        "mailman",
        mail(
            b"Hello",
            "text/plain",
            "Subject: [L] =?utf-8?q?Gr=C3=BC=C3=9Fe?=",
            "List-Id: L <l.example>",
        ),
        subject="[L] Grüße",
    )
    yield Odd(
        "mailman",
        mail(
            b"Hello", "text/plain", "Subject: =?utf-8?b?W0xdIA==?=\r\n =?utf-8?q?Gr=C3=BC=C3=9Fe?="
        ),
        subject="[L] Grüße",
    )
    signed = inside(
        "signed",
        part(b"Hello"),
        part(b"sig", "application/pgp-signature; name=signature.asc"),
        boundary="sig",
    )
    yield Odd(
        "mailman",
        whole("mixed", signed, footer),
        text="Hello Footer",
        files={"signature.asc": b"sig"},
    )
    yield Odd(
        "patch",
        mail(
            b"---\r\n a | 1 +\r\n\r\n--- a/a\r\n+++ b/a\r\n@@ -0,0 +1 @@\r\n+x\r\n-- \r\n2.40",
            "text/plain; charset=UTF-8",
        ),
        text="--- a | 1 + --- a/a +++ b/a @@ -0,0 +1 @@ +x -- 2.40",
    )
    patch = part(
        b"+x",
        'text/x-patch; name="0001-x.patch"',
        'Content-Disposition: inline; filename="0001-x.patch"',
    )
    yield Odd("patch", whole("mixed", part(b"Hello"), patch), files={"0001-x.patch": b"+x"})
    diff = part(b"+x", "text/x-diff; charset=us-ascii", "Content-Disposition: inline")
    yield Odd("patch", whole("mixed", part(b"Hello"), diff), text="Hello +x")


def _bounces() -> Iterator[Odd]:
    report = "; report-type=delivery-status"
    status = part(FAILED, "message/delivery-status", "Content-Description: Delivery report")
    told = part(b"Sorry", "text/plain; charset=us-ascii", "Content-Description: Notification")
    returned = part(RETURNED, "message/rfc822", "Content-Description: Undelivered Message")
    yield Odd(
        "postfix",
        whole("report", told, status, returned, more=report),
        text=f"Sorry {SHOWN_FAILED} {SHOWN_RETURNED}",
    )
    headers = part(
        b"From: ada@example.com\r\nSubject: First",
        "text/rfc822-headers",
        "Content-Description: Undelivered Message Headers",
    )
    shown = "---------- Header of the message ---------- From: ada@example.com Subject: First"
    yield Odd(
        "sendmail",
        whole("report", told, status, headers, more=report),
        text=f"Sorry {SHOWN_FAILED} {shown}",
    )
    yield Odd(
        "exchange",
        whole("report", both(b"Sorry", b"<p>Sorry</p>"), status, returned, more=report),
        text=f"Sorry {SHOWN_FAILED} {SHOWN_RETURNED}",
    )
    encoded = part(base64_lines(FAILED), "message/delivery-status", BASE64)
    yield Odd("exchange", whole("report", told, encoded, more=report), text=f"Sorry {SHOWN_FAILED}")
    icon = inside(
        "related",
        both(b"Sorry", b'<img src="cid:icon.png">Sorry'),
        picture("icon.png", "icon.png"),
        boundary="rel",
    )
    yield Odd(
        "gmail bounce",
        whole("report", icon, status, returned, more=report),
        text=f"Sorry {SHOWN_FAILED} {SHOWN_RETURNED}",
    )
    qmail = b"Hi. This is the qmail-send program at example.net.\r\n\r\n<ada@example.com>:\r\nno mailbox\r\n\r\n--- Below this line is a copy of the message.\r\n\r\nReturn-Path: <x@example.org>\r\nSubject: First"
    yield Odd(
        "qmail",
        mail(qmail, "text/plain"),
        text="Hi. This is the qmail-send program at example.net. <ada@example.com>: no mailbox --- Below this line is a copy of the message. Return-Path: <x@example.org> Subject: First",
    )
    named = part(FAILED, 'message/delivery-status; name="details.txt"')
    yield Odd(
        "yahoo bounce",
        whole("report", told, named, more=report),
        text="Sorry",
        files={"details.txt": FAILED},
    )
    unclosed = whole("report", told, status, returned, more=report).replace(b"--whole--\r\n", b"")
    yield Odd("cut bounce", unclosed, text=f"Sorry {SHOWN_FAILED} {SHOWN_RETURNED}")
    utf8 = part("From: ä".encode(), "message/global-headers", "Content-Transfer-Encoding: 8bit")
    yield Odd(
        "smtputf8 bounce",
        whole("report", told, part(FAILED, "message/global-delivery-status"), utf8, more=report),
        text=f"Sorry {SHOWN_FAILED} ---------- Header of the message ---------- From: ä",
    )
    feedback = part(b"Feedback-Type: abuse\r\nVersion: 1", "message/feedback-report")
    yield Odd(
        "abuse report",
        whole("report", told, feedback, returned, more="; report-type=feedback-report"),
        text=f"Sorry ---------- Feedback report ---------- Feedback-Type: abuse Version: 1 {SHOWN_RETURNED}",
    )
    report_zip = part(
        base64_lines(FILE), 'application/gzip; name="example.org!example.com!1!2.xml.gz"', BASE64
    )
    yield Odd(
        "dmarc report",
        whole("mixed", report_zip),
        text="",
        files={"example.org!example.com!1!2.xml.gz": FILE},
    )
    tls = part(
        base64_lines(FILE),
        "application/tlsrpt+gzip",
        BASE64,
        'Content-Disposition: attachment; filename="r.json.gz"',
    )
    yield Odd(
        "tls report",
        whole("report", told, tls, more="; report-type=tlsrpt"),
        text="Sorry",
        files={"r.json.gz": FILE},
    )


def _receipts() -> Iterator[Odd]:
    more = "; report-type=disposition-notification"
    notice = b"Final-Recipient: rfc822;ada@example.com\r\nDisposition: manual-action/MDN-sent-manually; displayed"
    shown = "---------- Disposition notification ---------- Final-Recipient: rfc822;ada@example.com Disposition: manual-action/MDN-sent-manually; displayed"
    read = part(b"It was read")
    yield Odd(
        "outlook receipt",
        whole("report", read, part(notice, "message/disposition-notification"), more=more),
        text=f"It was read {shown}",
    )
    named = part(
        notice,
        'message/disposition-notification; name="MDNPart2.txt"',
        "Content-Disposition: inline",
    )
    head = part(
        b"Subject: x", 'text/rfc822-headers; name="MDNPart3.txt"', "Content-Disposition: inline"
    )
    yield Odd(
        "thunderbird receipt",
        whole("report", read, named, head, more=more),
        text="It was read",
        files={"MDNPart2.txt": notice, "MDNPart3.txt": b"Subject: x"},
    )
    yield Odd(
        "read: html",
        whole(
            "report",
            part(b"<p>It was read</p>", "text/html"),
            part(notice, "message/disposition-notification"),
            more=more,
        ),
        text=f"It was read {shown}",
    )


def _calendars() -> Iterator[Odd]:
    event = b"BEGIN:VCALENDAR\r\nMETHOD:REPLY\r\nEND:VCALENDAR"
    shown = "BEGIN:VCALENDAR METHOD:REPLY END:VCALENDAR"
    reply = part(base64_lines(event), "text/calendar; charset=utf-8; method=REPLY", BASE64)
    yield Odd(
        "exchange reply",
        whole("alternative", part(b"Accepted"), part(b"<p>Accepted</p>", "text/html"), reply),
        text="Accepted",
    )
    invite = part(
        base64_lines(event),
        'application/ics; name="invite.ics"',
        'Content-Disposition: attachment; filename="invite.ics"',
        BASE64,
    )
    google = inside(
        "alternative",
        part(b"Hello"),
        part(b"<p>Hello</p>", "text/html"),
        part(event, "text/calendar; charset=UTF-8; method=REQUEST"),
        boundary="g",
    )
    yield Odd("google invitation", whole("mixed", google, invite), files={"invite.ics": event})
    yield Odd(
        "calendar alone",
        mail(base64_lines(event), 'text/calendar; method=REPLY; charset="utf-8"', BASE64),
        text=shown,
    )
    inline = part(
        event,
        'text/calendar; method=REQUEST; name="c.ics"',
        'Content-Disposition: inline; filename="c.ics"',
    )
    yield Odd("notes invitation", whole("mixed", part(b"Hello"), inline), files={"c.ics": event})
    apple = inside(
        "mixed",
        part(b"<p>Hello</p>", "text/html"),
        part(
            event,
            "text/calendar; name=iCal.ics",
            "Content-Disposition: attachment; filename=iCal.ics",
        ),
        boundary="m",
    )
    yield Odd(
        "apple invitation", whole("alternative", part(b"Hello"), apple), files={"iCal.ics": event}
    )


def _notes() -> Iterator[Odd]:
    html = b'<br><font size=2 face="sans-serif">Hello</font><img src=cid:_1_0A1B2C3D0A1B2F480021>'
    boundary = "=_related 004F5C6AC1257A3E_="
    body, _ = multipart(
        "related",
        both(html=html),
        picture("_1_0A1B2C3D0A1B2F480021", "logo.gif"),
        boundary=boundary,
    )
    yield Odd("notes", mail(body, f'multipart/related; boundary="{boundary}"'))
    body, _ = multipart(
        "mixed",
        part(b"Hello", 'text/plain; charset="US-ASCII"'),
        file("a.123"),
        boundary="=_mixed 0050_=",
    )
    yield Odd(
        "notes", mail(body, 'multipart/mixed; boundary="=_mixed 0050_="'), files={"a.123": FILE}
    )
    yield Odd(
        "notes",
        mail(
            b"Hello",
            "text/plain",
            "Subject: =?ISO-8859-1?Q?Antwort=3A_Gr=FC=DFe?=",
            "X-MIMETrack: Itemize by SMTP Server on HUB/ORG(Release 8.5.3)",
        ),
        subject="Antwort: Grüße",
    )
    lmbcs = "Subject: =?LMBCS?Q?Hello?="
    yield Odd("notes", mail(b"Hello", "text/plain", lmbcs), subject="Hello")


def _japanese() -> Iterator[Odd]:
    text = "日本語のメール"
    raw = text.encode(JIS)
    plain = "Text/Plain; charset=ISO-2022-JP"
    yield Odd("jis", mail(raw, plain, "Content-Transfer-Encoding: 7bit"), text=text)
    odd = b"Subject: odd"
    yield Odd(
        "jis not encoded",
        mail(raw, plain).replace(odd, b"Subject: " + raw),
        subject=text,
        text=text,
    )
    yield Odd(
        "jis not encoded",
        mail(raw, plain).replace(odd, b"Subject: Re: " + raw + b"\r\n " + raw),
        subject=f"Re: {text} {text}",
        text=text,
    )
    name = "資料".encode(JIS)
    named = part(
        b"x", 'application/pdf; name="NAME"', 'Content-Disposition: attachment; filename="NAME"'
    ).replace(b"NAME", name + b".pdf")
    yield Odd(
        "jis not encoded",
        whole("mixed", part(raw, plain), named),
        text=text,
        files={"資料.pdf": b"x"},
    )
    yield Odd("jis of Windows", mail(b"\x1b$B-!-j\x1b(B", plain), text="①㈱")
    yield Odd("half-width", mail(b"\x1b(I123\x1b(B", plain), text="ｱｲｳ")
    quoted = f"Subject: =?ISO-2022-JP?Q?{quopri.encodestring(raw, header=True).decode()}?="
    yield Odd("jis", mail(b"Hello", "text/plain", quoted), subject=text)
    halves = "\r\n ".join(word(half, "ISO-2022-JP", JIS) for half in ("日本語の", "メール"))
    yield Odd("jis", mail(b"Hello", "text/plain", f"Subject: {halves}"), subject=text)
    open_ended = base64.b64encode("日本".encode(JIS)[:-3]).decode()
    yield Odd(
        "jis unclosed",
        mail(
            b"Hello",
            "text/plain",
            f"Subject: =?ISO-2022-JP?B?{open_ended}?= =?ISO-2022-JP?B?{base64.b64encode('語'.encode(JIS)).decode()}?=",
        ),
        subject="日本語",
    )
    sjis = base64.b64encode(text.encode("cp932")).decode()
    yield Odd(
        "sjis", mail(b"Hello", "text/plain", f"Subject: =?SHIFT_JIS?B?{sjis}?="), subject=text
    )
    files = " ".join(word(piece, "ISO-2022-JP", JIS) for piece in ("長い", "名前の", "資料.pdf"))
    split = part(
        b"x",
        f'application/pdf;\r\n name="{files}"',
        f'Content-Disposition: attachment;\r\n filename="{files}"',
    )
    yield Odd("jis", whole("mixed", part(b"Hello"), split), files={"長い名前の資料.pdf": b"x"})
    encoded = "".join(f"%{octet:02X}" for octet in "資料.pdf".encode(JIS))
    rfc2231 = part(
        b"x",
        "application/pdf",
        f"Content-Disposition: attachment; filename*=ISO-2022-JP'ja'{encoded}",
    )
    yield Odd("jis", whole("mixed", part(b"Hello"), rfc2231), files={"資料.pdf": b"x"})
    decorated = inside(
        "related",
        both(html=b'<img src="cid:01@x">Hello'),
        picture("01@x", "a.gif"),
        boundary="deco",
    )
    yield Odd("decoration mail", whole("mixed", decorated))
    phone = mail("メール".encode("cp932"), "text/plain; charset=Shift-JIS")
    yield Odd("phone", phone, text="メール")
    yield Odd(
        "jis without a label", b"Subject: " + raw + b"\r\n\r\n" + raw, subject=text, text=text
    )
    hangul = "한국어 메일"
    yield Odd(
        "iso-2022-kr",
        mail(hangul.encode("iso2022_kr"), "text/plain; charset=ISO-2022-KR"),
        text=hangul,
    )


def _chinese_and_korean() -> Iterator[Odd]:
    yield Odd(
        "hz", mail("你好 Hello".encode("hz"), "text/plain; charset=HZ-GB-2312"), text="你好 Hello"
    )
    qq = part(
        base64_lines(FILE),
        f'application/octet-stream; charset="gb18030"; name="{word("报告.pdf", "gb18030")}"',
        f'Content-Disposition: attachment; filename="{word("报告.pdf", "gb18030")}"',
        BASE64,
    )
    yield Odd(
        "qq",
        whole("mixed", part(b"Hello"), qq, fields=(f"Subject: {word('测试', 'gb18030')}",)),
        subject="测试",
        files={"报告.pdf": FILE},
    )
    octets = "测试邮件".encode("gbk")
    cut = f"=?GBK?B?{base64.b64encode(octets[:3]).decode()}?= =?GBK?B?{base64.b64encode(octets[3:]).decode()}?="
    yield Odd("netease", mail(b"Hello", "text/plain", f"Subject: {cut}"), subject="测试邮件")
    raw = mail("你好".encode("gbk"), "text/plain; charset=GB2312").replace(
        b"Subject: odd", b"Subject: " + octets
    )
    yield Odd("foxmail", raw.replace(b"Bob", "张三".encode("gbk")), subject="测试邮件", text="你好")
    yield Odd(
        "naver",
        mail(
            b"Hello", "text/plain", f"Subject: {word('똠방각하 메일', 'ks_c_5601-1987', 'cp949')}"
        ),
        subject="똠방각하 메일",
    )
    yield Odd("hanmail", mail("똠".encode("cp949"), 'text/html; charset="euc-kr"'), text="똠")
    koi = part(b"x", f'application/msword; name="{word("Отчёт.doc", "koi8-r")}"')
    yield Odd("mail.ru", whole("mixed", part(b"Hello"), koi), files={"Отчёт.doc": b"x"})


def _machines() -> Iterator[Odd]:
    scan = mail(
        base64_lines(FILE),
        'application/pdf; name="scan.pdf"',
        BASE64,
        'Content-Disposition: attachment; filename="scan.pdf"',
    )
    yield Odd("scanner", scan, text="", files={"scan.pdf": FILE})
    fax = part(base64_lines(FILE), 'image/tiff; application=faxbw; name="fax.tif"', BASE64)
    yield Odd("fax", whole("mixed", part(b"Hello"), fax), files={"fax.tif": FILE})
    voice = part(
        base64_lines(FILE),
        'audio/wav; name="voice.wav"',
        BASE64,
        'Content-Disposition: inline; voice=Voice-Message; filename="voice.wav"',
    )
    yield Odd(
        "voice",
        whole("voice-message", part(b"Hello"), voice, more="; version=2.0"),
        files={"voice.wav": FILE},
    )
    yield Odd(
        "sms gateway",
        b"From: 491701234567@sms.example\r\nTo: ada@example.com\r\n\r\nHello",
        subject="",
    )
    yield Odd(
        "cron",
        b"From: root@host (Cron Daemon)\r\nTo: root@host\r\nSubject: Cron <root@host> run\r\nX-Cron-Env: <SHELL=/bin/sh>\r\n\r\nHello",
        subject="Cron <root@host> run",
    )
    one_line = base64.b64encode(b"<p>" + b"Hello " * 3000 + b"</p>")
    yield Odd(
        "sap", mail(one_line, "text/html; charset=UTF-8", BASE64), text=("Hello " * 3000).strip()
    )
    form = part(
        b"x",
        "application/octet-stream",
        'Content-Disposition: form-data; name="file"; filename="a.bin"',
    )
    yield Odd("web form", whole("form-data", part(b"Hello"), form), files={"a.bin": b"x"})
    note = part(b"x", "text/plain", 'Content-Disposition: form-data; name="file"; filename="a.txt"')
    yield Odd("web form", whole("form-data", part(b"Hello"), note), files={"a.txt": b"x"})


def _old_programs() -> Iterator[Odd]:
    yield Odd("pine", mail(b"Hello", "TEXT/PLAIN; charset=X-UNKNOWN"))
    yield Odd("pine", mail(b"Hello", "TEXT/PLAIN; format=flowed; charset=US-ASCII"))
    yield Odd("eudora", mail(b"Hello", 'text/plain; charset="us-ascii" ; format=flowed'))
    yield Odd("aol", mail(b'<FONT  COLOR="#0f0f0f">Hello</FONT>', 'text/html; charset="US-ASCII"'))
    yield Odd(
        "cdo",
        mail(
            b"Gr+APwA3w-e",
            'text/plain;\r\n\tcharset="unicode-1-1-utf-7"',
            "Content-Class: urn:content-classes:message",
        ),
        text="Grüße",
    )
    yield Odd(
        "groupwise",
        whole(
            "alternative",
            part(b"Hello"),
            part(
                b"<p>Hello</p>",
                'text/html; name="TEXT.htm"',
                'Content-Disposition: inline; filename="TEXT.htm"',
            ),
        ),
    )
    yield Odd(
        "groupwise",
        whole("mixed", part(b"Hello", 'text/plain; name="Mime.822"'), file()),
        files={"a.pdf": FILE},
    )
    yield Odd(
        "outlook express",
        mail(
            b"Hello",
            'text/plain;\r\n\tcharset="iso-8859-1";\r\n\tformat=flowed;\r\n\treply-type=original',
        ),
    )
    parallel = whole("parallel", part(b"one"), part(b"two"))
    yield Odd("metamail", parallel, text="one two")
    external = part(
        b"Content-Type: application/pdf\r\n\r\n",
        'message/external-body; access-type=URL; URL="https://x.example/a.pdf"; name="a.pdf"',
    )
    yield Odd(
        "metamail",
        whole("mixed", part(b"Hello"), external),
        files={"a.pdf": b"Content-Type: application/pdf\r\n\r\n"},
    )
    partial = mail(b"Subject: inner\r\n\r\nHello", 'message/partial; id="a@x"; number=1; total=2')
    yield Odd("outlook express", partial, text="")
    sun = mail(b"Hello", "X-sun-attachment")
    yield Odd("mailtool", sun)
    rtf = part(b"{\\rtf1 Hello}", "text/rtf")
    yield Odd("nextmail", whole("alternative", part(b"Hello"), rtf))
    yield Odd("yencless", mail(b"Hello\r\nbegin 644 \r\nend"), text="Hello begin 644 end")
