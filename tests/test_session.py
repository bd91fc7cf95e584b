"""What a program sees of a client: Session, Envelope, Address, Credentials."""

from __future__ import annotations

import hmac
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_blinker import Address, Credentials, Envelope, Session
from smtp_blinker.session import RecipientDSN


def session(**attributes: Any) -> Any:
    made = Session(lmtp=attributes.pop("lmtp", False))
    made.opening_command = "EHLO"
    made.host_name_appears_as = "client.example"
    made.remote_address = "192.0.2.1"
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def test_id_has_sixteen_characters_of_base_32_and_is_new_each_time() -> None:
    ids = {Session().id for _ in range(200)}
    assert len(ids) == 200
    assert all(re.fullmatch("[a-z2-7]{16}", one, re.IGNORECASE) for one in ids)


def test_new_session_knows_nothing() -> None:
    made = Session()
    assert (made.transaction, made.user, made.tls, made.servername) == (1, None, None, None)
    assert (made.opening_command, made.host_name_appears_as, made.error) == (None, None, None)
    assert (made.secure, made.proxy, made.xclient, made.xforward) == (False, None, {}, {})
    assert Session(secure=True).secure


def test_program_may_keep_attributes_of_its_own() -> None:
    made: Any = Session()
    made.score = 5
    made.envelope.spam = True
    assert (made.score, made.envelope.spam) == (5, True)
    with pytest.raises(AttributeError):
        _ = Session().score  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"opening_command": "HELO"}, "SMTP"),
        ({"opening_command": "HELO", "secure": True}, "SMTP"),
        ({}, "ESMTP"),
        ({"secure": True}, "ESMTPS"),
        ({"user": "alice"}, "ESMTPA"),
        ({"secure": True, "user": "alice"}, "ESMTPSA"),
        ({"lmtp": True, "opening_command": "LHLO"}, "LMTP"),
        ({"lmtp": True, "opening_command": "LHLO", "secure": True}, "LMTPS"),
        ({"lmtp": True, "opening_command": "LHLO", "secure": True, "user": "a"}, "LMTPSA"),
    ],
)
def test_transmission_type_is_the_word_of_rfc_3848(attributes: dict[str, Any], name: str) -> None:
    assert session(**attributes).transmission_type == name


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({}, "UTF8SMTP"),
        ({"secure": True, "user": "a"}, "UTF8SMTPSA"),
        ({"lmtp": True, "opening_command": "LHLO"}, "UTF8LMTP"),
    ],
)
def test_transmission_type_of_utf8_is_that_of_rfc_6531(
    attributes: dict[str, Any], name: str
) -> None:
    made = session(**attributes)
    made.envelope.smtputf8 = True
    assert made.transmission_type == name


def test_client_hostname_is_looked_up_once_and_falls_back_to_the_address() -> None:
    asked = []

    def look_up() -> str:
        asked.append(1)
        return "mail.example"

    made = session()
    assert made.client_hostname == "[192.0.2.1]"
    made.client_hostname = look_up
    assert made.client_hostname == made.client_hostname == "mail.example"
    assert asked == [1]
    made.client_hostname = lambda: ""
    assert made.client_hostname == "[192.0.2.1]"


def test_new_envelope_is_empty() -> None:
    made = Envelope()
    assert (made.mail_from, made.rcpt_to, made.body_type) == (None, [], "7bit")
    assert (made.smtputf8, made.require_tls, made.size, made.auth) == (False, False, None, None)
    assert (made.dsn.ret, made.dsn.envid) == (None, None)
    assert Envelope().rcpt_to is not made.rcpt_to


def test_address_shows_itself() -> None:
    made = Address("a@example.org", {"SIZE": "1"}, RecipientDSN(("NEVER",)))
    assert (str(made), made.args, made.dsn.notify) == ("a@example.org", {"SIZE": "1"}, ("NEVER",))
    assert "a@example.org" in repr(made)
    assert made == Address("a@example.org", {"SIZE": "1"})
    assert made != Address("a@example.org")
    assert made != "a@example.org"
    assert len({Address("x"), Address("x")}) == 1
    assert Address("").address == ""


def test_what_a_program_writes_into_an_address_stays_there() -> None:
    mine = Address("a@example.org")
    mine.args["SCORE"] = "5"  # type: ignore[index]
    assert Address("b@example.org").args == {}


def test_reprs_show_no_secret() -> None:
    auth = Credentials("PLAIN", "alice", password="hunter2", access_token="token99")
    assert "alice" in repr(auth)
    assert "hunter2" not in repr(auth) + str(auth)
    assert "token99" not in repr(auth) + str(auth)
    assert Session().id in repr(session(id=Session().id)) or repr(session()).startswith("<Session")


def test_password_is_compared() -> None:
    auth = Credentials("PLAIN", "alice", password="sécret")
    assert auth.validate_password("sécret") is True
    assert auth.validate_password("secret") is False
    assert auth.validate_password("") is False


@pytest.mark.parametrize("digest", [False, True])
def test_the_password_of_a_user_who_is_not_there_is_wrong(digest: bool) -> None:
    if digest:
        response = hmac.new(b"", b"<1@mx>", "md5").hexdigest()
        given = {"challenge": "<1@mx>", "challenge_response": response}
    else:
        given = {"password": ""}
    credentials = Credentials("PLAIN", "nobody", **given)
    assert credentials.validate_password({}.get("nobody")) is False  # type: ignore[call-overload]
    assert credentials.validate_password("") is True


def test_mechanism_without_a_password_validates_none() -> None:
    assert not Credentials("XOAUTH2", "alice", access_token="t").validate_password("t")
    assert not Credentials("XCLIENT", "alice").validate_password("")
    assert Credentials("LOGIN", "alice", password="").validate_password("")


def test_cram_md5_validates_by_digest() -> None:
    # The example of RFC 2195 section 2.
    auth = Credentials(
        "CRAM-MD5",
        "tim",
        challenge="<1896.697170952@postoffice.reston.mci.net>",
        challenge_response="b913a602c7eda7a495b4e6e7334d3890",
    )
    assert auth.validate_password("tanstaaftanstaaf")
    assert not auth.validate_password("tanstaaf")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(max_size=40))
def test_no_response_but_the_right_one_validates(password: str, response: str) -> None:
    auth = Credentials("CRAM-MD5", "a", challenge="<1@x>", challenge_response="")
    right = hmac.new(password.encode(), b"<1@x>", "md5").hexdigest()
    auth.challenge_response = response if response.isascii() else ""
    assert auth.validate_password(password) is (auth.challenge_response == right)
    auth.challenge_response = right
    assert auth.validate_password(password)
