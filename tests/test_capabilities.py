"""What a session is offered: no socket, no server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from smtp_blinker.commands.capabilities import Capabilities
from smtp_blinker.hooks import Hooks
from smtp_blinker.options import make_options
from smtp_blinker.session import Session


def capabilities(
    *, certificate: bool = True, hook: bool = True, **options: Any
) -> tuple[Capabilities, Session]:
    session = Session()
    session.remote_address = "192.0.2.1"
    hooks = Hooks()
    if hook:
        hooks.set("on_auth", lambda auth, session: "me")
    contexts: Any = SimpleNamespace(loaded=certificate)
    made = make_options(options)
    session.disabled_commands = made.disabled_commands
    return Capabilities(made, hooks, contexts, session), session


def test_starttls_is_for_sessions_in_clear_where_there_is_a_certificate() -> None:
    has, session = capabilities()
    assert has.starttls
    session.secure = True
    assert not has.starttls
    assert not capabilities(certificate=False)[0].starttls
    assert not capabilities(extensions=["AUTH"])[0].starttls
    assert not capabilities(disabled_commands=["starttls"])[0].starttls


def test_auth_waits_for_starttls_where_that_is_offered_and_no_longer() -> None:
    has, session = capabilities()
    assert has.auth
    assert has.auth_needs_tls
    session.secure = True
    assert has.auth
    assert not has.auth_needs_tls
    assert not capabilities(certificate=False)[0].auth_needs_tls
    assert not capabilities(allow_insecure_auth=True)[0].auth_needs_tls


def test_auth_needs_somebody_to_ask_and_a_mechanism() -> None:
    assert not capabilities(hook=False)[0].auth
    assert not capabilities(auth_methods=[])[0].auth
    assert not capabilities(disabled_commands=["AUTH"])[0].auth


@pytest.mark.parametrize("own", [["auth"], {"AUTH"}, "AUTH"])
def test_the_session_s_own_disabled_commands_replace_the_option(
    own: list[str] | set[str] | str,
) -> None:
    has, session = capabilities(disabled_commands=["VRFY"])
    assert has.disabled == {"VRFY"}
    session.disabled_commands = own
    assert has.disabled == {"AUTH"}
    assert not has.auth


@pytest.mark.parametrize("verb", ["XCLIENT", "XFORWARD"])
def test_forwarding_goes_by_the_peer_whoever_the_client_has_become(verb: str) -> None:
    has, session = capabilities(**{f"use_{verb.lower()}": ["192.0.2.1"]})  # type: ignore[arg-type]
    session.remote_address = "198.51.100.7"
    assert has.forwarding(verb)
    assert not has.forwarding({"XCLIENT": "XFORWARD", "XFORWARD": "XCLIENT"}[verb])
    has.peer = "198.51.100.7"
    assert not has.forwarding(verb)


def test_nobody_forwards_after_xclient_has_named_the_client() -> None:
    has, session = capabilities(use_xclient=True, use_xforward=True)
    session.xclient["ADDR"] = "198.51.100.7"
    assert not has.forwarding("XCLIENT")
    assert not has.forwarding("XFORWARD")
