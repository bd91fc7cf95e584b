"""What strangers and readers do at a server, and what costs it most of it.

Each function is one visit, which is repeated as long as its process lives. A visit may be ended by
the server, or take longer than its client waits: the next one begins then.
"""

import base64
import http.client
import itertools
import os
import random
import selectors
import socket
import ssl
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import hostile
from idle import connect, expect
from source import ENVELOPE, HELLO, message

#: Seconds until what failed is tried again.
PAUSE: Final = 0.05
#: Octets that AUTH takes in one line (RFC 4954 section 4), and so the longest of passwords.
AUTH_LINE: Final = 12288
PASSWORD_OCTETS: Final = 8192
PAGES: Final = 500
MANY_RECIPIENTS: Final = 1000

_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TLS.check_hostname = False
_TLS.verify_mode = ssl.CERT_NONE


@dataclass(frozen=True)
class Place:
    """Where a server is visited."""

    smtp: int
    smtps: int
    http: int
    #: Ids of messages that a reader opens.
    mails: tuple[str, ...] = ()


Visit = Callable[[Place], object]


def crowd(place: Place, visits: Sequence[tuple[int, Visit]]) -> NoReturn:
    """So many of each at once, for ever; for a process of its own."""
    os.nice(10)  # the server and the mail come first on the processors
    for number, visit in visits:
        for _ in range(number):
            threading.Thread(target=_again, args=(place, visit), daemon=True).start()
    while True:
        time.sleep(60)


def _again(place: Place, visit: Visit) -> NoReturn:
    while True:
        try:
            visit(place)
        except (OSError, http.client.HTTPException):
            time.sleep(PAUSE)


# Strangers


def secured(port: int) -> ssl.SSLSocket:
    """A connection that has shaken hands, no session resumed."""
    plain = connect(port)
    try:
        return _TLS.wrap_socket(plain)
    except BaseException:
        plain.close()
        raise


def say(client: socket.socket, *commands: tuple[bytes, bytes]) -> None:
    for command, code in commands:
        client.sendall(command)
        expect(client, code)


def drop(client: socket.socket) -> None:
    """Read until the server closes."""
    while client.recv(65536):
        pass


def send_mail(place: Place, content: bytes, recipients: int = 1) -> None:
    """One message, its recipients pipelined."""
    with connect(place.smtp) as client:
        expect(client, b"220")
        say(client, (HELLO, b"250"), ENVELOPE[0])
        names = b"".join(b"RCPT TO:<to-%d@example.com>\r\n" % each for each in range(recipients))
        client.sendall(names + b"DATA\r\n")
        last = b""
        while b"\n354 " not in last:
            if not (piece := client.recv(65536)):
                raise ConnectionError("closed by the server")
            last = last[-8:] + piece
        client.sendall(content)
        expect(client, b"250")
        say(client, (b"QUIT\r\n", b"221"))


def mail_to_a_thousand(place: Place) -> None:
    send_mail(place, message(1024), MANY_RECIPIENTS)


def ten_of_the_worst(place: Place) -> None:
    """Ten messages that are made to keep a reader busy, and nothing after them."""
    worst = (hostile.empty_parameters, hostile.content_fields, hostile.false_boundaries)
    for _, make in zip(range(10), itertools.cycle(worst)):
        send_mail(place, make(hostile.MIB).replace(b"\n", b"\r\n") + b".\r\n")
    time.sleep(3600)


def mail_of_many_lines(place: Place) -> None:
    """A million lines, each with a dot before its dot."""
    send_mail(place, b"Subject: lines\r\n\r\n" + b"..\r\n" * 1_000_000 + b".\r\n")


def mail_of_one_line(place: Place) -> None:
    send_mail(place, b"Subject: line\r\n\r\n" + b"x" * 16 * hostile.MIB + b"\r\n.\r\n")


def octet_by_octet(place: Place) -> None:
    with connect(place.smtp) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        expect(client, b"220")
        say(client, (HELLO, b"250"), *ENVELOPE)
        for octet in message(32 * hostile.KIB):
            client.sendall(bytes((octet,)))
        expect(client, b"250")


def pipelined(place: Place) -> None:
    """As many commands at once as are answered before the server has enough."""
    with connect(place.smtp) as client:
        expect(client, b"220")
        recipients = b"RCPT TO:<recipient@example.com>\r\n" * 2500
        client.sendall(HELLO + b"NOOP\r\n" * 90 + ENVELOPE[0][0] + recipients)
        client.shutdown(socket.SHUT_WR)
        drop(client)


def long_command(place: Place) -> None:
    with connect(place.smtp) as client:
        expect(client, b"220")
        for _ in range(1024):
            client.sendall(b"x" * 65536)


def come_and_go(place: Place) -> None:
    with connect(place.smtp) as client:
        expect(client, b"220")
        say(client, (HELLO, b"250"), (b"QUIT\r\n", b"221"))


def from_anywhere(place: Place) -> None:
    """A client from an address that has not come before; it waits until its name is known."""
    source = (f"127.0.{random.randrange(1, 255)}.{random.randrange(1, 255)}", 0)
    with socket.create_connection(("127.0.0.1", place.smtp), 10, source) as client:
        expect(client, b"220")
        say(client, (HELLO, b"250"), ENVELOPE[0], (b"QUIT\r\n", b"221"))


def handshake(place: Place) -> None:
    secured(place.smtps).close()


def guess(place: Place, password: bytes) -> None:
    with secured(place.smtps) as client:
        expect(client, b"220")
        say(client, (HELLO, b"250"))
        line = b"AUTH PLAIN " + base64.b64encode(b"\0user\0" + password) + b"\r\n"
        assert len(line) <= AUTH_LINE
        say(client, (line, b"535"))


def guess_short(place: Place) -> None:
    guess(place, os.urandom(6).hex().encode())


def guess_long(place: Place) -> None:
    guess(place, os.urandom(PASSWORD_OCTETS // 2).hex().encode())


def guess_marks(place: Place) -> None:
    """U+0344, which NFC takes apart, and no letter for it to belong to."""
    guess(place, "\u0344".encode() * (PASSWORD_OCTETS // 2))


def guess_unordered_marks(place: Place) -> None:
    """Marks of all classes, the last come first, which NFC has to sort (Unicode section 3.11)."""
    guess(place, _UNORDERED.encode())


def _unordered_marks() -> str:
    """Of two octets each in UTF-8, and about `PASSWORD_OCTETS` of them all."""
    classes = {unicodedata.combining(chr(code)): chr(code) for code in range(0x300, 0x800)}
    del classes[0]  # letters
    each = PASSWORD_OCTETS // 2 // len(classes)
    return "".join(classes[number] * each for number in sorted(classes, reverse=True))


_UNORDERED: Final = _unordered_marks()


# Readers


def get(place: Place, path: str, method: str = "GET") -> bytes:
    client = http.client.HTTPConnection("127.0.0.1", place.http, timeout=60)
    try:
        client.request(method, path)
        return client.getresponse().read()
    finally:
        client.close()


def watch(place: Place) -> None:
    """The events that an open page listens to."""
    client = http.client.HTTPConnection("127.0.0.1", place.http, timeout=60)
    try:
        client.request("GET", "/api/events?newest=50")
        response = client.getresponse()
        while response.read1(65536):  # a browser that looks at each line runs elsewhere
            pass
    finally:
        client.close()


def follow(place: Place) -> None:
    """The list, as an open page asks for it while mail comes: after each event `inbox`, which a
    busy server sends every 0.6 to 1.2 seconds."""
    get(place, "/api/messages?offset=0&limit=50&within=0.2")
    time.sleep(random.uniform(0.6, 1.2))


def watch_everywhere(place: Place) -> None:
    """Many open pages, which take what comes."""
    request = f"GET /api/events?newest=50 HTTP/1.1\r\nHost: 127.0.0.1:{place.http}\r\n\r\n".encode()
    with selectors.DefaultSelector() as selector:
        for _ in range(PAGES):
            client = connect(place.http)
            client.sendall(request)
            selector.register(client, selectors.EVENT_READ, client)
        while selector.get_map():
            for key, _ in selector.select():
                if not key.data.recv(65536):
                    selector.unregister(key.data)
                    key.data.close()


def open_mails(place: Place) -> None:
    """All that a reader can look at."""
    for id in place.mails:
        path = f"/api/messages/{id}"
        for what in ("", "/html", "/source", "/raw", "/parts/1", "/parts/2"):
            get(place, path + what)


def act(place: Place) -> None:
    """Search, mark and delete."""
    get(place, "/api/messages?limit=500&q=subject:benchmark+-from:nobody+recipient")
    get(place, "/api/messages/seen", "PUT")
    get(place, "/api/live")
    get(place, "/metrics")
    get(place, "/api/messages?q=subject:benchmark", "DELETE")
