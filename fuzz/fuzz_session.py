"""The whole connection: any octets, in any pieces, under many configurations.

The first three octets of an input choose the configuration, the pieces and the program; what
follows is what the client sends. Allowed are well-formed replies and a close. And the pieces
make no difference: cut or whole, the same is said and the same is delivered.
"""

from __future__ import annotations

import re
from typing import Any, Final

from harness import CONTEXT, ENDINGS, Script, Talk, converse, cut, store, take

from smtp_blinker.extensions import DEFAULT_EXTENSIONS
from smtp_blinker.options import AUTH_METHODS, Options
from smtp_blinker.session import Address, Credentials, Session
from smtp_blinker.smtp.reply import AuthenticationFailed, Reject
from smtp_blinker.stream import MessageStream


def _options(**values: Any) -> Options:
    return Options(name="mx.example.com", **values)


OPTIONS: Final = (
    _options(),
    _options(
        auth_optional=True, auth_methods=AUTH_METHODS, extensions=DEFAULT_EXTENSIONS | {"DSN"}
    ),
    _options(auth_methods=AUTH_METHODS, logger=True),
    _options(lmtp=True, bare_newline="normalize"),
    _options(bare_newline="allow", lenient_address_parsing=True, logger=True),
    _options(bare_newline="normalize", size=100),
    _options(size=64, max_recipients=2, max_messages=2, max_command_length=64),
    _options(use_xclient=True, use_xforward=["192.0.2.0/24"], auth_optional=True),
    _options(use_proxy=True, disable_reverse_lookup=True),
    _options(use_proxy=["192.0.2.1"], use_xclient=True, bare_newline={"10.0.0.0/8": "allow"}),
    _options(
        secured=True,
        auth_methods=AUTH_METHODS,
        extensions=DEFAULT_EXTENSIONS | {"DSN", "REQUIRETLS"},
    ),
    _options(lmtp=True, max_errors=3, max_junk_commands=3, disabled_commands=("NOOP", "EXPN")),
    _options(extensions=(), max_auth_failures=0, max_unauthenticated_commands=3),
    _options(reject_oversized=False, size=20, banner="100% ready", helo_response="%s"),
    _options(ssl_context=CONTEXT, auth_methods=AUTH_METHODS, logger=True),
    _options(ssl_context=CONTEXT, allow_insecure_auth=True, use_xclient=True, hide_size=True),
)


def _read_odd(talk: Talk, stream: MessageStream, session: Session) -> str:
    content = b""
    while piece := stream.read(7):
        content += piece + stream.read1(3) + stream.readline(5)
    take(talk, content, session)
    return "queued as été\r\n354 \x1b[0m " + session.id * 40


def _read_lines(talk: Talk, stream: MessageStream, session: Session) -> list[str | Reject | None]:
    take(talk, b"".join(stream), session)
    header = session.received_header(by="mx.example.com", message_id=session.id)
    assert header.endswith(b"\r\n")
    assert b"\n" not in header.replace(b"\r\n\t", b"")[:-2]
    assert b"\r" not in header.replace(b"\r\n\t", b"")[:-2]
    return [None, Reject(450, "later"), "OK"][: len(session.envelope.rcpt_to)]


def _read_little(talk: Talk, stream: MessageStream, session: Session) -> None:
    stream.read(1)
    raise Reject(554, "not that")


def _fail(talk: Talk, stream: MessageStream, session: Session) -> None:
    raise KeyError("a fault of the program's")


def _no_address(address: Address, session: Session) -> None:
    for value in address.args.values():
        assert value is True or str(value).isprintable()
    if address.address.startswith("no"):
        raise Reject(550, f"not {address.address}")
    if address.address.startswith("fault"):
        raise ValueError(address.address)
    if address.address.startswith("bye"):
        raise Reject(421, "enough")
    assert (
        address.address.isprintable() or "\u200c" in address.address or "\u200d" in address.address
    )


def _on_auth(auth: Credentials, session: Session) -> str | None:
    assert auth.username.isprintable()
    if auth.validate_password("secret") or (auth.method == "XCLIENT" and auth.username == "u"):
        return auth.username
    if auth.access_token:
        raise AuthenticationFailed("wrong\ntoken", data={"status": "401"})
    return None


_ON_DATA: Final = (store, _read_odd, _read_lines, _read_little, _fail)


def _hooks(number: int) -> dict[str, Any]:
    hooks: dict[str, Any] = {}
    if number & 16:
        hooks.update(on_mail_from=_no_address, on_rcpt_to=_no_address)
    if number & 32:
        hooks["on_auth"] = _on_auth
    return hooks


def one_input(data: bytes) -> None:
    if len(data) < 3:
        return
    options = OPTIONS[data[0] % len(OPTIONS)]
    # Four ways to end, five ways to read a message, hooks or none.
    number = data[2]
    ending = ENDINGS[number % 4]
    on_data = _ON_DATA[number // 4 % len(_ON_DATA)]
    octets = data[3:]
    hooks = _hooks(number)
    talk = converse(Script(cut(octets, data[1]), ending), options, on_data, **hooks)
    if ending == "reset" or options.ssl_context is not None or data[1] == 0:
        # What came in clear before a handshake is dropped, so there the pieces matter.
        return
    other = converse(Script([octets], ending), options, on_data, **hooks)
    assert _said(talk) == _said(other), "the pieces make a difference"
    assert talk.delivered == other.delivered
    assert talk.envelopes == other.envelopes
    assert talk.reason == other.reason


def _said(talk: Talk) -> bytes:
    """What the server said, but for CRAM-MD5's challenges, each of which is another."""
    return re.sub(rb"334 P[A-Za-z0-9+/=]{40,}", b"334 P", talk.output)
