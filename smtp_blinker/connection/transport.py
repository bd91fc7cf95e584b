"""The socket of one connection: waiting under a deadline, reading, buffered writing, TLS.

Nothing here knows SMTP. One greenlet reads and writes; others only `interrupt` it.
"""

from __future__ import annotations

import errno
import socket as stdlib_socket
import ssl
from _socket import socket as RawSocket
from contextlib import suppress
from typing import Any, Final

from gevent import get_hub, getcurrent
from greenlet import greenlet

from ..turns import let_others_run
from .clock import monotonic
from .tls import TLSChannel

#: With this many octets of unsent replies the server writes them and waits, under the deadline.
#: This limits the memory for clients that send and never read.
MAX_UNSENT: Final = 16 * 1024
#: Reads that may follow each other without a wait before other greenlets get their turn.
READS_PER_TURN: Final = 16
#: Seconds and octets for which the server still reads after its last reply, so that a client that
#: is still sending gets that reply: a close at once would cause a reset, which destroys it.
LINGER_SECONDS: Final = 2.0
LINGER_OCTETS: Final = 1024 * 1024
#: Octets to read at a time of ciphertext, or while lingering.
_RAW_READ: Final = 16 * 1024

_READ, _WRITE = 1, 2
_FAR_AWAY: Final = float("inf")


class Interrupted(Exception):
    """Another greenlet ended the wait; the connection looks at its state to see why."""


class Transport:
    """*sock* is a connected, non-blocking socket of `listener.client_socket`; `close` closes it.

    *patience* is how many seconds sending without a deadline may take. *last_moment* is the time
    of `clock.monotonic` at which every wait ends, even before its deadline; only lingering may end
    later.

    Methods with a deadline raise OSError when the connection breaks, TimeoutError when the
    deadline passes while they wait, and Interrupted.
    """

    __slots__ = (
        "_deadline",
        "_fires_at",
        "_hub",
        "_last_moment",
        "_patience",
        "_reader",
        "_recv",
        "_rest",
        "_send",
        "_switch",
        "_timer",
        "_tls",
        "_to_hub",
        "_turns",
        "_writer",
        "bytes_in",
        "bytes_out",
        "greenlet",
        "socket",
        "unsent",
    )

    def __init__(self, sock: RawSocket, patience: float, last_moment: float) -> None:
        self.socket = sock
        self._patience = patience
        self._last_moment = last_moment
        self._recv = sock.recv
        self._send = sock.send
        hub = self._hub = get_hub()
        self._reader: Any = hub.loop.io(sock.fileno(), _READ)
        self._writer: Any = None
        #: The greenlet that reads and writes.
        self.greenlet = getcurrent()
        self._switch = self.greenlet.switch
        # Hub.switch first looks for a switch_out method, which a raw greenlet doesn't have.
        self._to_hub = greenlet.switch.__get__(hub)
        self._timer: Any = None
        self._fires_at = _FAR_AWAY
        self._deadline = _FAR_AWAY
        self._tls: TLSChannel | None = None
        #: Plain octets that the next `flush` or `receive` sends; `write` adds to it.
        self.unsent = b""
        #: Octets of TLS that wait to be sent.
        self._rest = b""
        self._turns = 0
        self.bytes_in = 0
        self.bytes_out = 0

    # Waiting

    def receive(self, size: int, deadline: float, raw: bool = False) -> bytes:
        """Send what is unsent, then wait for octets: 1 to *size* of them, or b"" at the end.

        *deadline* is a moment of `clock.monotonic`, for the sending too. *raw* is for octets
        below TLS.
        """
        if self._tls is not None and not raw:
            return self._receive_tls(size, deadline)
        if self.unsent:
            self.flush(deadline)
        # To wait first and then read once is cheaper than a failed read, a wait and a second read.
        self._deadline = deadline
        if deadline < self._fires_at:
            self._start_timer()
        reader, wait, recv = self._reader, self._to_hub, self._recv
        while True:
            reader.start(self._switch)
            try:
                wait()
            finally:
                reader.stop()
            try:
                data: bytes = recv(size)
            except BlockingIOError:
                continue
            self.bytes_in += len(data)
            return data

    def _wait_until_writable(self, deadline: float | None) -> float:
        """Wait; returns the deadline that applies, also for the next wait of the same sending."""
        if deadline is None:
            deadline = monotonic() + self._patience
        self._deadline = deadline
        if deadline < self._fires_at:
            self._start_timer()
        if self._writer is None:
            self._writer = self._hub.loop.io(self.socket.fileno(), _WRITE)
        self._writer.start(self._switch)
        try:
            self._to_hub()
        finally:
            self._writer.stop()
        return deadline

    @property
    def waiting(self) -> bool:
        """Whether the connection's greenlet waits here."""
        return bool(self._reader.active or (self._writer is not None and self._writer.active))

    def interrupt(self) -> None:
        """End the greenlet's wait with Interrupted; only while it is `waiting`, from the hub."""
        greenlet.throw(self.greenlet, Interrupted())

    # One timer serves all waits: moving the deadline away costs an assignment, and the timer
    # finds out when it fires. gevent.Timeout would cost 3 µs for each read.

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
        self._fires_at = min(self._deadline, self._last_moment)
        self._timer = self._hub.loop.timer(max(self._fires_at - monotonic(), 0.0))
        self._timer.start(self._alarm, update=True)

    def _alarm(self) -> None:
        """Runs in the hub."""
        self._fires_at = _FAR_AWAY
        if not self.waiting:
            return  # the next wait starts the timer again
        if min(self._deadline, self._last_moment) > monotonic():
            self._start_timer()
        else:
            greenlet.throw(self.greenlet, TimeoutError(errno.ETIMEDOUT, "timed out"))

    # Reading TLS

    def _receive_tls(self, size: int, deadline: float) -> bytes:
        tls = self._tls
        assert tls is not None
        self.flush(deadline)
        if self._turns >= READS_PER_TURN:
            # Do this before octets are taken out, so that an exception here can't lose any.
            self._turns = 0
            let_others_run()
        # A command's record is small, so read little: see MAX_PLAIN in `protocol`.
        raw_size = size if size < _RAW_READ else _RAW_READ
        try:
            data = tls.decrypt(size) if tls.has_data() else None
            while data is None:
                self._turns = 0
                tls.received(self.receive(raw_size, deadline, True))
                data = tls.decrypt(size)
                if data is None:
                    self.flush(deadline)  # the answer to a key update
                    raw_size = _RAW_READ
        except ssl.SSLError:
            # RFC 8446 section 6.2: an alert tells the client what was wrong, if there is room.
            with suppress(OSError):
                self.bytes_out += self._send(self._rest + tls.to_send())
            raise
        self._turns += 1
        return data

    # Writing

    def flush(self, deadline: float | None = None) -> None:
        """Send everything unsent; without a *deadline* it may take *patience*."""
        data = self.unsent
        if self._tls is not None:
            if data:
                self.unsent = b""
                self._send_octets(self._tls.encrypt(data), deadline)
            elif self._rest or self._tls.has_to_send:
                self._send_octets(self._tls.to_send(), deadline)
            return
        send = self._send
        while data:
            try:
                sent = send(data)
            except BlockingIOError:
                sent = 0
            self.bytes_out += sent
            if sent == len(data):
                self.unsent = b""
                return
            # Keep the unsent rest if the wait is interrupted: no reply is sent in part.
            self.unsent = data = data[sent:]
            deadline = self._wait_until_writable(deadline)

    def _send_octets(self, data: bytes, deadline: float | None) -> None:
        """Send octets of TLS; otherwise like `flush`."""
        data = self._rest + data
        while data:
            try:
                sent = self._send(data)
            except BlockingIOError:
                sent = 0
            self.bytes_out += sent
            if sent == len(data):
                self._rest = b""
                return
            self._rest = data = data[sent:]
            deadline = self._wait_until_writable(deadline)

    # TLS

    def start_tls(self, channel: TLSChannel, deadline: float) -> None:
        """Shake hands. Raises ssl.SSLError, or EOFError when the client leaves."""
        self.flush(deadline)
        try:
            while not channel.handshake():
                self._send_octets(channel.to_send(), deadline)
                data = self.receive(_RAW_READ, deadline, True)
                if not data:
                    raise EOFError("the client left during the handshake")
                channel.received(data)
        finally:
            # The last flight, or the alert that tells the client what was wrong.
            self._send_octets(channel.to_send(), deadline)
        self._tls = channel

    # The end

    def send_last(self, data: bytes) -> None:
        """Try to send what was written and *data*, without waiting; raises nothing."""
        data, self.unsent = self.unsent + data, b""
        try:
            if self._tls is not None:
                data = self._tls.encrypt(data)
            data, self._rest = self._rest + data, b""
            self.bytes_out += self._send(data)
        except (OSError, ValueError):
            pass

    def linger(self) -> None:
        """Close the sending side, and for a while read and drop what the client still sends.

        Returns at once when nothing waits to be read. Raises nothing but GreenletExit.
        """
        self._last_moment = _FAR_AWAY
        try:
            if self._tls is not None:
                self._tls.say_goodbye()
                self._send(self._tls.to_send())
            if not self._recv(_RAW_READ):
                return
            self.socket.shutdown(stdlib_socket.SHUT_WR)
            deadline = monotonic() + LINGER_SECONDS
            left = LINGER_OCTETS
            while left > 0:
                data = self.receive(_RAW_READ, deadline, True)
                if not data:
                    return
                left -= len(data)
        except (OSError, ValueError, Interrupted):
            pass

    def close(self) -> None:
        """Close the socket and release the watchers. Further calls do nothing."""
        for watcher in (self._reader, self._writer, self._timer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._writer = self._timer = None
        self.socket.close()
