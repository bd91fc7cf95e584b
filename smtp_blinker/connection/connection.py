"""One connection from accept to close: the blocking command loop.

I/O is outside the `try` that turns exceptions into replies: a lost connection isn't a 451.
"""

from __future__ import annotations

import errno
import ssl
from typing import Final

import gevent
from gevent import GreenletExit, getcurrent

from ..commands.dispatch import answer
from ..session import Envelope
from ..signals import error_code
from ..smtp import reply
from ..smtp.lines import NEED_DATA
from ..smtp.protocol import MAX_PLAIN, Event, Response
from ..smtp.reply import Refusal, Reply
from ..smtp.verbs import State
from ..stream import TruncatedError
from ..turns import let_others_run
from .chunks import ChunkedIncoming
from .client import Client
from .clock import monotonic
from .delivery import deliver, deliver_chunks
from .handshakes import Ended
from .opening import greet, prepare, upgrade
from .tls import tls_failure
from .transport import MAX_UNSENT, Interrupted

#: Octets that are asked of the socket at once while the rest of a command is expected.
COMMAND_READ: Final = 8 * 1024
#: Seconds for which a client's pipelined commands are answered before others get their turn. A few
#: hundred fit into one read. A client that sends one command at a time waits for a turn of every
#: other client with each command, so a turn must cost no more than such a command. A switch to
#: another client costs 0.01 ms.
TURN_SECONDS: Final = 0.00005
#: A client whose line ends with a bare LF gets its reply after this many seconds without an octet.
#: Octets that follow at once still belong to the line.
BARE_NEWLINE_GRACE: Final = 0.2
#: Seconds within which the last reply must be sent.
LAST_REPLY_SECONDS: Final = 5.0
#: Clients of one server that may still send after their last reply. Further connections are closed
#: at once, so a reset may destroy that reply.
MAX_LINGERING: Final = 100

# In CPython 3.11 access to an Enum's members is slow.
_AUTH: Final = State.AUTH
_CHUNKS: Final = State.CHUNKS
_CONTENT: Final = State.CONTENT
_CHUNK: Final = State.CHUNK
_UPGRADE: Final = State.UPGRADE
#: States in which a message is arriving.
_MESSAGE: Final = (State.CONTENT, State.CHUNK, State.CHUNKS)


class Connection(Client):
    """Serves one client in the current greenlet; `run` returns when the connection has ended.

    *sock* is a connected, non-blocking socket, closed by `run`. Other greenlets may call `drain`
    and `kill`, and read `session`, `since`, `messages`, `bytes_in` and `bytes_out`.
    """

    __slots__ = ()

    # For other greenlets

    def drain(self) -> None:
        """End with 421 as soon as no content is arriving and no hook runs, perhaps now."""
        self.draining = True
        gevent.get_hub().loop.run_callback(self._stop_waiting)

    def _stop_waiting(self) -> None:
        """Runs in the hub."""
        if self.transport.waiting and self.protocol.state not in _MESSAGE:
            self.transport.interrupt()

    def kill(self) -> None:
        """End now, also during content or a hook. `on_close` still runs."""
        self.killed = True
        if self.greenlet is not getcurrent():
            gevent.kill(self.greenlet, GreenletExit)

    # Life

    def run(self) -> None:
        reason = "error"
        try:
            reason = self._serve()
        except GreenletExit:
            # Another greenlet's kill ends a session as a shutdown does.
            self._last_words(reply.SHUTTING_DOWN)
            reason = "shutdown"
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            # A bug of the library, or a leftover gevent.Timeout of a hook: the process goes on.
            self._last_words(reply.INTERNAL_ERROR)
            self.report_fault(exc, type(exc).__name__, response_code=421)
        finally:
            self._end(reason)

    def _serve(self) -> str:
        """The session; returns why it ended. Every way an I/O call can fail is handled here."""
        try:
            final, reason = self._talk()
            if final is not None:
                self.session.error = final
                self.send(final)
            deadline = monotonic() + LAST_REPLY_SECONDS
            try:
                self.transport.flush(deadline)
            except Interrupted:
                # The reply must be whole also when the server stops.
                self.transport.flush(deadline)
            self._linger()
            return reason
        except Interrupted:
            return "shutdown"
        except TimeoutError:
            self.detail = f"the client was silent in the state {self.protocol.state.name}"
            self._last_words(reply.TIMED_OUT)
            self._linger()
            return "timeout"
        except ssl.SSLError as exc:
            self.detail = tls_failure(exc)
            self.report_fault(exc, "TLSError")
            return "tls"
        except OSError as exc:
            # Outside a transaction: some clients close without QUIT.
            if self.protocol.state in (State.MAIL, State.RCPT, *_MESSAGE):
                self.report_fault(exc, error_code(exc))
            return "eof" if isinstance(exc, TruncatedError) else "reset"

    def _talk(self) -> tuple[Reply | None, str]:
        """Serve the client up to the last reply; returns it, not sent yet, and the reason."""
        try:
            prepare(self)
            greet(self)
            return None, self._converse()
        except Refusal as refusal:
            self.detail = refusal.reply.text
            self.report_refused("", refusal.reply)
            return refusal.reply, "refused"
        except Ended as ended:
            self.detail = ended.detail
            if ended.fault is not None:
                code = "TLSError" if ended.reason == "tls" else type(ended.fault).__name__
                stage = "handshake" if ended.reason == "tls" else ended.reason
                self.report_fault(ended.fault, code, stage=stage)
            return ended.final, ended.reason
        except Interrupted:
            return reply.SHUTTING_DOWN, "shutdown"

    def _linger(self) -> None:
        """Let the client read the last reply. Meanwhile it doesn't count against max_clients."""
        server = self.server
        server.release(self)
        if server.lingering < MAX_LINGERING:
            server.lingering += 1
            try:
                self.transport.linger()
            finally:
                server.lingering -= 1

    def _last_words(self, final: Reply) -> None:
        """Try to send *final* to the client, without waiting."""
        session = self.session
        session.error = final
        if self.options.use_proxy and session.proxy is None:
            return  # no reply without a header
        if session.tls is None and (
            self.protocol.state is State.UPGRADE or self.options.begins_with_tls
        ):
            return  # the client expects a TLS handshake and no plain text
        self.events.log_reply(final)
        self.transport.send_last(final.wire if self._enhanced else final.plain)

    def _end(self, reason: str) -> None:
        try:
            self.transport.close()
            if self.exchange is not None:
                self.authenticated(self.exchange.method, self.exchange.username, False)
        finally:
            try:
                if self.hooks.on_close is not None:
                    self.call_hook("on_close", self.session)
            except (Refusal, GreenletExit):
                pass  # there is no client to refuse any more; faults were reported
            finally:
                try:
                    self.events.disconnect(self, reason, self.detail)
                finally:
                    # This comes last, because `stop` also waits for the listeners.
                    self.server.release(self)
                    self.server.ended(self)

    # The command loop

    def _converse(self) -> str:
        """Answer commands until one ends the session; returns the reason."""
        while True:
            state = self.step(self.options.socket_timeout)
            if state is _CONTENT:
                deliver(self)
            elif state is _CHUNK:
                deliver_chunks(self, self)
            elif state is _UPGRADE:
                # RFC 3207 section 4: plain text never counts as protected.
                self.protocol.take_all()
                upgrade(self)
            else:
                return "quit"
            if self.close_reason:
                return self.close_reason

    def step(self, patience: float, once: bool = False) -> State:
        """Answer events until the client's next octets aren't a command, or only *once*.

        Returns the state. The next flush sends the replies. *patience* is how many seconds to wait
        for each event. The time is for a whole line: single octets don't extend it. Raises Ended if
        a reply ends the connection.
        """
        protocol, transport = self.protocol, self.transport
        while True:
            if self.draining and protocol.state is not _CHUNKS:
                raise Interrupted  # even if the client has pipelined commands after a message
            if protocol.buffer:
                event = self._pipelined(patience)
            else:
                deadline = monotonic() + patience
                data = transport.receive(MAX_PLAIN, deadline)
                found = protocol.next_event(data)
                if found is NEED_DATA:
                    found = self._wait_for_rest(deadline) if data else self._left()
                event = found
                self.turn_ends = 0.0
            try:
                said = answer(self, event)
            except Refusal as refusal:
                state = self._refused(refusal.reply, event)
            else:
                self.limits.errors = 0
                state = protocol.answered(said)
                if state is not _CHUNK:  # the reply follows when the chunk's octets have arrived
                    # The same as `send`, inlined because a call for each command costs more.
                    if self.events.logs:
                        self.events.log_reply(said)
                    transport.unsent += said.wire if self._enhanced else said.plain
            if state > _AUTH or once:
                return state

    def _pipelined(self, patience: float) -> Event:
        """The next event, after octets have arrived; sometimes lets other greenlets run."""
        event = self.protocol.next_event()
        if event is NEED_DATA:
            self.turn_ends = 0.0
            return self._wait_for_rest(monotonic() + patience)
        now = monotonic()
        if not self.turn_ends:
            self.turn_ends = now + TURN_SECONDS
        elif now > self.turn_ends:
            let_others_run()
            self.turn_ends = monotonic() + TURN_SECONDS
        if len(self.transport.unsent) > MAX_UNSENT:
            self.transport.flush()
        return event

    def _wait_for_rest(self, deadline: float) -> Event:
        """The next event, after a part of its line has arrived."""
        protocol = self.protocol
        while True:
            if self.draining and protocol.state is not _CHUNKS:
                raise Interrupted
            wakes = deadline
            if protocol.ends_with_bare_newline:
                wakes = min(monotonic() + BARE_NEWLINE_GRACE, deadline)
            try:
                data = self.transport.receive(COMMAND_READ, wakes)
            except TimeoutError:
                if wakes == deadline:
                    raise
                return protocol.give_up_line()
            event = protocol.next_event(data) if data else self._left()
            if event is not NEED_DATA:
                return event

    def _left(self) -> Event:
        """The client sends no more: the event for its unfinished line, or raises."""
        protocol = self.protocol
        if protocol.ends_with_bare_newline:
            return protocol.give_up_line()  # half closed: the client still gets the reply
        if protocol.state is _CHUNKS:
            raise TruncatedError(errno.ECONNABORTED, "the client left inside a message")
        raise Ended("eof")

    def _refused(self, refusal: Reply, event: Event) -> State:
        """Answer *event* with *refusal*; returns the state after it.

        Raises Ended if the connection ends with it.
        """
        argument = self.mechanism
        if not isinstance(event, Response) and event.verb is self.verb:  # not inside AUTH
            argument = event.argument
        if self.verb is not None and self.verb.name == "RCPT":
            refusal = self.limits.refused_recipient(refusal)
        said = self.refuse(refusal)
        self.report_refused(argument, said)
        if self.close_reason:
            raise Ended(self.close_reason, said.text, said)
        protocol = self.protocol
        if protocol.chunk_left:
            # RFC 3030 section 2: the octets of a refused chunk are read, and are not commands.
            ChunkedIncoming(self, "allow").discard_chunk()
        self.send(said)
        was = protocol.state
        state = protocol.answered(said)
        if was > state > State.START:
            self.session.envelope = Envelope()  # the refused chunk has ended the transaction
        return state
