"""One message from after the 354 to its reply (RFC 5321 section 4.1.1.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..session import Address, Envelope
from ..signals import error_code, message
from ..smtp import reply
from ..smtp.reply import Refusal, Reply
from ..stream import MessageStream, PieceSource
from .chunks import ChunkedIncoming, GivenUp, Stepper
from .client import Client
from .clock import monotonic
from .data_result import replies_to
from .incoming import Incoming
from .spool import Spool, SpooledPieces, SpoolFailed


def deliver(client: Client) -> None:
    """Receive one message by DATA and answer it.

    Raises why it can't end: `TruncatedError`, another `OSError`, or `Interrupted`.
    """
    decoder, arrived = client.protocol.start_content()
    _deliver(client, Incoming(client.transport, decoder, arrived, client.options))


def deliver_chunks(client: Client, stepper: Stepper) -> None:
    """The same for a message by BDAT, after its first command; also raises `Ended`."""
    options = client.options
    if client.session.envelope.body_type == "binarymime":
        policy = "allow"  # RFC 3030 section 3: binary content has no lines
    else:
        policy = options.chunk_policy(client.session.remote_address)
    try:
        _deliver(client, ChunkedIncoming(stepper, policy))
    except GivenUp:
        client.incoming = None


def _deliver(client: Client, incoming: Incoming) -> None:
    started = monotonic()
    # A hook may change the envelope; the replies are for the recipients that the server accepted.
    envelope = client.session.envelope
    sender, recipients = envelope.mail_from, list(envelope.rcpt_to)
    client.incoming = incoming
    ask = _ask_policies if client.hooks.on_message else _ask_on_data
    result = ask(client, incoming)
    if not incoming.ended:
        incoming.drain(isinstance(result, Refusal))
    client.incoming = None
    if client.events.logs:
        client.events.log("C: (%s octets of a message)", incoming.byte_length)
    if incoming.lost is not None:
        raise incoming.lost
    client.protocol.end_message(incoming.decoder.rest)
    # RFC 2033 section 4.2: a reply for each recipient, but only one to a chunk that isn't the last.
    lmtp = client.options.lmtp and incoming.is_at_end
    replies, faults = replies_to(result, len(recipients) if lmtp else 1, lmtp)
    for fault in faults:
        client.report_fault(fault, "HookError", response_code=451, hook="on_data")
    if incoming.refusal is not None:
        # The server's own refusal counts, whatever the hook returned.
        replies = (incoming.refusal,) * len(replies)
    reported = _answer(client, replies)
    if reported.code == 250:
        client.messages += 1
    # The client gets its reply before listeners get the event and before the next hook runs.
    try:
        client.transport.flush()
    finally:
        # The message is accepted even if the client has disconnected meanwhile.
        _end_transaction(client, sender, recipients, incoming.byte_length, reported, started)


def _ask_policies(client: Client, incoming: Incoming) -> Any:
    """The same as `_ask_on_data` if policies read the whole message first."""
    client.transport.flush()
    spool = Spool(client.options.spool_memory)
    session = client.session
    try:
        spool.fill(incoming.next_piece)
        for method in client.hooks.on_message:
            with spool.open() as content:
                client.call_policy("on_message", method, content, session)
        edits = session.envelope.header_edits
        return _ask_on_data(client, SpooledPieces(spool, edits, incoming.size_exceeded))
    except SpoolFailed as failed:
        cause = failed.__cause__
        assert cause is not None
        client.report_fault(cause, error_code(cause), response_code=452, spooled=spool.size)
        return Refusal(reply.INSUFFICIENT_STORAGE)
    except Refusal as refusal:
        return Refusal(refusal.reply)
    except ConnectionError:
        return None  # the client has disconnected; `incoming.lost` says so
    finally:
        spool.close()


def _ask_on_data(client: Client, source: PieceSource) -> Any:
    """Call `on_data`; returns its result or the `Refusal` that it raised."""
    on_data = client.hooks.on_data
    if on_data is None:
        return None
    # The client gets its 354 before the hook starts.
    client.transport.flush()
    stream = MessageStream(source)
    try:
        return client.call("on_data", on_data, (stream, client.session))
    except Refusal as refusal:
        return Refusal(refusal.reply)  # its traceback would keep this frame
    finally:
        stream.forget()


def _answer(client: Client, replies: Sequence[Reply]) -> Reply:
    """Write *replies*; returns the one for `message` events: the first positive one, else the
    first."""
    reported: Reply | None = None
    for answer in replies:
        client.limits.errors = 0  # it was one command, also if several recipients were refused
        if answer.code >= 400:
            answer = client.refuse(answer)
        if reported is None or answer.code < 400 <= reported.code:
            reported = answer
        client.send(answer)
    client.limits.message()
    assert reported is not None
    return reported


def _end_transaction(
    client: Client,
    sender: Address | None,
    recipients: Sequence[Address],
    size: int,
    reported: Reply,
    started: float,
) -> None:
    if message.receivers and client.events.hears(message):
        client.events.message(sender, recipients, size, reported, monotonic() - started)
    client.session.transaction += 1
    client.session.envelope = Envelope()
