"""From accept to the greeting, and STARTTLS, after which the session starts again.

A `Refusal` ends the connection, as `Ended` does.
"""

from __future__ import annotations

from typing import Final

from ..commands.forwarding import forget_before_tls
from ..session import Envelope
from ..smtp import reply
from ..smtp.reply import Refusal
from .client import Client
from .clock import monotonic
from .handshakes import Ended, read_proxy_header, shake_hands, use_proxy_header

#: Octets to read from a client that sends before the greeting.
_EARLY_READ: Final = 1024


def prepare(client: Client) -> None:
    options = client.options
    server = client.server
    session = client.session
    client.events.ignored = session.remote_address in options.ignored_hosts
    if options.use_proxy:
        _read_proxy_header(client)
    client.events.begin()
    client.is_restricted = client.is_restricted or client.events.logs
    refusal = server.admit(client)
    if refusal is not None:
        raise Refusal(refusal)
    client.protocol.set_policy(options.bare_newline_policy(session.remote_address))
    client.events.log("connection from %s:%s", session.remote_address, session.remote_port)
    if not options.disable_reverse_lookup and session.remote_address:
        session.client_hostname = server.resolver.start(session.remote_address)
    if options.begins_with_tls:
        upgrade(client, client.protocol.take_all())
    if client.hooks.on_connect is not None:
        client.call_hook("on_connect", session)


def _read_proxy_header(client: Client) -> None:
    peer = client.capabilities.peer
    if peer not in client.options.trust("use_proxy"):
        raise Ended("proxy", f"{peer or 'a UNIX socket'} is not in use_proxy")
    if not client.server.admit_peer(client):
        raise Ended("refused", "too many peers that have sent no PROXY header")
    try:
        header, rest = read_proxy_header(client.transport, client.options.proxy_timeout)
    finally:
        client.server.release(client)
    use_proxy_header(client.session, header)
    # Trust depends on the client's address: all clients of a proxy share the proxy's.
    client.capabilities.peer = client.session.remote_address
    client.events.ignored = client.session.remote_address in client.options.ignored_hosts
    client.protocol.receive_data(rest)


def upgrade(client: Client, begun: bytes = b"") -> None:
    """Do the TLS handshake; *begun* are octets of it that arrived with the PROXY header."""
    session = client.session
    channel = client.server.contexts.channel()
    if begun:
        channel.received(begun)
    shake_hands(client.transport, channel, client.options.handshake_timeout)
    session.secure = True
    session.tls = channel.info
    session.servername = channel.servername
    client.protocol.start_tls()
    # RFC 3207 section 4.2: the session forgets everything from before the handshake.
    session.envelope = Envelope()
    session.opening_command = None
    session.host_name_appears_as = client.forwarded.hello_name = None
    session.user = None
    forget_before_tls(client)
    client.events.secure()
    if client.hooks.on_secure is not None:
        client.call_hook("on_secure", session)


def greet(client: Client) -> None:
    if client.options.greeting_delay:
        deadline = min(monotonic() + client.options.greeting_delay, client.session_deadline)
        try:
            if client.protocol.has_data or client.transport.receive(_EARLY_READ, deadline):
                client.report_refused("", reply.TALKS_TOO_SOON)
                raise Ended("abuse", reply.TALKS_TOO_SOON.text, reply.TALKS_TOO_SOON)
            raise Ended("eof")
        except TimeoutError:
            # The client waited, as RFC 5321 section 4.3.1 requires.
            if deadline == client.session_deadline:
                raise
    client.send(client.greeting())
