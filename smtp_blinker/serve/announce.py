"""What the program prints at its start: where to send mail, and a command to try it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from .settings import Settings
from .values import PROTOCOLS, Listen, without_password

#: The address by which this machine reaches a server that listens on all addresses.
LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def announce(settings: Settings, ports: Sequence[int], page: int | str) -> None:
    """Print where to send mail, and a command to try it.

    *page* is the port of the web page, or text why there is none.
    """
    place = settings.maildir if settings.deliver is None else without_password(settings.deliver)
    bound = []
    for listen, port in zip(settings.listen, ports, strict=True):
        if isinstance(listen.address, tuple):
            listen = Listen(listen.scheme, (listen.address[0], port))
        bound.append(listen)
        protocol = PROTOCOLS[listen.scheme]
        say(f"Listening on {listen} ({protocol}); mail goes to {place}")
    encrypted = settings.self_signed or settings.cert is not None
    if settings.self_signed:
        say(f"Certificate to trust: {os.path.abspath(settings.self_signed_cert)}")
    if not all(is_loopback(listen) for listen in bound):
        if settings.accept_any_auth:
            say("Everyone who reaches this server can log in with any password: --accept-any-auth.")
        if settings.lenient:
            say("Everyone who reaches this server can send faulty mail, as bare LFs: --lenient.")
    if settings.fails_on_demand:
        say("This server fails on demand, to test programs that send mail: --faults, --fault.")
    if settings.users is not None and not encrypted:
        say("Passwords are sent in plain text: give --cert and --key, or --self-signed to try.")
    if not isinstance(page, str):
        announce_page(settings, page)
    elif page:
        say(f"No web page: {page}")
    if not settings.trusted_proxy:  # only the proxy can send there
        say(f"Try: {trial(settings, bound[0], encrypted)}")


def say(line: str) -> None:
    """Print *line*; the program goes on if standard output is closed."""
    try:
        print(line, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # Python would flush it again at exit


def announce_page(settings: Settings, port: int) -> None:
    assert settings.http is not None
    host = str(settings.http.address[0])
    shown = LOOPBACK.get(host, host)
    say(f"Web page: http://{Listen('http', (shown, port))}/")
    if not is_loopback(settings.http) and settings.http_auth is None:
        can = (
            "read and delete the mail"
            if settings.deliver is None
            else "see who connects, and senders and recipients"
        )
        say(f"Everyone who reaches the page can {can}: give --http-auth.")


def is_loopback(listen: Listen) -> bool:
    """Whether only this machine can reach the address."""
    if isinstance(listen.address, str):
        return True  # a UNIX socket
    try:
        return ip_address(listen.address[0]).is_loopback
    except ValueError:
        return listen.address[0] == "localhost"


def trial(settings: Settings, listen: Listen, encrypted: bool) -> str:
    """A shell command that sends a message to *listen* and needs only Python."""
    kind = {"smtp": "SMTP", "smtps": "SMTP_SSL", "lmtp": "LMTP"}[listen.scheme]
    if isinstance(listen.address, str):
        arguments = repr(listen.address.removeprefix("unix:"))
    else:
        host, port = listen.address
        arguments = f"{LOOPBACK.get(host, host)!r}, {port}"
    steps = [f"import smtplib; s = smtplib.{kind}({arguments})"]
    if settings.require_auth:
        if encrypted and kind != "SMTP_SSL":
            steps.append("s.starttls()")
        steps.append("s.login('NAME', 'PASSWORD')")
    recipient = "postmaster" if settings.domain else "me@example.com"
    content = f"To: {recipient}\\nSubject: It works\\n\\nHello"
    steps.append(f"s.sendmail('you@example.com', '{recipient}', '{content}')")
    # The code has no character with a meaning for a shell within double quotes.
    return f'{shlex.quote(sys.executable)} -c "{"; ".join(steps)}"'
