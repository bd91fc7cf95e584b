"""Pictures that a message brings are shown where its HTML names them, and only there."""

from __future__ import annotations

import base64
import time

import pytest
from support.page import PNG, described, document

from smtp_blinker.web.reader import entry, mime
from smtp_blinker.web.reader.bodies import attachments

SHOWN = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def picture(fields: str) -> str:
    return f"Content-Type: image/png\nContent-Transfer-Encoding: base64\n{fields}\n\n{SHOWN[22:]}\n"


def related(html: str, *pictures: str, fields: str = "", of_html: str = "") -> bytes:
    """A message of *html* and *pictures*, each with these *fields*."""
    parts = [f"Content-Type: text/html\n{of_html}\n{html}\n", *map(picture, pictures)]
    head = f"Content-Type: multipart/related; boundary=b\n{fields}\n"
    return (head + "".join(f"--b\n{part}" for part in parts) + "--b--\n").encode()


@pytest.mark.parametrize(
    ("reference", "location"),
    [
        ("a.png", "a.png"),
        ("./x/../a.png", "a.png"),
        ("images/a.png", "images/a.png"),
        ("my%20picture.png", "my picture.png"),
        ("my picture.png", "my%20picture.png"),
        ("http://shop.example/a.png?x=1&amp;y=2", "http://shop.example/a.png?x=1&y=2"),
        ("http://shop.example/a.png", "<http://shop.example/a.png>"),
        ("http://shop.example/a.png", '"http://shop.example/a.png"'),
        ("http://shop.example/long/a.png", "http://shop.example/\n long/a.png"),
        ("größe.png", "=?utf-8?q?gr=C3=B6=C3=9Fe.png?="),
        ("http://[", "http://["),
    ],
)
def test_a_picture_is_found_by_its_content_location(reference: str, location: str) -> None:
    for place in (
        f'<img alt=x src="{reference}">',
        f"<img alt=x src='{reference}'>",
        f'<td background="{reference}">',
        f"<style>p {{ background: url('{reference}') }}</style>",
    ):
        data = related(place, f"Content-Location: {location}")
        assert SHOWN in document(data)
        assert reference not in document(data)
        message = described(data)
        assert not message["remote_content"]
        assert not any(part["attachment"] for part in message["parts"])


@pytest.mark.parametrize(
    ("fields", "of_html", "html", "location"),
    [
        # What the HTML names is relative to where it is from (RFC 2557 section 5).
        ("", "http://a.example/d/x.html", '<img src="y.png">', "http://a.example/d/y.png"),
        ("", "http://a.example/d/x.html", '<img src="/y.png">', "http://a.example/y.png"),
        ("", "", '<base href="http://a.example/d/"><img src="y.png">', "http://a.example/d/y.png"),
        ("", "http://b.example/", '<base href="d/"><img src="y.png">', "http://b.example/d/y.png"),
        # What has no base of its own has that of the multipart around it.
        ("http://a.example/", "", '<img src="y.png">', "y.png"),
        ("http://a.example/", "", '<img src="http://a.example/y.png">', "y.png"),
        # As Word writes them.
        ("", "file:///C:/D1/t.htm", '<img src="t_files/y.png">', "file:///C:/D1/t_files/y.png"),
    ],
)
def test_addresses_are_relative_to_where_their_part_is_from(
    fields: str, of_html: str, html: str, location: str
) -> None:
    def field(value: str) -> str:
        return f"Content-Location: {value}\n" if value else ""

    data = related(
        html, f"Content-Location: {location}", fields=field(fields), of_html=field(of_html)
    )
    assert SHOWN in document(data)


def test_what_is_elsewhere_stays_elsewhere() -> None:
    html = (
        '<img src="http://a.example/b.png"><img src="http://a.example/c.png"><a href="a.png">x</a>'
    )
    data = related(html, "Content-Location: http://a.example/b.png", "Content-Location: a.png")
    shown = document(data)
    assert shown.count(SHOWN) == 1
    assert 'src="http://a.example/c.png"' in shown
    assert 'href="a.png"' in shown
    assert described(data)["remote_content"]


@pytest.mark.parametrize(
    "place",
    [
        '<img src="cid:p@x">',
        "<img src=cid:p@x>",
        '<img srcset="cid:p@x 2x, cid:nothing 3x">',
        '<img srcset="cid:nothing, cid:p@x">',
        '<td background="cid:p@x">',
        '<p style="background-image: url(cid:p@x)">',
        "<p style=\"background-image: url('cid:p@x')\">",
        '<p style="background-image: url(&quot;cid:p@x&quot;)">',
        '<p style="background-image: url(&#34;cid:p@x&#34;)">',
        "<p style='background-image: url(&apos;cid:p@x&apos;)'>",
        '<style>p { background: url("cid:p@x") }</style>',
        '<v:fill type="frame" src="cid:p@x" />',
    ],
)
@pytest.mark.parametrize("located", ["", "\nContent-Location: elsewhere.png"])
def test_a_picture_is_found_by_its_content_id_wherever_it_stands(place: str, located: str) -> None:
    data = related(place, f"Content-ID: <p@x>{located}")
    assert document(data) == '<!doctype html><base target="_blank">' + place.replace(
        "cid:p@x", SHOWN
    )
    assert described(data)["parts"][2]["attachment"] is False


@pytest.mark.parametrize("quote", ["&quot;", "&#39;", "&apos;"])
def test_a_picture_in_a_style_attribute_is_found_by_its_location(quote: str) -> None:
    style = f'<p style="background: url( {quote}a/b.png{quote} )">x</p>'
    data = related(style, "Content-Location: a/b.png")
    assert document(data).endswith(style.replace("a/b.png", SHOWN))


def test_a_srcset_names_pictures_by_their_locations() -> None:
    data = related(
        '<img src="1.png" srcset="1.png, 2.png 2x">',
        "Content-Location: 1.png",
        "Content-Location: 2.png",
    )
    assert document(data).endswith(f'<img src="{SHOWN}" srcset="{SHOWN}, {SHOWN} 2x">')


def test_a_picture_that_the_html_does_not_show_is_an_attachment() -> None:
    data = related(
        '<img src="cid:one">', "Content-ID: <one>", "Content-ID: <two>", "Content-Location: 3.png"
    )
    message = mime.parse(data)
    assert [part.number for part in attachments(message, data)] == [3, 4]
    assert entry.summarize(len(data), data, message)["attachments"] == 2


def test_what_is_sent_as_an_attachment_is_one_though_it_is_shown() -> None:
    data = related(
        '<img src="cid:one">', "Content-ID: <one>\nContent-Disposition: attachment; filename=x.png"
    )
    assert [part.filename for part in attachments(mime.parse(data), data)] == ["x.png"]
    assert SHOWN in document(data)


def test_an_answer_has_the_location_of_a_part() -> None:
    parts = described(related("x", "Content-Location: a.png"))["parts"]
    assert [part["content_location"] for part in parts] == [None, None, "a.png"]


@pytest.mark.parametrize(
    "html",
    [
        'src="' * 100_000,
        "src='\"" * 100_000,
        "url(" * 100_000,
        'url("' * 100_000,
        "url( &quot;" * 50_000,
        "srcset=x " * 50_000,
        'srcset="' + "cid:x " * 80_000 + '"',
        "<image " * 80_000,
        "<image href=" * 40_000,
        "<base href " * 50_000,
        "cid:" * 120_000,
        "src=a" * 100_000,
        '<img src="a.png">' * 30_000,
        "src=cid:&quot" * 30_000,
    ],
)
def test_pictures_are_looked_for_in_linear_time(html: str) -> None:
    def seconds(times: int) -> float:
        data = related(html[: len(html) // times], "Content-Location: a.png")
        began = time.process_time()
        document(data)
        described(data)
        return time.process_time() - began

    seconds(8)
    short = min(seconds(8) for _ in range(3))
    assert seconds(1) < 8 * 6 * short + 0.2
