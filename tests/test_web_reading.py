"""Messages are shown as a person's mail program shows them: CASES.md C9 to C18 and their kinds."""

from __future__ import annotations

import base64
import binascii
import quopri
import struct
import time
from collections.abc import Callable

import pytest
from support.page import PNG, described, document

from smtp_blinker.web.reader import charsets, entry, fields, idn, mime, tnef, transfer
from smtp_blinker.web.reader.bodies import attachments, bodies
from smtp_blinker.web.reader.flowed import unflow


def multipart(subtype: str, *parts: bytes, boundary: str = "b") -> bytes:
    head = f"Content-Type: multipart/{subtype}; boundary={boundary}\n\n"
    delimiter = f"--{boundary}\n".encode()
    return (
        head.encode()
        + b"".join(delimiter + part + b"\n" for part in parts)
        + f"--{boundary}--\n".encode()
    )


def part(content_type: str, text: str = "x", fields: str = "") -> bytes:
    return f"Content-Type: {content_type}\n{fields}\n{text}".encode()


def test_a_field_of_three_hundred_addresses_is_shown_whole() -> None:
    addresses = [f"Somebody Number {n} <somebody.{n}@department.example.com>" for n in range(300)]
    message = described(f"To: {', '.join(addresses)}\n\nx".encode())
    assert message["to"].split(", ") == addresses
    assert message["left_out"] == []


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Type: text/html; name=body.html",
        "Content-Type: text/html\nContent-Disposition: inline; filename=body.html",
    ],
)
def test_a_body_with_a_name_is_the_body(fields: str) -> None:
    alone = f"{fields}\n\n<p>Hello</p>".encode()
    for data in (
        alone,
        multipart("mixed", alone),
        multipart("alternative", part("text/plain"), alone),
    ):
        message = described(data)
        assert message["html"]
        assert not any(each["attachment"] for each in message["parts"] if not each["multipart"])
        assert "<p>Hello</p>" in document(data)
    assert described(alone)["text"] == "Hello"


def test_a_named_text_behind_the_body_and_an_attached_one_are_attachments() -> None:
    data = multipart(
        "mixed",
        part("text/plain", "body"),
        part("text/plain; name=notes.txt", "notes"),
        part("text/html", "<p>x</p>", "Content-Disposition: attachment; filename=x.html\n"),
    )
    message = mime.parse(data)
    assert [each.filename for each in attachments(message, data)] == ["notes.txt", "x.html"]
    assert described(data)["text"] == "body"


@pytest.mark.parametrize(
    ("value", "media_type", "charset"),
    [
        ("text/plain (hand made); charset=utf-8", "text/plain", "utf-8"),
        ("text/plain; charset=utf-8 (a (nested) comment)", "text/plain", "utf-8"),
        ('text/plain; charset="utf-8(x)"', "text/plain", "utf-8(x)"),
        ("text (a) / html; charset=utf-8", "text/html", "utf-8"),
        ("text/html charset=utf-8", "text/html", None),
        ("plain", "text/plain", None),
        ("(((", "text/plain", None),
        ("", "text/plain", None),
    ],
)
def test_comments_are_no_part_of_a_media_type(
    value: str, media_type: str, charset: str | None
) -> None:
    [only] = mime.parse(f"Content-Type: {value}\n\nx".encode()).parts
    assert only.content_type == media_type
    if charset is not None:
        assert only.charset == charset


@pytest.mark.parametrize(
    "content_type", ["image/png", "image/x-png", "application/octet-stream", "image/jpg"]
)
@pytest.mark.parametrize(
    ("content_id", "reference"), [("p", "p"), ("a@b", "a@b"), ("a@b", "a%40b"), ("a@b", "a&#64;b")]
)
def test_a_picture_of_the_message_is_shown(
    content_type: str, content_id: str, reference: str
) -> None:
    picture = (
        f"Content-Type: {content_type}\nContent-ID: <{content_id}>\n"
        f"Content-Transfer-Encoding: base64\n\n{base64.b64encode(PNG).decode()}"
    ).encode()
    data = multipart("related", part("text/html", f"<img alt=x src='cid:{reference}'>"), picture)
    shown = "image/jpeg" if content_type == "image/jpg" else "image/png"
    assert f"data:{shown};base64,{base64.b64encode(PNG).decode()}" in document(data)
    assert not any("cid:" in check for check in described(data)["checks"])


@pytest.mark.parametrize(
    ("content_id", "reference"),
    [
        ("<a@b> (a picture)", '"cid:a@b"'),
        ("a@b", "cid:a@b"),
        ("<a@b>", '"cid:%3Ca@b%3E"'),
        ("<a (1)@b>", "'cid:a (1)@b'"),
        ("<a&b>", '"cid:a&amp;b"'),
    ],
)
@pytest.mark.parametrize("content_type", ["image/x-scanned", "image/avif"])
def test_a_picture_is_found_by_a_content_id_that_is_written_oddly(
    content_id: str, reference: str, content_type: str
) -> None:
    picture = (
        f"Content-Type: {content_type}\nContent-ID: {content_id}\n"
        f"Content-Transfer-Encoding: base64\n\n{base64.b64encode(PNG).decode()}"
    ).encode()
    data = multipart("related", part("text/html", f"<img alt=x src={reference}>"), picture)
    assert base64.b64encode(PNG).decode() in document(data)
    assert not any("cid:" in check for check in described(data)["checks"])


def test_what_is_no_picture_is_not_shown_as_one() -> None:
    other = b"Content-Type: application/octet-stream\nContent-ID: <p>\n\n%PDF"
    assert "data:" not in document(
        multipart("related", part("text/html", "<img src=cid:p>"), other)
    )


def test_links_within_the_message_stay_in_its_frame() -> None:
    html = '<a href="#terms">x</a><A class=y HREF=\'#b\'>y</A><a href="https://a.example/#c">z</a>'
    shown = document(part("text/html", html))
    assert shown.lower().count('<a target="_self"') == 2
    assert '<a href="https://a.example/#c">' in shown


def test_all_bodies_are_shown_in_their_order() -> None:
    data = multipart(
        "mixed",
        part("text/html", "<p>one</p>"),
        part("application/pdf; name=x.pdf"),
        part("text/html", "<p>two</p>"),
        part("text/plain", "a footer <of> the list"),
    )
    shown = document(data)
    places = [shown.index(text) for text in ("<p>one</p>", "<p>two</p>", "footer &lt;of&gt;")]
    assert places == sorted(places)
    assert described(data)["text"] == "one\n\ntwo\n\na footer <of> the list"


def test_one_of_the_alternatives_is_shown_and_what_follows_them() -> None:
    inner = multipart(
        "alternative",
        part("text/plain", "plain"),
        multipart("related", part("text/html", "<b>rich</b>"), boundary="r"),
        part("text/calendar; method=REQUEST", "BEGIN:VCALENDAR"),
        boundary="a",
    )
    data = multipart("mixed", inner, part("text/plain", "footer"))
    message = mime.parse(data)
    amp = part("text/x-amp-html", "<p>for some")
    data_of_two = multipart("alternative", part("text/plain", "plain"), amp)
    assert [each.text(data_of_two) for each in bodies(mime.parse(data_of_two), "html")] == ["plain"]
    for subtype, texts in (("plain", ["plain", "footer"]), ("html", ["<b>rich</b>", "footer"])):
        assert [each.text(data) for each in bodies(message, subtype)] == texts
    assert [each.content_type for each in attachments(message, data)] == ["text/calendar"]


def test_a_message_within_is_shown_where_it_stands() -> None:
    within = "From: Bob <bob@example.org>\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n\nHello there"
    data = multipart("mixed", part("text/plain", "See below"), part("message/rfc822", within))
    text = described(data)["text"]
    assert text.startswith("See below\n\n")
    assert "From: Bob <bob@example.org>\nSubject: Grüße\n\nHello there" in text
    for _ in range(10):
        within = f"Content-Type: message/rfc822\n\n{within}"
    assert "Hello" not in described(within.encode())["text"]  # too deep, and no harm


@pytest.mark.parametrize("content_type", ["text/calendar", "text/csv", "text/x-unknown"])
def test_calendars_tables_and_unknown_texts_are_text(content_type: str) -> None:
    assert described(part(content_type, "a,b"))["text"] == "a,b"
    [only] = described(part(f"{content_type}; name=x", "a,b"))["parts"]
    assert only["readable"]


@pytest.mark.parametrize(
    ("encoded", "encoding", "decoded"),
    [
        (b"SGVsbG8=\nV29ybGQ=\n", "base64", b"HelloWorld"),
        (b"SGVsbG8=V29ybGQ", "base64", b"HelloWorld"),
        (b"SGVsbG8h====V29y=====", "base64", b"Hello!Wor"),
        (b"SGVsbG8hA", "base64", b"Hello!"),
        (b"a  \nb\t\r\nc =20\n", "quoted-printable", b"a\nb\r\nc  \n"),
        (b"a=  \nb", "quoted-printable", b"ab"),
        (b"a=3D  ", "quoted-printable", b"a=  "),
    ],
)
def test_transfer_encodings_are_undone_as_written_in_the_wild(
    encoded: bytes, encoding: str, decoded: bytes
) -> None:
    for size in (1, 3, 100):
        pieces = [encoded[at : at + size] for at in range(0, len(encoded), size)]
        assert b"".join(transfer.decode(pieces, encoding)) == decoded


@pytest.mark.parametrize(
    ("label", "octets", "text"),
    [
        ("gb2312", "镕".encode("gbk"), "镕"),
        ("windows-874", b"\xa1", "ก"),
        ("TIS-620", b"\x85", "…"),
        ("iso-8859-1", b"\x93x\x94", "“x”"),
        ("us-ascii", b"\x93", "“"),
        ("iso-8859-9", b"\x80", "€"),
        ("x-sjis", "①".encode("cp932"), "①"),
        ("ks_c_5601-1987", "똠".encode("cp949"), "똠"),
        ("unicode-1-1-utf-8", "ä".encode(), "ä"),
        ("x-cp1251", b"\xc6", "Ж"),
        ("iso-8859-8-i", b"\xe0", "א"),
        ("logical", b"\xe0", "א"),
        ("x-mac-cyrillic", b"\x86", "Ж"),
        ("dos-874", b"\xa1", "ก"),
        ("csisolatin2", b"\xb1", "ą"),
        ("iso88592", b"\xb1", "ą"),
        ("windows-1251", b"\x98", "\x98"),
        ("gbk", b"\x80\xd6\xd0", "€中"),
        ("euc-jp", b"\xad\xa1\xa1\xc1", "①～"),  # noqa: RUF001
        ("iso-2022-jp", b"\x1b$B\x2d\x21\x1b(B\x1b(I\x31\x1b(B", "①ｱ"),
        ("shift_jis", b"\xa0", "\ufffd"),
        ("big5", b"\xa1E", "‧"),
        ("koi8-u", b"\xae", "ў"),
    ],
)
def test_charsets_are_read_as_browsers_read_them(label: str, octets: bytes, text: str) -> None:
    assert charsets.decode(octets, label) == text


def test_every_label_that_browsers_know_is_known() -> None:
    webencodings = pytest.importorskip("webencodings")
    # Browsers read none of these, for the safety of their scripts.
    replaced = {"csiso2022kr", "hz-gb-2312", "iso-2022-cn", "iso-2022-cn-ext", "iso-2022-kr"}
    for label in set(webencodings.LABELS) - replaced - {"replacement"}:
        found = charsets.problem(b"a", label)
        assert found is None or "not a known charset" not in found, label


def test_what_is_no_ascii_is_still_said() -> None:
    assert charsets.problem(b"\x93", "us-ascii") is not None
    assert charsets.problem("镕".encode("gbk"), "gb2312") is not None


@pytest.mark.parametrize(
    ("meta", "charset"),
    [
        ("<meta charset=windows-1251>", "cp1251"),
        ('<META http-equiv="Content-Type" content="text/html; charset=windows-1251">', "cp1251"),
        ("<meta charset='utf-16'>", "utf-8"),
        ("", "utf-8"),
    ],
)
def test_html_without_a_charset_says_it_itself(meta: str, charset: str) -> None:
    data = b"Content-Type: text/html\n\n" + f"{meta}<p>Жук</p>".encode(charset)
    assert described(data)["text"] == "Жук"
    assert "<p>Жук</p>" in document(data)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("=?UTF-8?Q?Ready_to_go?_=E2=9C=93?=", "Ready to go? ✓"),
        ("=?UTF-8?Q?Ready?=E2=9C=93?=", "Ready?✓"),
        ("=?utf-8?q?a?= =?utf-8?q?b??= c", "ab? c"),
        ("=?utf-8?b?w6Q=?= =?utf-8?b?w6Q=?=", "ää"),
        ("=?utf-8?q?never ends =?utf-8?q?a?=", "=?utf-8?q?never ends a"),
    ],
)
def test_encoded_words_with_question_marks(written: str, shown: str) -> None:
    assert fields.decode_words(written) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one \ntwo\nthree", "one two\nthree"),
        ("> a \n> b\n>> c\nd", "> a b\n>> c\nd"),
        ("> a \nb", "> a \nb"),
        (" From stuffed\n  x", "From stuffed\n x"),
        ("text \n-- \nname", "text \n-- \nname"),
        ("", ""),
    ],
)
def test_flowed_text_is_put_together(text: str, shown: str) -> None:
    assert unflow(text, delete_space=False) == shown
    data = f"Content-Type: text/plain; format=flowed\n\n{text}".encode()
    assert mime.parse(data).parts[0].text(data) == shown


def test_flowed_text_without_its_spaces() -> None:
    data = b"Content-Type: text/plain; Format=Flowed; DelSp=Yes\n\nab \ncd\n"
    assert mime.parse(data).parts[0].text(data) == "abcd\n"


def winmail(*titles: bytes) -> bytes:
    data = struct.pack("<IH", 0x223E9F78, 1)
    for title in titles:
        for kind, content in ((0x00069002, b"\0" * 14), (0x00018010, title + b"\0")):
            data += struct.pack("<BII", 2, kind, len(content)) + content + b"\0\0"
    return data


def test_what_is_in_a_winmail_dat_is_listed() -> None:
    data = b"Content-Type: application/ms-tnef; name=winmail.dat\n\n" + winmail(b"a.doc", b"b.pdf")
    [only] = described(data)["parts"]
    assert only["contains"] == ["a.doc", "b.pdf"]


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_broken_winmail_dat_is_no_fault(cut: int) -> None:
    assert isinstance(tnef.names(winmail(b"a.doc", b"b.pdf")[:cut] + b"\xff" * 20), list)


def uuencoded(name: str, content: bytes) -> bytes:
    lines = [binascii.b2a_uu(content[at : at + 45]) for at in range(0, len(content), 45)]
    return b"begin 644 " + name.encode() + b"\n" + b"".join(lines) + b"`\nend\n"


def files_in(data: bytes) -> dict[str | None, bytes]:
    return {each.filename: each.content(data) for each in attachments(mime.parse(data), data)}


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_uuencoded_files_in_a_text_are_attachments(line_end: bytes) -> None:
    content = bytes(range(256)) * 20 + b"\0" * 100
    data = (
        b"Subject: x\n\nSee these:\n\n"
        + uuencoded("one file.bin", content)
        + b"between\n"
        + uuencoded("../x.png", PNG)
        + b"-- \nBob\n"
    ).replace(b"\n", line_end)
    assert files_in(data) == {"one file.bin": content, "x.png": PNG}
    message = described(data)
    assert message["text"] == "See these:\n\n\n\nbetween\n\n\n-- \nBob"
    assert [each["filename"] for each in message["parts"] if each["attachment"]] == [
        "one file.bin",
        "x.png",
    ]
    assert [each["image"] for each in message["parts"] if each["attachment"]] == [False, True]
    assert [each["number"] for each in message["parts"]] == list(range(6))


def test_a_uuencoded_file_in_an_alternative_leaves_the_alternative() -> None:
    plain = b"Content-Type: text/plain\n\nHello\n" + uuencoded("a.bin", b"abc")
    data = multipart("alternative", plain, part("text/html", "<p>Hello</p>"))
    assert described(data)["text"] == "Hello"
    assert "<p>Hello</p>" in document(data)
    assert files_in(data) == {"a.bin": b"abc"}


def test_a_uuencoded_file_alone_and_one_cut_off_are_attachments() -> None:
    data = b"Subject: x\n\n" + uuencoded("a.bin", PNG)
    assert files_in(data) == {"a.bin": PNG}
    assert described(data)["text"] == ""
    cut = data[: data.rindex(b"`")]
    assert files_in(cut) == {"a.bin": PNG}


def in_base64(name: str, content: bytes) -> bytes:
    """As ``uuencode -m`` writes it."""
    return b"begin-base64 644 " + name.encode() + b"\n" + base64.encodebytes(content) + b"====\n"


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_files_in_base64_in_a_text_are_attachments(line_end: bytes) -> None:
    content = bytes(range(256)) * 20 + b"x"
    data = (
        b"Subject: x\n\nSee these:\n"
        + in_base64("one file.bin", content)
        + b"between\n"
        + in_base64("x.png", PNG)
        + uuencoded("y.png", PNG)
        + b"-- \nBob\n"
    ).replace(b"\n", line_end)
    assert files_in(data) == {"one file.bin": content, "x.png": PNG, "y.png": PNG}
    assert described(data)["text"] == "See these:\n\n\nbetween\n\n\n-- \nBob"
    cut = data[: data.index(b"====")]
    assert files_in(cut) == {"one file.bin": content}


@pytest.mark.parametrize("encode", [uuencoded, in_base64])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    "name", ["a.bin", "a file with a name that needs more than one line of text =.bin"]
)
def test_files_in_a_quoted_printable_text_are_attachments(
    encode: Callable[[str, bytes], bytes], line_end: bytes, name: str
) -> None:
    content = bytes(range(256)) * 20 + b"\0" * 100
    text = b"See:\n" + encode(name, content) + b"between =E4\n" + encode("x.png", PNG)
    quoted = quopri.encodestring(text.replace(b"=E4", b"\xe4")).replace(b"\n", line_end)
    head = (
        b"Content-Type: text/plain; charset=latin1\nContent-Transfer-Encoding: quoted-printable\n\n"
    )
    data = head + quoted
    assert files_in(data) == {name: content, "x.png": PNG}
    assert described(data)["text"] == "See:\n\n\nbetween ä"
    pictures = [each["image"] for each in described(data)["parts"] if each["attachment"]]
    assert pictures == [False, True]


def test_a_quoted_line_that_goes_on_begins_no_file() -> None:
    head = b"Content-Transfer-Encoding: quoted-printable\n\nWe =\n"
    data = head + uuencoded("a.bin", b"abc")
    assert files_in(data) == {}


def test_uuencode_as_a_transfer_encoding() -> None:
    head = b"Content-Type: image/png; name=x.png\nContent-Transfer-Encoding: x-uuencode\n\n"
    data = head + uuencoded("x.png", PNG)
    assert mime.parse(data).parts[0].content(data) == PNG


def test_spaces_lost_at_the_end_of_uuencoded_lines_are_zeros() -> None:
    content = b"abc" * 14 + b"\0" * 3
    data = b"Subject: x\n\n" + uuencoded("a.bin", content).replace(b"````\n", b"\n", 1)
    assert files_in(data.replace(b"    \n", b"\n")) == {"a.bin": content}


@pytest.mark.parametrize(
    "text",
    [
        "begin 644 the day\nwith a song\nend\n",
        "begin 2026 now\nHELLO\n",
        "begin 644 x\n",
        "begin 644 \nM\n",
        "We begin 644 x\n#86)C\n`\nend\n",
        "begin-base64 644 x\nhello world\n====\n",
        "begin-base64 644 x\n====\n",
        "beginners 644 x\nM\n",
    ],
)
def test_words_that_look_like_uuencode_stay_text(text: str) -> None:
    data = f"Subject: x\n\n{text}".encode()
    assert described(data)["text"] == text.strip("\n")
    assert len(mime.parse(data).parts) == 1


def test_uuencode_is_searched_in_linear_time() -> None:
    data = b"Subject: x\n\n" + b"begin 644 x\n#86)C\nno\n" * 50_000 + b"begin 644 x\n" * 200_000
    assert timed(lambda: mime.parse(data)) < 20 * timed(lambda: data.split(b"\n"))


@pytest.mark.parametrize("line", [b"begin 644 x\n", b"begin 6=\n", b"begin-base64 644 x\nAAAA\n"])
def test_uuencode_in_quoted_printable_is_searched_in_linear_time(line: bytes) -> None:
    def seconds(times: int) -> float:
        data = b"Content-Transfer-Encoding: quoted-printable\n\n" + line * times
        return min(timed(lambda: mime.parse(data)) for _ in range(3))

    assert seconds(80_000) < 8 * 3 * seconds(10_000) + 0.1


def timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Bob <bob@xn--bcher-kva.example>", "Bob <bob@bücher.example>"),
        ("a@mail.XN--BCHER-KVA.example", "a@mail.bücher.example"),
        ("a@xn--fsqu00a.xn--0zwm56d", "a@例子.测试"),
        ("a@xn--e1afmkfd.example", "a@пример.example"),
        ("a@xn--80ak6aa92e.com", "a@xn--80ak6aa92e.com"),  # Cyrillic that reads "apple"
        ("a@xn--pypal-4ve.com", "a@xn--pypal-4ve.com"),  # one Cyrillic letter among Latin ones
        ("a@xn--dmin-zg0y.example", "a@xn--dmin-zg0y.example"),
        ("a@xn--.example, b@xn--99999999999.example", "a@xn--.example, b@xn--99999999999.example"),
        ("xn--bcher-kva", "xn--bcher-kva"),
        ("jürgen@bücher.example", "jürgen@bücher.example"),
    ],
)
def test_host_names_are_shown_as_people_write_them(written: str, shown: str) -> None:
    assert idn.readable(written) == shown
    data = f"To: {written}\nFrom: {written}\n\nx".encode()
    assert described(data)["to"] == shown
    summary = entry.summarize(len(data), data, mime.parse(data))
    assert summary["sender"] == shown
    for text in (written, shown):
        assert text.casefold() in summary["folded"]["from"]
    assert ["To", written] in described(data)["headers"]


@pytest.mark.parametrize(
    ("label", "octets"),
    [
        ("utf-8", b"\xef\xbb\xbfd\xc3\xa9j\xc3\xa0"),
        ("iso-8859-1", b"\xef\xbb\xbfd\xc3\xa9j\xc3\xa0"),
        ("iso-8859-1", "\ufeffdéjà".encode("utf-16-le")),
        (None, "\ufeffdéjà".encode("utf-16-be")),
        ("utf-32", "\ufeffdéjà".encode("utf-32-le")),
    ],
)
def test_a_byte_order_mark_says_more_than_the_label(label: str | None, octets: bytes) -> None:
    assert charsets.decode(octets, label) == "déjà"


def test_html_that_is_xml_names_its_charset() -> None:
    html = '<?xml version="1.0" encoding="windows-1251"?><p>Привет</p>'.encode("cp1251")
    assert "Привет" in document(b"Content-Type: text/html\n\n" + html)


@pytest.mark.parametrize("encoding", ["base64 (why not)", '"base64"', "Base64;", "(a) base64"])
def test_a_transfer_encoding_is_read_as_other_fields_are(encoding: str) -> None:
    data = f"Content-Type: text/plain\nContent-Transfer-Encoding: {encoding}\n\nSGVsbG8="
    assert described(data.encode())["text"] == "Hello"


@pytest.mark.parametrize(
    "parameters",
    [
        "filename=plain.txt; filename*=UTF-8''%E2%82%AC.txt",
        "filename*=UTF-8''%E2%82%AC.txt; filename=plain.txt",
        "filename=plain.txt; filename*0*=UTF-8''%E2%82; filename*1*=%AC; filename*2=.txt",
    ],
)
def test_a_file_has_its_true_name_rather_than_the_plain_one(parameters: str) -> None:
    file = part("application/pdf", "x", f"Content-Disposition: attachment; {parameters}\n")
    data = multipart("mixed", part("text/plain"), file)
    assert [each.filename for each in attachments(mime.parse(data), data)] == ["€.txt"]


def test_an_empty_extended_name_leaves_the_plain_one() -> None:
    file = part("application/pdf; name=a.pdf; name*=utf-8''")
    assert [each.filename for each in mime.parse(file).parts] == ["a.pdf"]


def test_text_without_an_empty_line_before_it_is_shown() -> None:
    assert described(b"--b\nSubject: s\nFrom: a@b\nHello there\nand bye")["text"] == (
        "Hello there\nand bye"
    )
    assert described(b"From a@b Mon\nSubject: s\n more\nX: y\n")["text"] == ""
    data = multipart("mixed", b"Hello there\nand bye", part("text/plain", "footer"))
    assert described(data)["text"] == "Hello there\nand bye\n\nfooter"


@pytest.mark.parametrize("content_type", ["message/rfc822", "message/global"])
@pytest.mark.parametrize(
    "fields", ["", "Content-Disposition: attachment\n", "Content-Disposition: inline; filename=a\n"]
)
def test_an_attached_message_is_opened_in_place_too(content_type: str, fields: str) -> None:
    within = part(content_type, "Subject: Grüße\n\nHello", fields)
    data = multipart("mixed", part("text/plain", "See below"), within)
    shown = described(data)
    assert shown["text"].startswith("See below\n\n")
    assert shown["text"].endswith("Subject: Grüße\n\nHello")
    assert [each["attachment"] for each in shown["parts"]] == [False, False, True]


def properties(*values: tuple[int, bytes]) -> bytes:
    data = struct.pack("<I", len(values))
    for tag, value in values:
        data += struct.pack("<I", tag)
        if tag & 0xFFFF == 3:
            data += value
        else:
            data += struct.pack("<II", 1, len(value)) + value + bytes(-len(value) % 4)
    return data


@pytest.mark.parametrize(("tag", "encoded"), [(0x3707001F, "utf-16-le"), (0x3707001E, "cp1251")])
def test_a_winmail_dat_is_listed_with_long_names_in_its_code_page(tag: int, encoded: str) -> None:
    data = struct.pack("<IH", 0x223E9F78, 1)
    size, long_name = struct.pack("<I", 7), "Годовой отчёт.pdf\0".encode(encoded)
    for level, kind, content in (
        (1, 0x00069007, struct.pack("<II", 1251, 0)),
        (2, 0x00018010, "отчёт.pdf\0".encode("cp1251")),
        (2, 0x00018010, b"GODOVO~1.PDF\0"),
        (2, 0x00069005, properties((0x0E200003, size), (0x37030001, b"pdf"), (tag, long_name))),
    ):
        data += struct.pack("<BII", level, kind, len(content)) + content + b"\0\0"
    head = b"Content-Type: application/octet-stream; name=WINMAIL.DAT\n\n"
    [only] = described(head + data)["parts"]
    assert only["contains"] == ["отчёт.pdf", "Годовой отчёт.pdf"]
    for cut in range(len(data)):
        assert isinstance(tnef.names(data[:cut]), list)
        assert isinstance(tnef.names(data[:cut] + b"\xff" * 20 + data[cut + 20 :]), list)


@pytest.mark.parametrize(
    "html",
    [
        '<img src="&#104;ttp://e.example/x">',
        '<img src="https&colon;//e.example/x">',
        '<img src="ht\ttps://e.example/x">',
        r'<img src="\\e.example\x">',
        r'<img src="https:\\e.example\x">',
        '<img src="https:e.example/x">',
        '<img srcset="cid:a 1x, https://e.example/b 2x">',
        '<svg><image href="https://e.example/x"/></svg>',
        '<svg><image width=9 xlink:href="//e.example/x"/></svg>',
        r'<style>a { background: url("\68ttps://e.example/x") }</style>',
        '<style>a { background: image-set("https://e.example/x" 1x) }</style>',
    ],
)
def test_pictures_elsewhere_are_found_however_they_are_written(html: str) -> None:
    assert described(part("text/html", html))["remote_content"]


@pytest.mark.parametrize(
    "html",
    ['<a href="https://e.example/">x</a>', '<img src="x.png">', '<img src="data:image/png,x">'],
)
def test_what_asks_no_other_host_is_no_remote_content(html: str) -> None:
    assert not described(part("text/html", html))["remote_content"]


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("see https://a.example/x.", "https://a.example/x"),
        ("(https://a.example/x)", "https://a.example/x"),
        ("https://a.example/a_(b)", "https://a.example/a_(b)"),
        ("(see https://a.example/a_(b)).", "https://a.example/a_(b)"),
        ("https://a.example/x。", "https://a.example/x"),
        ("HTTPS://A.EXAMPLE/x", "HTTPS://A.EXAMPLE/x"),
    ],
)
def test_a_link_ends_where_its_sentence_goes_on(text: str, link: str) -> None:
    assert described(part("text/plain; charset=utf-8", text))["links"] == [link]


def test_a_link_is_listed_as_browsers_follow_it() -> None:
    html = '<a href=" ht\ntps://a.example/\tx ">x</a><area href="#b">'
    assert described(part("text/html", html))["links"] == ["https://a.example/x"]
    assert '<area target="_self" href="#b">' in document(part("text/html", html))


REPORT = multipart(
    "report; report-type=delivery-status",
    part("text/plain", "It could not be delivered."),
    part("message/delivery-status", "Final-Recipient: rfc822; bob@example.org\nAction: failed"),
    part("text/rfc822-headers", "Subject: Lunch?"),
)


def test_a_report_is_shown_with_what_it_is_about() -> None:
    """RFC 3464: the part for programs has the reason, and people want to read it."""
    message = described(REPORT)
    assert message["text"] == (
        "It could not be delivered.\n\n"
        "---------- Delivery status ----------\n"
        "Final-Recipient: rfc822; bob@example.org\nAction: failed\n\n"
        "---------- Header of the message ----------\nSubject: Lunch?"
    )
    assert [each["readable"] for each in message["parts"][1:]] == [True, True, True]


@pytest.mark.parametrize(
    ("content_type", "readable"),
    [
        ("application/ics", True),
        ("application/json", True),
        ("application/pgp-signature", True),
        ("application/pdf", False),
        ("image/png", False),
    ],
)
def test_text_that_is_not_called_so_can_be_read_in_place(content_type: str, readable: bool) -> None:
    [only] = described(part(content_type))["parts"]
    assert only["readable"] is readable


@pytest.mark.parametrize(
    "content_type", ["text/x-amp-html", "text/watch-html", "text/vnd.google.email-reaction+json"]
)
def test_what_is_for_other_programs_than_these_is_no_attachment(content_type: str) -> None:
    data = multipart(
        "alternative",
        part("text/plain", "Hello"),
        part(content_type, "x"),
        part("text/html", "<p>Hello</p>"),
    )
    assert attachments(mime.parse(data), data) == []


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Your code: <b>4</b><b>8</b>1 922</p>", "Your code: 481 922"),
        ("Please <a href='x'>sign in</a>.", "Please sign in."),
        ("<td>a</td><td>b</td>", "a b"),
        ("a<bdo dir=ltr>b</bdo>c<br>d", "abc\nd"),
        ("<table><tr><td>a<address>b</address>", "a b"),
    ],
)
def test_text_of_html_has_blanks_where_people_see_them(html: str, text: str) -> None:
    assert described(part("text/html", html))["text"] == text


@pytest.mark.parametrize(
    ("meta", "dark"),
    [
        ('<meta name="color-scheme" content="light dark">', True),
        ("<META CONTENT='dark light' NAME='supported-color-schemes'>", True),
        ("<meta name=supported-color-schemes content='light dark'>", True),
        ('<meta name="color-scheme" content="light only">', False),
        ('<meta name="description" content="dark">', False),
    ],
)
def test_html_with_colours_for_dark_screens_gets_them(meta: str, dark: bool) -> None:
    shown = document(part("text/html", f"<head>{meta}</head>x"))
    assert ('<meta name="color-scheme" content="light dark">' in shown) is dark
    assert "<hr>" not in shown
    assert meta not in shown.partition("<head>")[2]


def test_links_are_what_people_click_on() -> None:
    html = (
        '<link rel="stylesheet" href="https://fonts.example/css"><base href="https://a.example/">'
        '<svg><use href="https://b.example/x#y"/><image href="https://c.example/z.png"/></svg>'
        '<map><area href="https://d.example/"></map><a href="https://e.example/">x</a>'
    )
    unsubscribe = "<mailto:off@example.org>, <https://example.org/off>"
    data = f"List-Unsubscribe: {unsubscribe}\n".encode() + part("text/html", html)
    assert described(data)["links"] == [
        "https://d.example/",
        "https://e.example/",
        "mailto:off@example.org",
        "https://example.org/off",
    ]


FORWARDED = multipart(
    "related",
    part("text/html", '<p>rich</p><img src="cid:p"><img src="http://a.example/x">'),
    part(
        "image/png",
        base64.b64encode(PNG).decode(),
        "Content-ID: <p>\nContent-Transfer-Encoding: base64\n",
    ),
    boundary="inner",
)


@pytest.mark.parametrize("body", [part("text/plain", "see below"), part("text/html", "<p>see</p>")])
def test_a_message_within_is_html_in_the_html(body: bytes) -> None:
    within = (
        b"Content-Type: message/rfc822\n\nFrom: Eve <e@example.org>\nSubject: <b>\n" + FORWARDED
    )
    data = multipart("mixed", body, within)
    shown = described(data)
    assert shown["html"]
    assert shown["remote_content"]
    page = document(data)
    assert "<p>rich</p>" in page
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in page
    assert "From: Eve &lt;e@example.org&gt;\nSubject: &lt;b&gt;" in page
    assert page.index("see") < page.index("Eve") < page.index("rich")


def test_messages_within_messages_are_html_up_to_a_bound() -> None:
    data = part("text/html", "<p>deepest</p>")
    for depth in range(5):
        inner = f"Subject: level {depth}\nContent-Type: message/rfc822\n\n".encode() + data
        data = inner
    assert document(data) == ""
    assert not described(data)["html"]
    assert "Subject: level 2" in described(data)["text"]


def test_many_messages_within_are_read_in_linear_time() -> None:
    def read(count: int) -> None:
        within = b"Content-Type: message/rfc822\n\n" + FORWARDED
        described(multipart("mixed", *[within] * count))

    assert timed(lambda: read(400)) < 20 * timed(lambda: read(100))
