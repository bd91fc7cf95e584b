"""A server for each address, bound but not accepting yet."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Sequence
from typing import Any

from smtp_blinker import Reject, SMTPServer
from smtp_blinker.session import Address, Credentials, Session
from smtp_blinker.users import UserFile

from .settings import Settings, Unusable
from .values import UNIX, Listen

#: Mechanisms for a users file, and those that work with any password.
AUTH = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
ANY_AUTH = ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER")


def make_servers(
    settings: Settings,
    users: UserFile | None,
    tls: ssl.SSLContext | None,
    listening: bool = True,
) -> list[SMTPServer]:
    """Make a server for each address. The caller sets its store before it starts.

    With *listening* false they have no listener, because gunicorn opens the sockets.
    """
    try:
        servers = [
            SMTPServer(
                listen.address if listening else None,
                name=settings.name,
                size=settings.size,
                secure=listen.scheme == "smtps",
                lmtp=listen.scheme == "lmtp",
                ssl_context=tls,
                auth_optional=not settings.require_auth,
                max_clients=settings.max_clients,
                max_clients_per_ip=settings.max_clients_per_ip,
                max_recipients=settings.max_recipients,
                use_proxy=trust(settings.trusted_proxy, listen),
                use_xclient=trust(settings.xclient, listen),
                use_xforward=trust(settings.xforward, listen),
                logger=settings.log_level == "debug" or None,
                bare_newline="normalize" if settings.lenient else "reject",
                lenient_address_parsing=settings.lenient,
                allow_insecure_auth=settings.accept_any_auth,
                auth_methods=ANY_AUTH if settings.accept_any_auth else AUTH,
                on_auth=accept_any if settings.accept_any_auth else users,
                on_rcpt_to=recipient_check(settings.domain),
            )
            for listen in settings.listen
        ]
    except (TypeError, ValueError) as exc:
        raise Unusable(str(exc)) from exc
    if users is not None:
        offer_scram(users, servers)
    return servers


def accept_any(credentials: Credentials, session: Session) -> str:
    """A hook `on_auth` that accepts every password."""
    return credentials.username or "anyone"


def offer_scram(users: UserFile, servers: Sequence[SMTPServer]) -> None:
    """Offer SCRAM only if all users have keys, because clients prefer it."""
    for server in servers:
        server.hooks.set("on_scram", users.scram if users.all_have_scram else None)


def trust(names: Sequence[str], listen: Listen) -> bool | list[str]:
    """The trusted clients among *names* at *listen*. A client of a UNIX socket has no address."""
    if isinstance(listen.address, str):
        return UNIX in names
    return [name for name in names if name != UNIX] or False


def recipient_check(domains: Sequence[str]) -> Any:
    """A hook `on_rcpt_to` that refuses recipients outside *domains*; None without domains."""
    if not domains:
        return None
    ours = frozenset(domains)

    def on_rcpt_to(address: Address, session: Session) -> None:
        _, at, domain = address.address.lower().rpartition("@")
        if not at and domain == "postmaster":
            return  # RFC 5321 section 4.5.1
        if not at or domain not in ours:
            raise Reject(550, "Relaying denied", "5.7.1")

    return on_rcpt_to


def bind(settings: Settings, servers: Sequence[SMTPServer]) -> None:
    """Bind all addresses, or none if one fails. Doesn't accept clients yet."""
    for listen, server in zip(settings.listen, servers, strict=True):
        try:
            server.init_socket()
        except OSError as exc:
            close(servers)
            raise Unusable(bind_problem(listen, exc)) from exc


def close(servers: Sequence[SMTPServer]) -> None:
    """Close the sockets of `bind`."""
    for server in servers:
        server.close()


def bind_problem(listen: Listen, exc: OSError, option: str = "--listen") -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"{listen} is in use; stop what listens there or choose another with {option}"
    if exc.errno in {errno.EACCES, errno.EPERM}:
        return (
            f"not allowed to listen on {listen}; run as root (ports below 1024) "
            f"or choose another with {option}"
        )
    # gevent has appended the address to the system's text.
    problem = os.strerror(exc.errno) if exc.errno else str(exc)
    return f"can't listen on {listen}: {problem}; choose another with {option}"
