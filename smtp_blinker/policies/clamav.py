"""Scans messages for viruses with ClamAV's daemon clamd (the command INSTREAM, see clamd(8))."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

from gevent import socket

from ..session import Session
from ..smtp.reply import Reject
from .base import LOOPBACK, BasePolicy, Finding, Networks, OnFailure
from .scanner import ScannerFailure, deadline, pieces_of, printable

#: The longest answer in octets; names of signatures are far shorter.
MAX_ANSWER: Final = 4096
#: With AlertExceedsMax clamd "finds" this in files that it could not scan.
_LIMITS: Final = "Heuristics.Limits.Exceeded"

#: Host and port, or the path of a UNIX socket.
_Address = tuple[str, int] | str


@dataclass(frozen=True, slots=True)
class ClamAVResult(Finding):
    """clamd's verdict on a message."""

    #: The name of the virus signature in printable ASCII, or None.
    signature: str | None

    @property
    def infected(self) -> bool:
        return self.signature is not None

    @property
    def verdict(self) -> str:
        return "infected" if self.infected else "clean"

    def as_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "signature": self.signature, "infected": self.infected}


class ClamAV(BasePolicy):
    """Refuses a message with 550 5.7.1 if clamd finds a virus in it.

    *address*: ``"tcp://HOST:3310"``, ``(host, port)`` or ``"unix:/path"``. The verdict is in
    ``session.envelope.results["clamav"]``. Failures, for which *on_failure* applies, are: no answer
    within *timeout* seconds, an error, and a message larger than clamd's StreamMaxLength. Raises
    ValueError for a wrong *address*.
    """

    name = "clamav"

    def __init__(
        self,
        address: str | tuple[str, int],
        *,
        trusted: Networks = LOOPBACK,
        judge_authenticated: bool = False,
        timeout: float = 30.0,
        on_failure: OnFailure = "accept",
    ) -> None:
        super().__init__(
            trusted=trusted,
            judge_authenticated=judge_authenticated,
            timeout=timeout,
            on_failure=on_failure,
        )
        self._address = _checked(address)

    def on_message(self, content: BinaryIO, session: Session) -> None:
        if not self.judges(session):
            return
        try:
            with deadline(self.timeout):
                found = _verdict(self._scan(content))
        except (OSError, ScannerFailure) as exc:
            self.tell(session, None)
            self.fail(session, exc)
            return
        self.note(session, session.envelope.results, found)
        if found.infected:
            raise Reject(550, f"The message holds a virus: {found.signature}", "5.7.1")

    def _scan(self, content: BinaryIO) -> str:
        """clamd's answer."""
        with _connected(self._address) as sock:
            try:
                sock.sendall(b"zINSTREAM\0")
                for piece in pieces_of(content):
                    sock.sendall(struct.pack(">I", len(piece)) + piece)
                sock.sendall(struct.pack(">I", 0))
            except ConnectionError as exc:
                # At StreamMaxLength clamd closes the connection, and may have sent the reason.
                raise ScannerFailure(_last_words(sock) or str(exc)) from exc
            return _answer(sock)


def _connected(address: _Address) -> Any:
    if isinstance(address, tuple):
        return socket.create_connection(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _answer(sock: Any) -> str:
    """The answer before the NUL that ends it."""
    answer = b""
    while b"\0" not in answer:
        piece = sock.recv(MAX_ANSWER)
        if not piece:
            raise ScannerFailure(f"it closed the connection after {_shown(answer)}")
        answer += piece
        if len(answer) > MAX_ANSWER:
            raise ScannerFailure(f"its answer has no end: {_shown(answer)}")
    return answer.partition(b"\0")[0].decode("utf-8", "replace")


def _last_words(sock: Any) -> str:
    try:
        return printable(_answer(sock))
    except (OSError, ScannerFailure):
        return ""


def _verdict(answer: str) -> ClamAVResult:
    """Raises ScannerFailure for an invalid answer."""
    if answer == "stream: OK":
        return ClamAVResult(None)
    name = answer.removeprefix("stream: ").removesuffix(" FOUND")
    if answer == f"stream: {name} FOUND" and name.strip() and not name.startswith(_LIMITS):
        return ClamAVResult(printable(name))
    raise ScannerFailure(f"it answered {printable(answer)!r}")


def _shown(answer: bytes) -> str:
    return repr(printable(answer.decode("utf-8", "replace"))) if answer else "nothing"


def _checked(address: object) -> _Address:
    if isinstance(address, str) and "\0" not in address:
        path = address.removeprefix("unix:")
        if path != address and path.startswith("/"):
            return "/" + path.lstrip("/")
        try:
            parts = urlsplit(address)
            rest = (parts.path.strip("/"), parts.query, parts.fragment, parts.username)
            if parts.scheme == "tcp" and not any(rest):
                address = (parts.hostname, parts.port)
        except ValueError:  # the port, or what should be an IPv6 address
            pass
    if isinstance(address, tuple) and len(address) == 2:
        host, port = address
        if isinstance(host, str) and host and type(port) is int and 0 < port < 65536:
            return host, port
    raise ValueError(
        f"the address of clamd is tcp://HOST:3310, (host, port) or unix:/path, not {address!r}"
    )
