"""One connection from accept to close: the blocking command loop and everything that blocks.

I/O stands outside the `try` that turns exceptions into replies: a lost connection isn't a 451.
"""

from __future__ import annotations

import logging
import re
import ssl
from functools import lru_cache
from time import monotonic
from typing import Any, Final
from typing import Protocol as TypingProtocol

import gevent
from gevent import GreenletExit, getcurrent

from . import reply
from .auth import Exchange
from .commands import (
    AUTH,
    BDAT,
    COMMANDS,
    MAX_PLAIN,
    Command,
    auth_response,
    forget_before_tls,
    plain_command,
)
from .conduct import Conduct
from .data_result import replies_to
from .hook_timer import HookTimedOut, HookTimer
from .hooks import Hooks, checked
from .offers import Offers
from .options import Options
from .protocol import (
    HTTP_REQUEST,
    NEED_DATA,
    Problem,
    Protocol,
    State,
    is_binary,
    out_of_sequence,
)
from .proxy import ProxyError, parse_proxy_header
from .reply import Refusal, Reject, Reply
from .report import Reporter
from .resolver import ReverseResolver
from .session import Envelope, Session
from .signals import error_code, message, refused
from .stream import MessageStream, TruncatedError
from .tls import SecureContexts, tls_failure
from .transport import MAX_UNSENT, Interrupted, Transport
from .xclient import plain_address

#: Octets that are asked of the socket at once while commands are expected.
COMMAND_READ: Final = 8 * 1024
#: A client whose line ends with a bare LF waits for its answer: when nothing has followed for
#: this many seconds the line is taken to have ended. What follows at once belongs to it still.
BARE_NEWLINE_GRACE: Final = 0.2
#: Seconds that the last reply may take to leave.
LAST_REPLY_SECONDS: Final = 5.0
#: Clients of one server that may still send after their last reply; the connections of more are
#: closed at once, which may reset that reply away.
MAX_LINGERING: Final = 100

#: `Connection.admission` of a peer whose PROXY header is waited for.
UNINTRODUCED: Final = "unintroduced"

#: C0, DEL, C1, and what else ends a line. The rest of what can't be printed is the paths' affair:
#: some scripts' domain names need a ZWNJ.
_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")

# The states that every command looks at: in CPython 3.11 an Enum gives out its members slowly.
_AUTH: Final = State.AUTH
_CONTENT: Final = State.CONTENT

#: RFC 5322 section 2.2, with the blanks before the colon of section 4.5.
_HEADER_FIELD: Final = re.compile(rb"[!-9;-~]+[ \t]*:")

_BROKEN_LINES: Final = {
    Problem.TOO_LONG: reply.LINE_TOO_LONG,
    Problem.RESPONSE_TOO_LONG: reply.RESPONSE_TOO_LONG,
    Problem.BARE_NEWLINE: reply.BARE_NEWLINE,
    Problem.BROKEN_CHUNK: reply.NOT_RECOGNIZED,
    Problem.BINARY: reply.BINARY,
    Problem.HTTP: reply.HTTP_NOT_ALLOWED,
}


class Server(TypingProtocol):
    """What a connection may use of its server; it is also the sender of its signals."""

    options: Options
    hooks: Hooks
    contexts: SecureContexts
    resolver: ReverseResolver
    logger: logging.Logger | None
    connections: set[Connection]

    #: Connections whose client still sends after the last reply.
    lingering: int

    def admit_peer(self, connection: Connection) -> bool:
        """Whether one more peer may be waited for until it sends its PROXY header."""

    def admit(self, connection: Connection) -> Reply | None:
        """Count the connection in; the refusal when there are too many of all or of its address."""

    def release(self, connection: Connection) -> None:
        """Count it out; more than once is fine."""

    def ended(self, connection: Connection) -> None:
        """Take it out of `connections`."""


class _Ended(Exception):
    """The connection ends for *reason*, after the reply *final* or without a word.

    *detail* is a sentence that says more.
    """

    def __init__(self, reason: str, detail: str = "", final: Reply | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.final = final


class Connection:
    """Serves one client in the current greenlet; `run` returns when it is over.

    *sock* is a connected gevent socket, closed by `run`. Other greenlets may call `drain` and
    `kill`, and read `session`, `since`, `messages`, `bytes_in` and `bytes_out`.
    """

    __slots__ = (
        "_auth_demanded",
        "_command",
        "_data_refused",
        "_detail",
        "_enhanced",
        "_greenlet",
        "_killed",
        "_protocol",
        "_refused_recipients",
        "_report",
        "_server",
        "_session_deadline",
        "_stream",
        "_transport",
        "_watched",
        "admission",
        "announced",
        "auth_failures",
        "close_reason",
        "conduct",
        "draining",
        "exchange",
        "first_client",
        "hello_name",
        "hooks",
        "messages",
        "offers",
        "options",
        "real_client",
        "session",
        "since",
        "xforward_used",
    )

    def __init__(self, server: Server, sock: Any, address: Any) -> None:
        options = self.options = server.options
        self.hooks = server.hooks
        self._server = server
        self._greenlet = getcurrent()
        #: When it was accepted, in seconds of `time.monotonic`.
        self.since = monotonic()
        self._session_deadline = (
            float("inf")
            if options.session_timeout is None
            else self.since + options.session_timeout
        )
        self._transport = Transport(sock, options.socket_timeout, self._session_deadline)
        self.session = Session(lmtp=options.lmtp, secure=options.secured)
        self.session.disabled_commands = options.disabled_commands
        _set_addresses(self.session, sock, address)
        self.offers = Offers(options, server.hooks, server.contexts, self.session)
        self._protocol = Protocol(options.max_command_length, "reject")
        self._enhanced = options.enhanced
        self._report = Reporter(server, self.session, server.logger)
        self.conduct = Conduct(options)
        self._refused_recipients = 0
        #: Whether the last refused command was DATA.
        self._data_refused = False
        #: Messages that were answered 250.
        self.messages = 0
        self.draining = False
        self._killed = False
        #: How the server counts it: by this address, or "" where it has none, as UNINTRODUCED
        #: until a PROXY header came, or None for not at all.
        self.admission: str | None = None

        self.exchange: Exchange | None = None
        self.auth_failures = 0
        self._auth_demanded = self.hooks.on_auth is not None and not options.auth_optional
        self._watched = (
            server.logger is not None or self._auth_demanded or bool(options.disabled_commands)
        )
        self.announced: tuple[str, int] | None = None
        self.hello_name: str | None = None
        self.first_client: tuple[Any, ...] | None = None
        self.real_client: tuple[Any, ...] | None = None
        self.xforward_used = False
        self.close_reason: str | None = None
        #: What `disconnect` says beside the reason.
        self._detail = ""
        self._command: Command | None = None

        #: The message that is arriving.
        self._stream: MessageStream | None = None

    @property
    def bytes_in(self) -> int:
        return self._transport.bytes_in

    @property
    def bytes_out(self) -> int:
        return self._transport.bytes_out

    # For other greenlets

    def drain(self) -> None:
        """End with 421 as soon as no content or hook is under way; now, if that is so."""
        self.draining = True
        gevent.get_hub().loop.run_callback(self._stop_waiting)

    def _stop_waiting(self) -> None:
        """Runs in the hub."""
        if self._transport.waiting and self._protocol.state is not State.CONTENT:
            self._transport.interrupt()

    def kill(self) -> None:
        """End now, whatever is under way. `on_close` still runs."""
        self._killed = True
        if self._greenlet is not getcurrent():
            gevent.kill(self._greenlet, GreenletExit)

    @property
    def greenlet(self) -> Any:
        return self._greenlet

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
            # A bug of the library's, or a gevent.Timeout that a hook forgot: the process goes on.
            self._last_words(reply.Reply(421, "Internal error, closing connection", "4.3.0"))
            self._error(exc, type(exc).__name__, response_code=421)
        finally:
            self._end(reason)

    def _serve(self) -> str:
        """The session; returns why it ended. Every way an I/O call can fail is handled here."""
        transport = self._transport
        try:
            try:
                self._prepare()
                self._greet()
                final, reason = None, self._converse()
            except Refusal as refusal:
                final, reason = refusal.reply, "refused"
                self._detail = final.text
                self._report_refused("", final)
            except _Ended as ended:
                final, reason, self._detail = ended.final, ended.reason, ended.detail
            except Interrupted:
                final, reason = reply.SHUTTING_DOWN, "shutdown"
            if final is not None:
                self.session.error = final
                self._send(final)
            deadline = monotonic() + LAST_REPLY_SECONDS
            try:
                transport.flush(deadline)
            except Interrupted:
                transport.flush(deadline)  # a reply is owed whole, also when the server stops
            self._linger()
            return reason
        except Interrupted:
            return "shutdown"
        except TimeoutError:
            self._detail = f"the client was silent in the state {self._protocol.state.name}"
            self._last_words(reply.TIMED_OUT)
            self._linger()
            return "timeout"
        except ssl.SSLError as exc:
            self._detail = tls_failure(exc)
            self._error(exc, "TLSError")
            return "tls"
        except OSError as exc:
            # Outside a transaction this is how rude clients hang up.
            if self._protocol.state in (State.MAIL, State.RCPT, State.CONTENT):
                self._error(exc, error_code(exc))
            return "eof" if isinstance(exc, TruncatedError) else "reset"

    def _linger(self) -> None:
        """Let the client read the last reply. It counts against no limit of clients meanwhile."""
        server = self._server
        server.release(self)
        if server.lingering < MAX_LINGERING:
            server.lingering += 1
            try:
                self._transport.linger()
            finally:
                server.lingering -= 1

    def _last_words(self, final: Reply) -> None:
        """Try to tell the client, without waiting for it."""
        session = self.session
        session.error = final
        if self.options.use_proxy and session.proxy is None:
            return  # nothing is said without a header
        if session.tls is None and (
            self._protocol.state is State.UPGRADE or self.options.begins_with_tls
        ):
            return  # it expects a handshake, and nothing in plain text
        self._report.log_reply(final)
        self._transport.send_last(final.wire if self._enhanced else final.plain)

    def _end(self, reason: str) -> None:
        transport = self._transport
        hook = self.hooks.on_close
        try:
            transport.close()
            if self.exchange is not None:
                self.authenticated(self.exchange.method, self.exchange.username, False)
        finally:
            try:
                if hook is not None:
                    self.call_hook("on_close", self.session)
            except (Refusal, GreenletExit):
                pass  # no client is left to be refused; a fault was reported
            finally:
                try:
                    self._report.disconnect(
                        self.since,
                        self.messages,
                        transport.bytes_in,
                        transport.bytes_out,
                        reason,
                        self._detail,
                    )
                finally:
                    # Last of all: `stop` waits for the listeners too.
                    self._server.release(self)
                    self._server.ended(self)

    # Before the greeting: a Refusal ends the connection

    def _prepare(self) -> None:
        options = self.options
        server = self._server
        session = self.session
        self._report.ignored = session.remote_address in options.ignored_hosts
        if options.use_proxy:
            self._read_proxy_header()
            self._report.ignored = session.remote_address in options.ignored_hosts
        refusal = server.admit(self)
        if refusal is not None:
            raise Refusal(refusal)
        self._protocol.set_policy(options.bare_newline_policy(session.remote_address))
        self._report.log("connection from %s:%s", session.remote_address, session.remote_port)
        if not options.disable_reverse_lookup and session.remote_address:
            session.client_hostname = server.resolver.start(session.remote_address)
        if options.begins_with_tls:
            self._upgrade(self._protocol.take_all())
        if self.hooks.on_connect is not None:
            self.call_hook("on_connect", session)

    def _read_proxy_header(self) -> None:
        """HAProxy's PROXY protocol: nothing is believed, and nothing said, without a header."""
        peer = self.offers.peer
        if peer not in self.options.use_proxy:
            raise _Ended("proxy", f"{peer or 'a UNIX socket'} is not in use_proxy")
        if not self._server.admit_peer(self):
            raise _Ended("refused", "too many peers that have sent no PROXY header")
        timeout = self.options.proxy_timeout
        deadline = monotonic() + timeout
        received = b""
        try:
            while (parsed := parse_proxy_header(received)) is None:
                data = self._transport.receive(COMMAND_READ, deadline)
                if not data:
                    raise _Ended("proxy", "the peer closed before a PROXY header")
                received += data
        except TimeoutError:
            raise _Ended("proxy", f"no PROXY header within {timeout:g} s") from None
        except Interrupted:
            raise _Ended("shutdown") from None
        except ProxyError as exc:
            self._error(exc, "ProxyError", stage="proxy")
            raise _Ended("proxy", f"not a PROXY header: {exc}") from None
        finally:
            self._server.release(self)
        header, length = parsed
        session = self.session
        session.proxy = header
        if header.is_client:
            # Trust goes by who the client is: behind a proxy, all would have the proxy's.
            self.offers.peer = session.remote_address = header.source_address
            session.remote_port = header.source_port
            session.local_address = header.destination_address
            session.local_port = header.destination_port
            session.client_hostname = ""  # "localhost" is who came by a UNIX socket
        self._protocol.receive_data(received[length:])

    def _upgrade(self, begun: bytes = b"") -> None:
        """The TLS handshake, for STARTTLS and for TLS from the first octet.

        *begun* is what of it came with a PROXY header.
        """
        session = self.session
        transport = self._transport
        timeout = self.options.handshake_timeout
        deadline = monotonic() + timeout
        channel = self._server.contexts.channel()
        if begun:
            channel.received(begun)
        try:
            transport.start_tls(channel, deadline)
        except (EOFError, ConnectionError):
            raise _Ended("tls", "the client left during the TLS handshake") from None
        except TimeoutError:
            raise _Ended("tls", f"no TLS handshake within {timeout:g} s") from None
        except ssl.SSLError as exc:
            self._error(exc, "TLSError", stage="handshake")
            raise _Ended("tls", tls_failure(exc)) from None
        except Interrupted:
            raise _Ended("shutdown") from None
        session.secure = True
        session.tls = channel.info
        session.servername = channel.servername
        self._forget()
        self._report.secure()
        if self.hooks.on_secure is not None:
            self.call_hook("on_secure", session)

    def _greet(self) -> None:
        if self.options.greeting_delay:
            deadline = min(monotonic() + self.options.greeting_delay, self._session_deadline)
            try:
                if self._protocol.has_data or self._transport.receive(COMMAND_READ, deadline):
                    self._report_refused("", reply.TALKS_TOO_SOON)
                    raise _Ended("abuse", reply.TALKS_TOO_SOON.text, reply.TALKS_TOO_SOON)
                raise _Ended("eof")
            except TimeoutError:
                # It kept quiet, as RFC 5321 section 4.3.1 wants it.
                if deadline == self._session_deadline:
                    raise
        self._send(self.greeting())

    def greeting(self) -> Reply:
        options = self.options
        kind = "LMTP" if options.lmtp else "ESMTP"
        return _greeting_reply(options.name, kind, options.banner)

    # The command loop

    def _converse(self) -> str:
        """Answer commands until one ends the session; returns the reason."""
        protocol = self._protocol
        transport = self._transport
        timeout = self.options.socket_timeout
        size = min(MAX_PLAIN, self.options.max_command_length)
        enhanced = self._enhanced
        logs = self._report.logs
        state = protocol.state
        while True:
            if self.draining:
                raise Interrupted  # whatever the client has pipelined behind its last message
            if state is _AUTH or protocol.buffer:
                answer = self._answer_line(self._next_line(monotonic() + timeout))
            else:
                deadline = monotonic() + timeout
                data = transport.receive(size, deadline)
                try:
                    command, argument = plain_command(data)
                except LookupError:
                    if not data:
                        raise _Ended("eof") from None
                    protocol.receive_data(data)
                    answer = self._answer_line(self._next_line(deadline))
                else:
                    answer = self._answer(command, argument)
            if logs:
                self._report.log_reply(answer)
            transport.unsent += answer.wire if enhanced else answer.plain
            state = protocol.state
            if state > _AUTH:
                if state is _CONTENT:
                    self._receive_message()
                    if self.close_reason is not None:
                        return self.close_reason
                elif state is State.UPGRADE:
                    # RFC 3207 section 4: what came in plain text is never taken for protected.
                    protocol.take_all()
                    self._upgrade()
                else:
                    return "quit"
                state = protocol.state

    def _next_line(self, deadline: float) -> bytes | Problem:
        """The next line of what has arrived, or of what arrives until *deadline*.

        The deadline is for a whole line: octets that come one at a time don't extend it.
        """
        protocol = self._protocol
        transport = self._transport
        if len(transport.unsent) > MAX_UNSENT:
            transport.flush()
        line = protocol.next_line()
        while line is NEED_DATA:
            if self.draining:
                raise Interrupted
            patience = deadline
            if protocol.ends_with_bare_newline:
                patience = min(monotonic() + BARE_NEWLINE_GRACE, deadline)
            try:
                data = transport.receive(COMMAND_READ, patience)
            except TimeoutError:
                if patience == deadline:
                    raise
                # Nothing shows whether the command has ended, and framing must not depend on
                # time: what comes later is never read as a command.
                self.close_reason = "refused"
                return protocol.drop_bare_line()
            if not data:
                raise _Ended("eof")
            protocol.receive_data(data)
            line = protocol.next_line()
        return line

    def _answer(self, command: Command, argument: str | bytes) -> Reply:
        """The reply to one command; moves the state when it is a positive one.

        An *argument* of octets is looked at first, text has no surprises.
        """
        protocol = self._protocol
        self._command = command
        said = argument
        try:
            if self._watched or self.session.disabled_commands:
                self._watch(command, argument)
            if command.junk:
                self.conduct.junk()
            if isinstance(argument, bytes):
                argument = self._argument(argument, command)
            next_state = command.sequence.get(protocol.state)
            if next_state is None:
                raise Refusal(out_of_sequence(command.verb, protocol.state))
            answer = command.run(self, argument)
        except Refusal as refusal:
            if command.verb == "RCPT":
                refusal = self._count_refused_recipient(refusal)
            self._data_refused = command.verb == "DATA"
            return self._refused(refusal, said)
        if next_state is _AUTH and self.exchange is None:
            next_state = State.READY
        protocol.state = next_state
        self.conduct.errors = 0
        self._data_refused = False
        return answer

    def _answer_line(self, line: bytes | Problem) -> Reply:
        """The reply to what may be no plain command."""
        exchange = self.exchange
        self._command = None if exchange is None else AUTH
        try:
            if isinstance(line, Problem):
                raise self._broken_line(line)
            if exchange is not None:
                self._report.log("C: (a response)")
                try:
                    answer = auth_response(self, exchange, line)
                finally:
                    if self.exchange is None:
                        self._protocol.state = State.READY
                self.conduct.errors = 0
                return answer
            command, argument = self._read_command(line)
        except Refusal as refusal:
            return self._refused(refusal, "" if exchange is None else exchange.method)
        return self._answer(command, argument)

    def _read_command(self, line: bytes) -> tuple[Command, str | bytes]:
        """The command and its argument, as octets where there is something unusual about it."""
        try:
            return plain_command(line + b"\r\n")
        except LookupError:
            pass
        verb, _, octets = line.partition(b" ")
        command = COMMANDS.get(verb.upper())
        if command is None:
            raise self._unrecognized_command(line)
        return command, octets

    def _refused(self, refusal: Refusal, argument: str | bytes) -> Reply:
        """The reply to a refused command. Raises _Ended when the connection ends with it."""
        if self._command is BDAT:
            # Its octets follow at once (RFC 3030 section 2) and can't be told from commands.
            self.close_reason = "refused"
        answer = self._refuse(refusal.reply)
        self._report_refused(argument, answer)
        if self.close_reason is not None:
            raise _Ended(self.close_reason, answer.text, answer)
        return answer

    def _report_refused(self, argument: str | bytes, answer: Reply) -> None:
        if refused.receivers and self._report.hears(refused):
            verb = "" if self._command is None else self._command.verb
            self._report.refused(verb, argument, answer)

    def _count_refused_recipient(self, refusal: Refusal) -> Refusal:
        """*refusal* of a RCPT, or the 421 when there were too many on this connection."""
        self._refused_recipients += 1
        limit = self.options.max_refused_recipients
        if limit is not None and self._refused_recipients > limit:
            return Refusal(reply.TOO_MANY_REFUSED_RECIPIENTS)
        return refusal

    def _refuse(self, refusal: Reply) -> Reply:
        """Count a refusal, and note whether the connection ends with it."""
        refusal = self.conduct.error(refusal)
        self.session.error = refusal
        if refusal.code == 421:
            # RFC 5321 section 3.8: 421 announces the close.
            self.close_reason = "abuse" if refusal in reply.ABUSE else "refused"
        return refusal

    def _broken_line(self, problem: Problem) -> Refusal:
        if self._protocol.state is State.AUTH:
            # RFC 4954 section 4: the exchange is over, the session goes on.
            exchange, self.exchange = self.exchange, None
            self._protocol.state = State.READY
            if exchange is not None:
                self.authenticated(exchange.method, exchange.username, False)
            self.conduct.junk()
        if problem is Problem.BROKEN_CHUNK:
            self.close_reason = "refused"  # as for every BDAT
        elif problem is Problem.BINARY:
            self.close_reason = "abuse"
        self._report.log("C: (%s)", problem.value)
        if self._is_after_refused_data():
            return Refusal(reply.CONTENT_NOT_EXPECTED)
        return Refusal(_BROKEN_LINES[problem])

    def _is_after_refused_data(self) -> bool:
        """Whether the command before was a DATA that was refused; asked once for each line."""
        after, self._data_refused = self._data_refused, False
        return after

    def _unrecognized_command(self, line: bytes) -> Refusal:
        # Not what it was: a client that is out of step may have sent its password.
        self._report.log("C: (an unrecognized command of %d octets)", len(line))
        content = self._is_after_refused_data() or _HEADER_FIELD.match(line)
        if HTTP_REQUEST.fullmatch(line):
            return Refusal(reply.HTTP_NOT_ALLOWED)
        if is_binary(line):
            # A PROXY header of version 2 among them: what follows is no SMTP either.
            self.close_reason = "abuse"
            return Refusal(reply.BINARY)
        if content:
            # The client sends content without a 354. Its next line may be one that we would run.
            return Refusal(reply.CONTENT_NOT_EXPECTED)
        self.conduct.unrecognized()
        return Refusal(reply.NOT_RECOGNIZED)

    def _watch(self, command: Command, argument: str | bytes) -> None:
        """For some servers only: a log of commands, disabled ones, those that wait for AUTH."""
        if self._report.logs:
            self._report.log_command(command.verb, argument)
        if command.verb in self.offers.disabled:
            raise Refusal(reply.NOT_IMPLEMENTED)
        if not self._auth_demanded or self.session.user is not None or not self.offers.auth:
            return
        if command.verb != "AUTH":
            self.conduct.unauthenticated()
        if command.needs_auth:
            if self._protocol.state is State.START:
                raise Refusal(reply.HELLO_FIRST)
            if command.verb == "MAIL" and self.announced is None:
                self.announce()
            text = self.options.auth_required_message or "Authentication required"
            raise Reject(530, text, "5.7.0")

    def _argument(self, octets: bytes, command: Command) -> str:
        """The argument as text. RFC 5321 section 4.1.1: blanks at its end are no part of it."""
        octets = octets.rstrip(b" \t")
        try:
            text = octets.decode("utf-8" if command.utf8 else "ascii")
        except UnicodeDecodeError:
            raise Refusal(reply.NOT_ASCII) from None
        if text and not command.takes_argument:
            raise Refusal(reply.NO_ARGUMENT)
        if _CONTROL.search(text) is not None:
            raise Refusal(reply.CONTROL_CHARACTER)
        return text

    def _forget(self) -> None:
        """RFC 3207 section 4.2: after the handshake the session knows nothing of before."""
        session = self.session
        session.envelope = Envelope()
        session.opening_command = None
        session.host_name_appears_as = self.hello_name = None
        session.user = None
        forget_before_tls(self)
        self._protocol.state = State.START

    # A message

    def _receive_message(self) -> None:
        """RFC 5321 section 4.1.1.4, from after the 354 to the reply."""
        session = self.session
        protocol = self._protocol
        transport = self._transport
        started = monotonic()
        decoder, arrived = protocol.start_content()
        stream = self._stream = MessageStream(transport, decoder, arrived, self.options)
        result: Any = None
        lmtp = self.options.lmtp
        # A hook may change its envelope; what the client was promised stays.
        sender, recipients = session.envelope.mail_from, list(session.envelope.rcpt_to)
        hook = self.hooks.on_data
        if hook is not None:
            # The client has its 354 whatever the hook does before it reads.
            transport.flush()
            try:
                result = self.call_hook("on_data", stream, session)
            except Refusal as refusal:
                result = Refusal(refusal.reply)  # its traceback would hold this frame
        stream.drain()
        self._stream = None
        if stream.lost is not None:
            raise stream.lost
        protocol.end_content(decoder.rest)
        replies, faults = replies_to(result, len(recipients) if lmtp else 1, lmtp)
        for fault in faults:
            self._error(fault, "HookError", response_code=451, hook="on_data")
        if stream.refusal is not None:
            # What the server refuses is refused whatever the hook made of it.
            replies = (stream.refusal,) * len(replies)
        conduct = self.conduct
        told: Reply | None = None
        for answer in replies:
            conduct.errors = 0  # it was one command, however many were refused
            if answer.code >= 400:
                answer = self._refuse(answer)
                self._detail = answer.text if self.close_reason is not None else ""
            if told is None or (answer.code < 400 <= told.code):
                told = answer
            self._send(answer)
        assert told is not None
        conduct.message()
        if told.code == 250:
            self.messages += 1
        # The client has its answer before a listener has its event, or the next hook its turn.
        try:
            transport.flush()
        finally:
            # A client that has gone meanwhile has its message taken all the same.
            if message.receivers and self._report.hears(message):
                self._report.message(
                    sender, recipients, stream.byte_length, told, monotonic() - started
                )
            session.transaction += 1
            session.envelope = Envelope()

    # What commands use (commands.Client)

    def call_hook(self, name: str, *args: Any) -> Any:
        """Call the hook *name*, which is there; the result, checked.

        Raises its own Reject, or a Refusal with 451 when the program is at fault. A connection
        that was lost meanwhile is the caller's to notice.
        """
        hook = getattr(self.hooks, name)
        seconds = self.options.hook_timeout
        timer = None
        if seconds is not None:
            timer = HookTimer(seconds)
            if self._stream is not None:
                self._stream.hook_timer = timer
        try:
            try:
                result = hook(*args)
                return None if result is None else checked(name, result)
            finally:
                # What listeners do about it is not the hook's time.
                if timer is not None:
                    timer.pause()
                    if self._stream is not None:
                        self._stream.hook_timer = None
        except Refusal as refusal:
            # One that the program keeps to raise it again would keep each session it refused.
            raise refusal.with_traceback(None) from None
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            # SystemExit, GreenletExit and gevent.Timeout are no Exception, and a fault here too.
            if self._killed and isinstance(exc, GreenletExit):
                raise
            lost = self._stream is not None and self._stream.lost is not None
            if lost and isinstance(exc, ConnectionError):
                return None  # the stream raised it
            code = "HookTimeout" if isinstance(exc, HookTimedOut) else "HookError"
            answered = None if name == "on_close" else 451
            where = getattr(hook, "__qualname__", type(hook).__qualname__)
            self._error(exc, code, response_code=answered, hook=where)
            raise Refusal(reply.LOCAL_ERROR) from None

    def pause(self, seconds: float) -> None:
        gevent.sleep(seconds)

    def authenticated(self, method: str, username: str | None, success: bool) -> None:
        self._report.auth(method, username, success)

    def announce(self) -> None:
        session = self.session
        self.announced = session.remote_address, session.remote_port
        self._report.connect()

    def client_changed(self) -> None:
        """XCLIENT or XFORWARD named another client: what is for its address counts now."""
        address = self.session.remote_address
        self._protocol.set_policy(self.options.bare_newline_policy(address))
        self._report.ignored = address in self.options.ignored_hosts

    def _send(self, answer: Reply) -> None:
        """Have *answer* leave with the next flush."""
        if self._report.logs:
            self._report.log_reply(answer)
        self._transport.unsent += answer.wire if self._enhanced else answer.plain

    def _error(
        self, exc: BaseException, code: str, *, response_code: int | None = None, **meta: Any
    ) -> None:
        """Tell `error`."""
        meta.setdefault("stage", self._protocol.state.name)
        if self._command is not None:
            meta.setdefault("command", self._command.verb)
        self._report.error(exc, code, response_code, meta)


@lru_cache(maxsize=16)
def _greeting_reply(name: str, kind: str, banner: str | None) -> Reply:
    return Reply(220, f"{name} {kind} {banner}" if banner else f"{name} {kind}")


def _set_addresses(session: Session, sock: Any, address: Any) -> None:
    if isinstance(address, tuple):
        # The system's own spelling of an IPv4 address is the plain one.
        remote = address[0]
        session.remote_address = plain_address(remote) if ":" in remote else remote
        session.remote_port = address[1]
        try:
            local = sock.getsockname()
        except OSError:
            return  # the client is gone already
        session.local_address = plain_address(local[0]) if ":" in local[0] else local[0]
        session.local_port = local[1]
    else:
        # A UNIX socket's peer has no address; it is on this machine.
        session.client_hostname = "localhost"
