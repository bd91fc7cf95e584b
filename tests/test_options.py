"""Options: what each takes, and that a mistake says which option it is about."""

from __future__ import annotations

import logging
import socket
import ssl
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from smtp_blinker import DEFAULT_EXTENSIONS, SMTPServer
from smtp_blinker.options import make_options

#: docs/options.md.
DEFAULTS: dict[str, Any] = {
    "banner": None,
    "helo_response": "%s Nice to meet you, %s",
    "size": 0,
    "reject_oversized": True,
    "hide_size": False,
    "auth_methods": ("PLAIN", "LOGIN"),
    "auth_optional": False,
    "allow_insecure_auth": False,
    "certfile": None,
    "keyfile": None,
    "ca_certs": None,
    "cert_reqs": None,
    "ciphers": None,
    "ssl_context": None,
    "secure": False,
    "needs_upgrade": False,
    "secured": False,
    "sni_options": {},
    "disable_reverse_lookup": False,
    "lmtp": False,
    "extensions": DEFAULT_EXTENSIONS,
    "disabled_commands": frozenset(),
    "resolver": None,
    "greeting_delay": 0,
    "bare_newline": "reject",
    "lenient_address_parsing": False,
    "logger": None,
    "max_clients": None,
    "max_clients_per_ip": None,
    "max_recipients": 1000,
    "max_rcpt_domains": None,
    "max_hold": 7 * 24 * 3600,
    "max_messages": None,
    "max_command_length": 2048,
    "max_unauthenticated_commands": 10,
    "max_errors": 20,
    "max_junk_commands": 100,
    "max_auth_failures": 3,
    "socket_timeout": 60,
    "session_timeout": None,
    "data_timeout": 600,
    "handshake_timeout": 30,
    "proxy_timeout": 5,
    "hook_timeout": None,
    "close_timeout": 30,
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_is_the_documented_one(name: Any) -> None:
    assert getattr(make_options({}), name) == DEFAULTS[name]


def test_trust_options_trust_nobody_by_default() -> None:
    options = make_options({})
    for name in ("use_proxy", "use_xclient", "use_xforward", "ignored_hosts"):
        assert not getattr(options, name)
        assert "127.0.0.1" not in getattr(options, name)


def test_default_name_is_that_of_the_host() -> None:
    assert make_options({}).name == socket.gethostname()


def test_extensions_by_default_are_those_that_promise_nothing() -> None:
    options = make_options({})
    assert set(options.extensions) == set(DEFAULT_EXTENSIONS)
    assert not {"DSN", "REQUIRETLS"} & set(DEFAULT_EXTENSIONS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", 5), ("banner", b"x"), ("helo_response", None), ("auth_required_message", 5),
        ("size", "1"), ("size", 1.5), ("size", True), ("size", None), ("max_clients", "many"),
        ("max_command_length", None), ("max_hold", None), ("max_hold", 1.5), ("max_hold", True),
        ("max_rcpt_domains", "1"), ("max_errors", 1.5), ("socket_timeout", "60"),
        ("socket_timeout", None), ("socket_timeout", True), ("data_timeout", "x"),
        ("hook_timeout", []), ("secure", 1), ("lmtp", "yes"), ("hide_size", None),
        ("disable_reverse_lookup", 0), ("extensions", "SIZE"), ("extensions", None),
        ("extensions", [1]), ("disabled_commands", "AUTH"), ("auth_methods", "PLAIN"),
        ("auth_methods", 5), ("use_proxy", "127.0.0.1"), ("use_proxy", 5), ("use_xclient", None),
        ("use_xforward", "10.0.0.0/8"), ("ignored_hosts", "127.0.0.1"), ("resolver", object()),
        ("bare_newline", None), ("bare_newline", 5), ("logger", "smtp"), ("certfile", 5),
        ("ssl_context", "x"), ("ciphers", 5), ("sni_options", 5),
        ("sni_options", {"a.example": {}}), ("reject_oversized", 1), ("disabled_commands", [1]),
        ("auth_optional", "yes"), ("allow_insecure_auth", 1), ("lenient_address_parsing", 1),
        ("greeting_delay", "1"), ("session_timeout", "1"), ("handshake_timeout", None),
        ("proxy_timeout", None), ("close_timeout", None), ("max_junk_commands", True),
        ("max_errors", "x"),
    ],
)  # fmt: skip
def test_wrong_type_is_a_type_error_that_names_the_option(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        SMTPServer(None, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", ""), ("name", "a\r\nb"), ("banner", "a\nb"), ("helo_response", "\x00"),
        ("helo_response", "%s %s %s"), ("size", -1), ("max_clients", -1), ("max_recipients", 0),
        ("max_hold", 0), ("max_hold", 10**9), ("max_rcpt_domains", 0),
        ("max_command_length", 0), ("max_command_length", -5), ("socket_timeout", -0.1),
        ("socket_timeout", float("nan")), ("socket_timeout", float("inf")), ("data_timeout", -1),
        ("extensions", {"CHUNKS"}),
        ("extensions", DEFAULT_EXTENSIONS - {"8BITMIME"}), ("extensions", ["smtputf8"]),
        ("extensions", {"REQUIRETLS"}), ("extensions", {"SIZ"}),
        ("auth_methods", ["SCRAM-SHA-1-PLUS"]), ("use_proxy", ["nonsense"]),
        ("use_xclient", ["10.0.0.0/99"]), ("ignored_hosts", ["localhost"]),
        ("bare_newline", "strict"), ("bare_newline", {"10.0.0.0/8": "never"}),
        ("bare_newline", {"here": "allow"}), ("cert_reqs", 99), ("secure", True),
        ("needs_upgrade", True), ("keyfile", "key.pem"), ("ca_certs", "ca.pem"),
        ("auth_required_message", "a\r\nb"),
        ("socket_timeout", 0), ("data_timeout", 0), ("session_timeout", 0),
        ("handshake_timeout", 0), ("proxy_timeout", 0.0), ("hook_timeout", 0),
        ("hook_timeout", -0.5), ("greeting_delay", -1), ("auth_methods", ["NOSUCH"]),
        ("sni_options", {"a.example": {"certfile": "x"}}), ("use_xforward", ["300.1.1.1"]),
        ("max_clients_per_ip", 0), ("max_messages", -1), ("max_unauthenticated_commands", -1),
        ("max_auth_failures", -1),
    ],
)  # fmt: skip
def test_wrong_value_is_a_value_error_that_names_the_option(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        SMTPServer(None, **{name: value})


def test_requiretls_needs_something_that_begins_tls() -> None:
    extensions = {"REQUIRETLS"}
    make_options({"extensions": extensions | {"STARTTLS"}})  # the certificate may come later
    make_options({"extensions": extensions, "secured": True})
    make_options({"extensions": extensions, "secure": True, "certfile": "cert.pem"})


def test_options_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        make_options({}).size = 5  # type: ignore[misc]


def test_keywords_are_taken_in_any_case_and_order_of_methods_is_kept() -> None:
    options = make_options(
        {
            "extensions": ["size", "Pipelining"],
            "auth_methods": ["login", "plain", "LOGIN"],
            "disabled_commands": ["vrfy"],
        }
    )
    assert set(options.extensions) == {"SIZE", "PIPELINING"}
    assert list(options.auth_methods) == ["LOGIN", "PLAIN"]
    assert set(options.disabled_commands) == {"VRFY"}


@pytest.mark.parametrize("name", ["use_proxy", "use_xclient", "use_xforward"])
def test_trust_is_everybody_nobody_or_networks(name: str) -> None:
    def trusted(value: Any, address: str) -> bool:
        return address in getattr(make_options({name: value}), name)

    assert trusted(True, "192.0.2.1")
    assert trusted(True, "")
    assert not trusted(False, "192.0.2.1")
    assert not trusted([], "192.0.2.1")
    assert trusted(["192.0.2.1"], "192.0.2.1")
    assert trusted(["192.0.2.0/24", "::1"], "192.0.2.77")
    assert trusted(["192.0.2.7/24"], "192.0.2.77")
    assert trusted({"2001:db8::/32"}, "2001:db8::5")
    assert not trusted(["192.0.2.0/24"], "192.0.3.1")
    assert not trusted(["192.0.2.0/24"], "::1")
    assert not trusted(["192.0.2.0/24"], "")


def test_bare_newline_of_the_smallest_network_counts() -> None:
    options = make_options(
        {
            "bare_newline": {
                "10.0.0.0/8": "allow",
                "10.1.0.0/16": "reject",
                "10.1.2.3": "normalize",
                "2001:db8::/32": "normalize",
            }
        }
    )
    for address, policy in [
        ("10.9.9.9", "allow"),
        ("10.1.9.9", "reject"),
        ("10.1.2.3", "normalize"),
        ("2001:db8::1", "normalize"),
        ("192.0.2.1", "reject"),
        ("::1", "reject"),
        ("", "reject"),
    ]:
        assert options.bare_newline_policy(address) == policy
    assert make_options({"bare_newline": "allow"}).bare_newline_policy("") == "allow"


@pytest.mark.parametrize(
    ("address", "policy"),
    [("10.1.2.3", "reject"), ("192.0.2.1", "normalize"), ("2001:db8::1", "normalize"), ("", "")],
)
def test_chunks_of_networks_that_a_mapping_does_not_name_have_the_default(
    address: str, policy: str
) -> None:
    options = make_options({"chunk_bare_newline": {"10.0.0.0/8": "reject"}})
    assert options.chunk_policy(address) == (policy or "normalize")


def test_certificate_may_be_given_in_one_way_only() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert make_options({"ssl_context": context}).offers_tls
    assert make_options({"certfile": "cert.pem"}).offers_tls
    assert not make_options({}).offers_tls
    with pytest.raises(ValueError, match="certfile"):
        make_options({"ssl_context": context, "certfile": "cert.pem"})
    assert make_options({"ssl_context": context, "secure": True}).secure
    assert make_options({"secured": True}).secured


def test_logger_is_a_logger_or_true() -> None:
    assert make_options({"logger": True}).logger is True
    assert make_options({"logger": logging.getLogger("x")}).logger is logging.getLogger("x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_errors", None), ("max_errors", 0), ("data_timeout", None), ("session_timeout", 5),
        ("socket_timeout", 0.5), ("socket_timeout", 1), ("banner", "hello"), ("hook_timeout", 1),
        ("max_recipients", None), ("max_junk_commands", None), ("max_auth_failures", None),
        ("auth_required_message", "log in"), ("greeting_delay", 0), ("close_timeout", 0),
        ("helo_response", "%s"), ("helo_response", "hi"),
    ],
)  # fmt: skip
def test_good_values_are_kept(name: str, value: float | int | str | None) -> None:
    assert getattr(make_options({name: value}), name) == value
