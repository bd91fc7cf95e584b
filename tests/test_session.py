"""What a program sees of a client: Session, Envelope, Address, Credentials."""

from __future__ import annotations

import hmac
import re
from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_blinker import Address, Credentials, Envelope, Session
from smtp_blinker.session import RecipientDSN, TLSInfo, header_address


def session(**attributes):
    made = Session(lmtp=attributes.pop("lmtp", False))
    made.opening_command = "EHLO"
    made.host_name_appears_as = "client.example"
    made.remote_address = "192.0.2.1"
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def test_id_has_sixteen_characters_of_base_32_and_is_new_each_time():
    ids = {Session().id for _ in range(200)}
    assert len(ids) == 200
    assert all(re.fullmatch("[a-z2-7]{16}", one, re.IGNORECASE) for one in ids)


def test_new_session_knows_nothing():
    made = Session()
    assert (made.transaction, made.user, made.tls, made.servername) == (1, None, None, None)
    assert (made.opening_command, made.host_name_appears_as, made.error) == (None, None, None)
    assert (made.secure, made.proxy, made.xclient, made.xforward) == (False, None, {}, {})
    assert Session(secure=True).secure


def test_program_may_keep_attributes_of_its_own():
    made = Session()
    made.score = 5
    made.envelope.spam = True
    assert (made.score, made.envelope.spam) == (5, True)
    with pytest.raises(AttributeError):
        _ = Session().score


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
def test_transmission_type_is_the_word_of_rfc_3848(attributes, name):
    assert session(**attributes).transmission_type == name


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({}, "UTF8SMTP"),
        ({"secure": True, "user": "a"}, "UTF8SMTPSA"),
        ({"lmtp": True, "opening_command": "LHLO"}, "UTF8LMTP"),
    ],
)
def test_transmission_type_of_utf8_is_that_of_rfc_6531(attributes, name):
    made = session(**attributes)
    made.envelope.smtputf8 = True
    assert made.transmission_type == name


def test_client_hostname_is_looked_up_once_and_falls_back_to_the_address():
    asked = []

    def look_up():
        asked.append(1)
        return "mail.example"

    made = session()
    assert made.client_hostname == "[192.0.2.1]"
    made.client_hostname = look_up
    assert made.client_hostname == made.client_hostname == "mail.example"
    assert asked == [1]
    made.client_hostname = lambda: ""
    assert made.client_hostname == "[192.0.2.1]"


def received(made, **keywords):
    """The field's value on one line, after checking that it is one field."""
    octets = made.received_header(**{"by": "mx.example", **keywords})
    assert octets.endswith(b"\r\n")
    lines = octets[:-2].split(b"\r\n")
    assert all(line.startswith((b" ", b"\t")) for line in lines[1:])
    assert all(len(line) <= 998 for line in lines)
    assert octets.count(b"\n") == octets.count(b"\r") == len(lines)
    parsed = message_from_bytes(octets + b"\r\nbody\r\n")
    assert parsed.keys() == ["Received"]
    return " ".join(octets.decode().split())


def test_received_header_is_a_trace_line():
    made = session()
    made.client_hostname = "mail.example"
    made.tls = TLSInfo("TLSv1.3", ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256))
    made.secure = True
    made.envelope.rcpt_to.append(Address("b@example.com"))
    text = received(made, message_id="abc")
    assert text.startswith(
        "Received: from client.example (mail.example [192.0.2.1]) by mx.example with ESMTPS"
    )
    assert "id abc" in text
    assert "TLSv1.3" in text
    assert "for <b@example.com>;" in text
    assert re.search(r"; \w{3}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}$", text)


def test_received_header_names_no_recipient_among_several():
    # RFC 5321 section 7.2
    made = session()
    made.envelope.rcpt_to += [Address("b@example.com"), Address("c@example.com")]
    assert "example.com" not in received(made)


def test_received_header_has_the_priority_that_was_asked_for():
    made = session()
    assert "PRIORITY" not in received(made)
    made.envelope.priority = -3
    assert " PRIORITY -3; " in received(made)


def test_received_header_has_a_labels_but_for_smtputf8():
    made = session()
    made.envelope.rcpt_to.append(Address("b@bücher.example"))
    assert "for <b@xn--bcher-kva.example>;" in received(made)
    made.envelope.smtputf8 = True
    assert "for <b@bücher.example>;" in received(made)
    assert " by xn--bro-hoa.example with" in received(made, by="büro.example")


@pytest.mark.parametrize(
    ("address", "without", "with_smtputf8"),
    [
        ("", "", ""),
        ("postmaster", "postmaster", "postmaster"),
        ("A.B@Example.ORG", "A.B@Example.ORG", "A.B@Example.ORG"),
        ('"a@b"@straße.example', '"a@b"@xn--strae-oqa.example', '"a@b"@straße.example'),
        ("b@क्\u200dष.example", "b@xn--11b2ezcw70k.example", "b@क्\u200dष.example"),
        ("b@xn--dmin-zg0y.example", "b@xn--dmin-zg0y.example", "b@xn--dmin-zg0y.example"),
        ("jörg@example.org", "j?rg@example.org", "jörg@example.org"),
        ("a@ü\nX: 1", "a@xn--?x: 1-jva", "a@ü?X: 1"),
        ("a@ü\udc80\u2028", None, "a@ü??"),
    ],
)
def test_header_address_is_ascii_but_for_smtputf8(address, without, with_smtputf8):
    envelope = Envelope()
    written = header_address(address, envelope)
    assert written.isascii()
    assert written.isprintable()
    assert written == without or without is None
    envelope.smtputf8 = True
    assert header_address(address, envelope) == with_smtputf8


def test_received_header_marks_ipv6():
    assert "[IPv6:2001:db8::1]" in received(session(remote_address="2001:db8::1"))


@given(st.text(), st.text(), st.text(), st.text())
def test_nothing_a_client_says_breaks_a_received_header(hello, name, recipient, message_id):
    made = session(host_name_appears_as=hello)
    made.client_hostname = name
    made.envelope.rcpt_to.append(Address(recipient))
    made.envelope.smtputf8 = not recipient.isascii() and recipient.isprintable()
    octets = made.received_header("mx.example", message_id)
    assert octets.count(b"\r\n") == octets.count(b"\n") == octets.count(b"\r")
    assert all(line[:1] in b"\t " for line in octets[:-2].split(b"\r\n")[1:])
    assert octets.startswith(b"Received: from ")


@pytest.mark.parametrize("hello", ["a) by evil (b", "a;b", "a b", 'a"b', "a\\b", "x" * 5000])
def test_client_cannot_forge_clauses(hello):
    made = session(host_name_appears_as=hello)
    text = received(made)
    assert text.count("(") == text.count(")") == 1
    assert text.count(";") == 1
    assert "evil" not in text or "by?evil" in text


def test_new_envelope_is_empty():
    made = Envelope()
    assert (made.mail_from, made.rcpt_to, made.body_type) == (None, [], "7bit")
    assert (made.smtputf8, made.require_tls, made.size, made.auth) == (False, False, None, None)
    assert (made.dsn.ret, made.dsn.envid) == (None, None)
    assert Envelope().rcpt_to is not made.rcpt_to


def test_address_shows_itself():
    made = Address("a@example.org", {"SIZE": "1"}, RecipientDSN(("NEVER",)))
    assert (str(made), made.args, made.dsn.notify) == ("a@example.org", {"SIZE": "1"}, ("NEVER",))
    assert "a@example.org" in repr(made)
    assert made == Address("a@example.org", {"SIZE": "1"})
    assert made != Address("a@example.org")
    assert made != "a@example.org"
    assert len({Address("x"), Address("x")}) == 1
    assert Address("").address == ""


def test_what_a_program_writes_into_an_address_stays_there():
    mine = Address("a@example.org")
    mine.args["SCORE"] = "5"
    assert Address("b@example.org").args == {}


def test_reprs_show_no_secret():
    auth = Credentials("PLAIN", "alice", password="hunter2", access_token="token99")
    assert "alice" in repr(auth)
    assert "hunter2" not in repr(auth) + str(auth)
    assert "token99" not in repr(auth) + str(auth)
    assert Session().id in repr(session(id=Session().id)) or repr(session()).startswith("<Session")


def test_password_is_compared():
    auth = Credentials("PLAIN", "alice", password="sécret")
    assert auth.validate_password("sécret") is True
    assert auth.validate_password("secret") is False
    assert auth.validate_password("") is False


@pytest.mark.parametrize("digest", [False, True])
def test_the_password_of_a_user_who_is_not_there_is_wrong(digest):
    if digest:
        response = hmac.new(b"", b"<1@mx>", "md5").hexdigest()
        given = {"challenge": "<1@mx>", "challenge_response": response}
    else:
        given = {"password": ""}
    credentials = Credentials("PLAIN", "nobody", **given)
    assert credentials.validate_password({}.get("nobody")) is False
    assert credentials.validate_password("") is True


def test_mechanism_without_a_password_validates_none():
    assert not Credentials("XOAUTH2", "alice", access_token="t").validate_password("t")
    assert not Credentials("XCLIENT", "alice").validate_password("")
    assert Credentials("LOGIN", "alice", password="").validate_password("")


def test_cram_md5_validates_by_digest():
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
def test_no_response_but_the_right_one_validates(password, response):
    auth = Credentials("CRAM-MD5", "a", challenge="<1@x>", challenge_response="")
    right = hmac.new(password.encode(), b"<1@x>", "md5").hexdigest()
    auth.challenge_response = response if response.isascii() else ""
    assert auth.validate_password(password) is (auth.challenge_response == right)
    auth.challenge_response = right
    assert auth.validate_password(password)
