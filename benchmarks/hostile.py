"""Mail that was made to keep its reader's processor busy. Lines end with LF, as in a Maildir."""

import base64
import os
from collections.abc import Callable, Iterable
from typing import Final

KIB: Final = 2**10
MIB: Final = 2**20

#: A mail by its size in octets, which it comes near to.
Mail = Callable[[int], bytes]


def long_lines(size: int) -> bytes:
    """Lines of 998 octets, which are just not too long (RFC 5322 section 2.1.1)."""
    return b"Subject: lines\n\n" + (b"x" * 998 + b"\n") * (size // 999)


def many_lines(size: int) -> bytes:
    """Lines of an octet, each with a dot before it on the wire."""
    return b"Subject: dots\n\n" + b".\n" * (size // 2)


def one_line(size: int) -> bytes:
    return b"Subject: line\n\n" + b"x" * size + b"\n"


def attachment(size: int) -> bytes:
    """An ordinary file; *size* is that of its base64."""
    data = base64.encodebytes(os.urandom(size * 57 // 77))
    head = (
        b"Content-Type: application/octet-stream; name=big\nContent-Transfer-Encoding: base64\n\n"
    )
    return _multipart([b"Content-Type: text/plain\n\nSee the file.\n", head + data])


def character_reference(size: int) -> bytes:
    """HTML in which one character has a number with more digits than Python makes an int of."""
    number = b"<p>&#" + b"1" * 4301 + b";\n"
    return b"Subject: digits\nContent-Type: text/html\n\n" + number * (size // len(number))


def empty_parameters(size: int) -> bytes:
    """Parts whose Content-Type has thousands of empty parameters."""
    part = b"Content-Type: text/plain" + b";" * 4000 + b"\n\nx\n"
    return _multipart([part] * (size // len(part)))


def content_fields(size: int) -> bytes:
    """Parts with nearly a thousand fields whose names begin with Content-."""
    part = b"".join(b"Content-%d: x\n" % number for number in range(990)) + b"\nx\n"
    return _multipart([part] * (size // len(part)))


def false_boundaries(size: int) -> bytes:
    """Multiparts 20 deep, and then lines that begin like the delimiter of each of them."""
    names = [b"b" * length for length in range(1, 21)]
    heads = [
        b"Content-Type: multipart/mixed; boundary=%s\n\n--%s\n" % (name, name) for name in names
    ]
    line = b"--" + b"b" * 21 + b"\n"
    return b"Subject: deep\n" + b"".join(heads) + b"\n" + line * (size // len(line))


def slow_charset(size: int) -> bytes:
    """Text in a charset of Python's whose decoder takes quadratic time, under another spelling."""
    return b"Subject: slow\nContent-Type: text/plain; charset=punycode_\n\n" + b"a" * size


def charset_names(size: int) -> bytes:
    """Encoded words in thousands of charsets that don't exist, each in its own."""
    salt = os.urandom(3).hex().encode()
    words = [b" =?%s%d?q?x?=" % (salt, number) for number in range(size // 18)]
    fields = [b"X-Words:" + b"".join(words[at : at + 400]) for at in range(0, len(words), 400)]
    return b"Subject: words\n" + b"\n".join(fields) + b"\n\nx\n"


def file_names(size: int) -> bytes:
    """Parts that are nothing but a long file name."""
    part = b'Content-Disposition: attachment; filename="' + b"n" * 850 + b'.txt"\n\n'
    return _multipart([part] * (size // len(part)))


def _multipart(parts: Iterable[bytes]) -> bytes:
    head = b"Subject: parts\nContent-Type: multipart/mixed; boundary=limit\n\n"
    return head + b"".join(b"--limit\n" + part for part in parts) + b"--limit--\n"
