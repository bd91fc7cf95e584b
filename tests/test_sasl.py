"""SASL exchanges as pure objects: what clients may send, and that only Reject escapes."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_blinker import AuthenticationFailed, Reject
from smtp_blinker.sasl.exchange import MECHANISMS, Exchange, decode_base64
from smtp_blinker.sasl.mechanism import Ask, AskKeys, Facts
from smtp_blinker.smtp.reply import Reply


def b64(octets: Any) -> Any:
    return base64.b64encode(octets)


def exchange(method: Any) -> Any:
    return Exchange(method, Facts("mx.example"))


def challenge(answer: Any) -> Any:
    """The octets of a 334."""
    assert isinstance(answer, Reply)
    assert (answer.code, answer.enhanced) == (334, None)
    return base64.b64decode(answer.text)


def credentials(answer: Any) -> Any:
    """What the program is asked about."""
    assert isinstance(answer, Ask)
    assert answer.is_proved
    return answer.credentials


def refused(call: Any, *args: Any) -> str:
    with pytest.raises(Reject) as caught:
        call(*args)
    return f"{caught.value.code} {caught.value.enhanced}"


def test_plain_with_and_without_an_initial_response() -> None:
    response = b64(b"boss\0alice\0s\xc3\xa9cret")
    with_initial = exchange("PLAIN").begin(response)
    without = exchange("PLAIN")
    assert challenge(without.begin(None)) == b""
    for asked in (with_initial, without.respond(response)):
        auth = credentials(asked)
        assert (auth.method, auth.username, auth.password) == ("PLAIN", "alice", "sécret")
        assert (auth.authcid, auth.authzid) == ("alice", "boss")
        assert auth.validate_password("sécret")


def test_empty_challenge_keeps_its_space() -> None:
    # RFC 4954 section 4
    answer = exchange("PLAIN").begin(None)
    assert isinstance(answer, Reply)
    assert answer.wire == b"334 \r\n"


@pytest.mark.parametrize(
    "response",
    [
        b"", b"alice", b"alice\0secret", b"\0\0", b"\0\0secret", b"a\0b\0c\0d",
        b"\0al\xffce\0secret", b"\0alice\0s\xff", b"\0al\nice\0secret", b"\0al\x00ice\0secret",
        b"x\r\ny\0alice\0secret", "\0al\u2028ice\0secret".encode(),
    ],
)  # fmt: skip
def test_malformed_plain_is_refused(response: bytes) -> None:
    assert refused(exchange("PLAIN").begin, b64(response)) == "501 5.5.2"


def test_login_asks_twice_or_once() -> None:
    asked = exchange("LOGIN")
    assert challenge(asked.begin(None)).lower().startswith(b"user")
    assert challenge(asked.respond(b64(b"alice"))).lower().startswith(b"pass")
    at_once = exchange("LOGIN")
    assert challenge(at_once.begin(b64(b"alice"))).lower().startswith(b"pass")
    for one in (asked, at_once):
        auth = credentials(one.respond(b64(b"secret")))
        assert (auth.method, auth.username, auth.password) == ("LOGIN", "alice", "secret")


@pytest.mark.parametrize("name", [b"", b"a\nb", b"\xff", b"a\0b"])
def test_malformed_login_name_is_refused(name: bytes) -> None:
    one = exchange("LOGIN")
    one.begin(None)
    assert refused(one.respond, b64(name)) == "501 5.5.2"


def test_malformed_login_password_is_refused() -> None:
    for password in (b"!!!", b64(b"\xff"), b64(b"a\0b")):
        one = exchange("LOGIN")
        one.begin(b64(b"alice"))
        assert refused(one.respond, password) == "501 5.5.2"


def test_empty_login_password_reaches_the_program() -> None:
    one = exchange("LOGIN")
    one.begin(b64(b"alice"))
    auth = credentials(one.respond(b""))
    assert auth.password == ""


def test_cram_md5_is_answered_with_a_digest() -> None:
    one = exchange("CRAM-MD5")
    nonce = challenge(one.begin(None))
    assert nonce.startswith(b"<")
    assert nonce.endswith(b"@mx.example>")
    digest = hmac.new(b"secret", nonce, "md5").hexdigest()
    auth = credentials(one.respond(b64(b"alice w " + digest.upper().encode())))
    assert (auth.method, auth.username, auth.password) == ("CRAM-MD5", "alice w", None)
    assert auth.validate_password("secret")
    assert not auth.validate_password("other")


def test_cram_md5_challenges_differ() -> None:
    assert len({challenge(exchange("CRAM-MD5").begin(None)) for _ in range(50)}) == 50


def test_cram_md5_takes_no_initial_response() -> None:
    # RFC 4954 section 4
    for initial in (b64(b"alice 0"), b"="):
        assert refused(exchange("CRAM-MD5").begin, initial) == "501 5.7.0"


@pytest.mark.parametrize(
    "response",
    [b"", b"alice", b"alice 123", b" " + b"0" * 32, b"a " + b"g" * 32, b"\xff " + b"0" * 32],
)
def test_malformed_cram_md5_is_refused(response: bytes) -> None:
    one = exchange("CRAM-MD5")
    one.begin(None)
    assert refused(one.respond, b64(response)) == "501 5.5.2"


def test_xoauth2_brings_a_token() -> None:
    response = b64(b"user=alice@example.org\x01auth=Bearer to.ken==\x01\x01")
    one = exchange("XOAUTH2")
    assert challenge(one.begin(None)) == b""
    for asked in (exchange("XOAUTH2").begin(response), one.respond(response)):
        auth = credentials(asked)
        assert (auth.method, auth.username) == ("XOAUTH2", "alice@example.org")
        assert (auth.access_token, auth.password) == ("to.ken==", None)
        assert not auth.validate_password("to.ken==")


@pytest.mark.parametrize(
    "response",
    [
        b"", b"user=alice", b"user=alice\x01\x01", b"auth=Bearer x\x01\x01",
        b"user=alice\x01auth=Basic x\x01\x01",
        b"user=alice\x01auth=Bearer \x01\x01", b"user=\x01auth=Bearer x\x01\x01",
        b"user=a\nb\x01auth=Bearer x\x01\x01", b"user=\xff\x01auth=Bearer x\x01\x01",
    ],
)  # fmt: skip
def test_malformed_xoauth2_is_refused(response: bytes) -> None:
    assert refused(exchange("XOAUTH2").begin, b64(response)) == "501 5.5.2"


@pytest.mark.parametrize("answer", [b"", b"AQ==", b"*", b"!!!", b"A" * 5000])
def test_xoauth2_failure_waits_for_one_answer(answer: bytes) -> None:
    # RFC 7628 section 3.2.3
    one = exchange("XOAUTH2")
    one.begin(b64(b"user=alice\x01auth=Bearer x\x01\x01"))
    shown = one.refuse(AuthenticationFailed(data={"status": "401"}))
    assert json.loads(challenge(shown)) == {"status": "401"}
    assert refused(one.respond, answer) == "535 5.7.8"


@pytest.mark.parametrize("method", sorted(MECHANISMS))
def test_star_cancels(method: Any) -> None:
    # RFC 4954 section 4
    one = exchange(method)
    one.begin(None)
    assert refused(one.respond, b"*") == "501 5.7.0"


BAD_BASE64 = [
    b"!!!!", b"QQ", b"QQ=", b"QQ===", b"Q", b"=", b"====", b"QUI=QUI=", b"QQ==\n", b" QQ==",
    b"QQ== ", b"QR==", b"AG1lAHB3=", b"QUJ=", b"QU-_", b"\xff\xfe", b"Q\0==", b"**", b"QUFB\rQUFB",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_BASE64)
def test_base64_has_one_form_only(text: Any) -> None:
    assert refused(decode_base64, text) == "501 5.5.2"
    for method in ("PLAIN", "LOGIN", "XOAUTH2"):
        one = exchange(method)
        one.begin(None)
        assert refused(one.respond, text) == "501 5.5.2"
        if text != b"=":
            assert refused(exchange(method).begin, text) == "501 5.5.2"


@given(st.binary(max_size=300))
def test_base64_gives_back_what_was_encoded(octets: bytes) -> None:
    assert decode_base64(b64(octets)) == octets


def test_equals_sign_is_an_empty_initial_response() -> None:
    # RFC 4954 section 4; empty credentials are malformed, not a crash
    for method in ("PLAIN", "LOGIN", "XOAUTH2"):
        assert refused(exchange(method).begin, b"=") == "501 5.5.2"


LINES = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60).map(b64),
    st.lists(st.sampled_from([b"\0", b"a", b"\x01", b"user=", b"auth=Bearer ", b" "])).map(
        lambda parts: b64(b"".join(parts))
    ),
)


@given(
    st.sampled_from(sorted(MECHANISMS)),
    st.one_of(st.none(), LINES),
    st.lists(LINES, max_size=4),
)
def test_whatever_comes_only_reject_escapes(method: Any, initial: Any, lines: Any) -> None:
    one = exchange(method)
    steps = [(one.begin, initial), *((one.respond, line) for line in lines)]
    for step, line in steps:
        try:
            result = step(line)
        except Reject:
            return
        if isinstance(result, Ask | AskKeys):
            name = result.credentials.username if isinstance(result, Ask) else result.username
            assert name or method == "EXTERNAL"
            assert name.isprintable()
            return
        assert result.code == 334
