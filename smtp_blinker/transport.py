"""The socket of one connection: waiting under a deadline, reading, buffered writing, TLS.

Nothing here knows SMTP. One greenlet reads and writes; others only `interrupt` it.
"""

from __future__ import annotations

import errno
import socket as stdlib_socket
from time import monotonic
from typing import Any, Final

import gevent
from gevent import get_hub, getcurrent

from .tls import TLSChannel

#: Octets that are asked of the socket at once. Freed again before the next wait.
COMMAND_READ: Final = 8 * 1024
CONTENT_READ: Final = 128 * 1024
#: A client that sends and never reads gets its replies written at this many octets: the write
#: then waits for it, under the deadline.
MAX_UNSENT: Final = 64 * 1024
#: Reads that may follow each other without a wait before other greenlets get their turn.
READS_PER_TURN: Final = 16
#: How long, and for how many octets, a closed connection is read on so that the last reply
#: reaches a client that is still sending: closing at once would reset it away.
LINGER_SECONDS: Final = 2.0
LINGER_OCTETS: Final = 1024 * 1024

_READ, _WRITE = 1, 2
_FAR_AWAY: Final = float("inf")


class Interrupted(Exception):
    """Another greenlet ended the wait; the connection looks at its state to see why."""


class Transport:
    """*sock* is a connected, non-blocking gevent socket; `close` closes it.

    `receive` and `flush` raise OSError when the connection breaks, TimeoutError when
    `set_deadline`'s moment passes while they wait, and Interrupted.
    """

    __slots__ = (
        "_deadline",
        "_fires_at",
        "_hub",
        "_out",
        "_pending",
        "_raw",
        "_reader",
        "_recv",
        "_send",
        "_switch",
        "_timer",
        "_tls",
        "_turns",
        "_unsent",
        "_writer",
        "bytes_in",
        "bytes_out",
        "socket",
        "waiting",
    )

    def __init__(self, sock: Any) -> None:
        self.socket = sock
        raw = self._raw = sock._sock
        self._recv = raw.recv
        self._send = raw.send
        hub = self._hub = get_hub()
        self._reader = hub.loop.io(raw.fileno(), _READ)
        self._writer: Any = None
        self._switch = getcurrent().switch
        #: Whether the connection's greenlet waits here.
        self.waiting = False
        self._pending: BaseException | None = None
        # One timer for all waits: moving the deadline away costs an assignment, and the timer
        # finds out when it fires. gevent.Timeout would cost 3 µs for each read.
        self._timer: Any = None
        self._fires_at = _FAR_AWAY
        self._deadline = _FAR_AWAY
        self._tls: TLSChannel | None = None
        self._out: list[bytes] = []
        self._unsent = 0
        self._turns = 0
        self.bytes_in = 0
        self.bytes_out = 0

    # Deadline and interruption

    def set_deadline(self, moment: float) -> None:
        """From now on waits end with TimeoutError at *moment* (`time.monotonic`)."""
        self._deadline = moment
        if moment < self._fires_at:
            self._start_timer(moment)

    def _start_timer(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
        self._fires_at = moment
        self._timer = self._hub.loop.timer(max(moment - monotonic(), 0.0))
        self._timer.start(self._alarm, update=True)

    def _alarm(self) -> None:
        """Runs in the hub."""
        self._fires_at = _FAR_AWAY
        if not self.waiting:
            return  # the next set_deadline starts the timer again
        if self._deadline > monotonic():
            self._start_timer(self._deadline)
        else:
            self._pending = TimeoutError(errno.ETIMEDOUT, "timed out")
            self._switch()

    def interrupt(self) -> None:
        """End the wait of the connection's greenlet, now or the next one, with Interrupted."""
        self._pending = Interrupted()
        self._hub.loop.run_callback(self._wake)

    def _wake(self) -> None:
        if self.waiting and self._pending is not None:
            self._switch()

    def _wait(self, watcher: Any) -> None:
        if self._pending is None:
            self.waiting = True
            watcher.start(self._switch)
            try:
                self._hub.switch()
            finally:
                watcher.stop()
                self.waiting = False
            if self._pending is None:
                return
        exc, self._pending = self._pending, None
        assert exc is not None
        raise exc

    # Reading

    def receive(self, size: int) -> bytes:
        """Whatever has arrived, *size* octets at most, waiting for the first; b"" at the end."""
        if self._tls is not None:
            return self._receive_tls(size)
        # Waiting first and then reading once is cheaper than a read that fails, a wait, a read.
        while True:
            self._wait(self._reader)
            try:
                data: bytes = self._recv(size)
            except BlockingIOError:
                continue
            self.bytes_in += len(data)
            return data

    def _receive_tls(self, size: int) -> bytes:
        assert self._tls is not None
        while True:
            data = self._tls.decrypt(size)
            self._write_out(self._tls.to_send())  # answers to key updates and alerts
            if data is not None:
                self._turns += 1
                if self._turns >= READS_PER_TURN:
                    self._turns = 0
                    gevent.sleep(0)
                return data
            self._turns = 0
            self._tls.received(self._receive_raw())

    def _receive_raw(self) -> bytes:
        while True:
            self._wait(self._reader)
            try:
                data: bytes = self._recv(CONTENT_READ)
            except BlockingIOError:
                continue
            self.bytes_in += len(data)
            return data

    def receive_now(self, size: int) -> bytes | None:
        """What has arrived already on a plain connection, or None."""
        try:
            data: bytes = self._recv(size)
        except BlockingIOError:
            return None
        self.bytes_in += len(data)
        return data

    # Writing

    def write(self, data: bytes) -> None:
        """Keep *data* for the next `flush`; flushes by itself when much is waiting."""
        self._out.append(data)
        self._unsent += len(data)
        if self._unsent > MAX_UNSENT:
            self.flush()

    def flush(self) -> None:
        """Send everything written."""
        if not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out = []
        self._unsent = 0
        if self._tls is not None:
            self._tls.encrypt(data)
            data = self._tls.to_send()
        self._write_out(data)

    def _write_out(self, data: bytes) -> None:
        while data:
            try:
                sent = self._send(data)
            except BlockingIOError:
                if self._writer is None:
                    self._writer = self._hub.loop.io(self._raw.fileno(), _WRITE)
                self._wait(self._writer)
                continue
            self.bytes_out += sent
            if sent == len(data):
                return
            data = data[sent:]

    def discard_unsent(self) -> None:
        self._out = []
        self._unsent = 0

    # TLS

    def start_tls(self, channel: TLSChannel) -> None:
        """Shake hands. Raises ssl.SSLError, OSError, or EOFError when the client leaves."""
        self.flush()
        try:
            while not channel.handshake():
                self._write_out(channel.to_send())
                data = self._receive_raw()
                if not data:
                    raise EOFError("the client left during the handshake")
                channel.received(data)
        finally:
            # The last flight, or the alert that tells the client what was wrong.
            self._write_out(channel.to_send())
        self._tls = channel

    @property
    def tls(self) -> TLSChannel | None:
        return self._tls

    # The end

    def send_last(self, data: bytes) -> None:
        """Try to send *data* without waiting, whatever happens to it."""
        try:
            if self._tls is not None:
                self._tls.encrypt(data)
                data = self._tls.to_send()
            self.bytes_out += self._send(data)
        except (OSError, ValueError):
            pass

    def linger(self) -> None:
        """Say that nothing more comes, and read on for a while what the client still sends.

        Raises nothing but GreenletExit; returns at once when nothing is waiting to be read.
        """
        try:
            if self._tls is not None:
                self._tls.say_goodbye()
                self._send(self._tls.to_send())
            if not self.receive_now(CONTENT_READ):
                return
            self.socket.shutdown(stdlib_socket.SHUT_WR)
            self.set_deadline(monotonic() + LINGER_SECONDS)
            left = LINGER_OCTETS
            while left > 0:
                data = self._receive_raw()
                if not data:
                    return
                left -= len(data)
        except (OSError, ValueError, Interrupted):
            pass

    def close(self) -> None:
        """Close the socket and release the watchers; more than once is fine."""
        for watcher in (self._reader, self._writer, self._timer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._writer = self._timer = None
        self._fires_at = _FAR_AWAY
        self.socket.close()
