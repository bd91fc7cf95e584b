"""SCRAM: the examples of its RFCs, a client of somebody else's, and what an attacker tries."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st
from support import Client, Witness, running, talking

from smtp_blinker import AuthenticationFailed, Credentials, Reject, ScramKeys, Session, SMTPServer
from smtp_blinker.commands import auth as auth_command
from smtp_blinker.sasl import scram
from smtp_blinker.sasl.exchange import Exchange
from smtp_blinker.sasl.mechanism import Ask, AskKeys, Facts
from smtp_blinker.sasl.saslprep import saslprep
from smtp_blinker.smtp import reply

METHODS = ("SCRAM-SHA-256", "SCRAM-SHA-1")
DIGESTS = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}
KEYS = {
    method: ScramKeys.from_password("pencil", method, iterations=4096, salt=b"salt of a user")
    for method in METHODS
}


def b64(data: bytes | str) -> bytes:
    return base64.b64encode(data.encode() if isinstance(data, str) else data)


def exchange(method: str = "SCRAM-SHA-256") -> Any:
    return Exchange(method, Facts("mx.example"))


def challenge(answer: Any) -> str:
    """The text of a 334."""
    assert answer.code == 334
    return base64.b64decode(answer.text).decode()


def refused(call: Any, *args: Any) -> str:
    with pytest.raises(Reject) as caught:
        call(*args)
    return f"{caught.value.code} {caught.value.enhanced}"


def final(
    first: str,
    server_first: str,
    method: str = "SCRAM-SHA-256",
    password: str = "pencil",
    **changed: Any,
) -> str:
    """client-final-message, made here and not by the library; *changed* are parts of it."""
    digest = DIGESTS[method]
    header, bare = re.fullmatch("(.*?,.*?,)(.*)", first).groups()  # type: ignore[union-attr]
    parts = dict(part.split("=", 1) for part in server_first.split(","))
    salt, count = base64.b64decode(parts["s"]), int(parts["i"])
    salted = hashlib.pbkdf2_hmac(digest, password.encode(), salt, count)
    client_key = hmac.digest(salted, b"Client Key", digest)
    stored_key = hashlib.new(digest, client_key).digest()
    c = changed.get("c", b64(header).decode())
    without_proof = f"c={c},r={changed.get('r', parts['r'])}{changed.get('extension', '')}"
    message = f"{bare},{server_first},{without_proof}".encode()
    signature = hmac.digest(stored_key, message, digest)
    proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
    return f"{without_proof},p={changed.get('p', b64(proof).decode())}"


# The exchanges that the RFCs show


EXAMPLES = {
    # RFC 5802 section 5
    "SCRAM-SHA-1": (
        "QSXCR+Q6sek8bf92",
        b"3rfcNHYJY1ZVvWVs7j",
        "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    # RFC 7677 section 3
    "SCRAM-SHA-256": (
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_the_example_of_the_rfc(method: Any, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    salt, nonce, client_first, server_first, client_final, server_final = EXAMPLES[method]
    monkeypatch.setattr(scram, "new_nonce", lambda: nonce)
    keys = ScramKeys.from_password("pencil", method, 4096, base64.b64decode(salt))
    one = exchange(method)
    if late:
        assert challenge(one.begin(None)) == ""
        question = one.respond(b64(client_first))
    else:
        question = one.begin(b64(client_first))
    assert question == AskKeys("user", method)
    assert challenge(one.answer(keys)) == server_first
    asked = one.respond(b64(client_final))
    assert isinstance(asked, Ask)
    assert asked.is_proved
    auth = asked.credentials
    assert (auth.method, auth.username, auth.password) == (method, "user", None)
    assert (auth.authcid, auth.authzid) == ("user", "")
    assert not auth.validate_password("pencil")
    assert challenge(one.answer("the user")) == server_final
    assert one.user is None
    assert one.respond(b"") is reply.AUTHENTICATED
    assert one.user == "the user"


# A server and a client


class Users:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    def on_scram(self, username: Any, mechanism: Any, session: Session) -> Any:
        assert session.user is None
        return KEYS[mechanism] if username == "user" else None

    def on_auth(self, auth: Credentials, session: Session) -> Any:
        self.asked.append(auth)
        return auth.username if auth.password is None else None


@pytest.fixture
def users() -> Any:
    return Users()


def serving(users: Any, **options: Any) -> Any:
    options = {"auth_methods": METHODS, "on_auth": users.on_auth, **options}
    return running(on_scram=users.on_scram, **options)


def say(client: Client, text: str) -> str:
    return client.cmd(b64(text).decode())


def shown(answer: str) -> str:
    assert answer.startswith("334 ")
    return base64.b64decode(answer[4:], validate=True).decode()


FIRST = "n,,n=user,r=abc"


def begin(client: Client, method: str = "SCRAM-SHA-256", first: Any = FIRST) -> str:
    return shown(client.cmd(f"AUTH {method} {b64(first).decode()}"))


@pytest.mark.parametrize("password", ["pencil", "wrong"])
@pytest.mark.parametrize("method", METHODS)
def test_scramp_as_the_client(method: Any, password: str, users: Any) -> None:
    with serving(users) as server:
        witness = Witness(server)
        client = Client(server)
        assert "AUTH SCRAM-SHA-256 SCRAM-SHA-1" in client.cmd("EHLO me")
        peer = scramp.ScramClient([method], "user", password)
        peer.set_server_first(begin(client, method, peer.get_client_first()))
        answer = say(client, peer.get_client_final())
        if password == "wrong":
            assert answer.startswith("535 5.7.8")
            assert users.asked == []
            assert client.cmd("MAIL FROM:<>").startswith("530")
        else:
            peer.set_server_final(shown(answer))  # which verifies the server's signature
            [live] = server.connections
            assert live.session.user is None
            assert client.cmd("").startswith("235 2.7.0")
            assert live.session.user == "user"
            assert "AUTH" not in client.cmd("EHLO me")
            assert client.message().startswith("250")
        assert witness.one("auth").as_dict() == {
            "id": witness.one("auth").id,
            "method": method,
            "username": "user",
            "success": password == "pencil",
        }


def test_a_password_and_a_name_beyond_ascii_as_scramp_prepares_them(users: Any) -> None:
    keys = ScramKeys.from_password("pä\u00a0ss\u00adwört\u2168", iterations=4096)
    users.on_scram = lambda username, mechanism, session: keys if username == "IX,é=" else None
    with serving(users) as server:
        client = Client(server, hello="EHLO me")
        peer = scramp.ScramClient(["SCRAM-SHA-256"], "I\u00adX,e\u0301=", "pä ssw\u00f6rtIX")
        peer.set_server_first(begin(client, first=peer.get_client_first()))
        peer.set_server_final(shown(say(client, peer.get_client_final())))
        assert client.cmd("").startswith("235")
    assert users.asked[0].username == "IX,é="


# Who may


def test_scram_is_offered_while_there_is_a_hook_for_it() -> None:
    with talking(
        on_auth=lambda auth, session: "me", auth_methods=("PLAIN", *METHODS), hello=None
    ) as client:
        assert "AUTH PLAIN\n" in client.cmd("EHLO me") + "\n"
        assert client.cmd("AUTH SCRAM-SHA-256").startswith("504 5.5.4")
        client.server.on_scram(Users().on_scram)
        assert "AUTH PLAIN SCRAM-SHA-256 SCRAM-SHA-1" in client.cmd("EHLO me")
        assert begin(client)


def test_without_on_auth_there_is_no_scram(users: Any) -> None:
    with talking(on_scram=users.on_scram, auth_methods=METHODS, hello=None) as client:
        assert "AUTH" not in client.cmd("EHLO me")
        assert client.cmd("AUTH SCRAM-SHA-256").startswith("502")


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (None, "535 5.7.8"),
        (AuthenticationFailed("Disabled", data={"status": "401"}), "535 5.7.8 Disabled"),
        (Reject(454, "database is away", "4.7.0"), "454 4.7.0"),
        (RuntimeError("broken"), "451 4.3.0"),
    ],
)
def test_the_verdict_comes_before_the_signature(verdict: Any, said: str, users: Any) -> None:
    def on_auth(auth: Credentials, session: Session) -> None:
        if verdict is not None:
            raise verdict

    with serving(users, on_auth=on_auth) as server:
        witness = Witness(server)
        client = Client(server, hello="EHLO me")
        assert say(client, final(FIRST, begin(client))).startswith(said)
        assert witness.one("auth").success is False
        [live] = server.connections
        assert live.limits.auth_failures == (1 if said[0] == "5" else 0)
        client.ok("NOOP")


@pytest.mark.parametrize("allowed", [False, True])
def test_acting_for_another_is_for_the_program_to_allow(allowed: bool, users: Any) -> None:
    first = "n,a=bo=2Css,n=user,r=abc"

    def on_auth(auth: Credentials, session: Session) -> Any:
        assert auth.authcid == "user"
        return not allowed or auth.authzid == "bo,ss"

    with serving(users, on_auth=on_auth) as server:
        client = Client(server, hello="EHLO me")
        answer = say(client, final(first, begin(client, first=first)))
        assert answer[:3] == ("334" if allowed else "535")


@pytest.mark.parametrize("answer", ["*", "YQ==", "!!!"])
def test_a_client_that_refuses_the_signature_is_not_authenticated(answer: str, users: Any) -> None:
    with serving(users, max_junk_commands=3) as server:
        witness = Witness(server)
        client = Client(server, hello="EHLO me")
        for _ in range(3):
            assert shown(say(client, final(FIRST, begin(client)))).startswith("v=")
            assert client.cmd(answer).startswith("501 5")
            assert client.cmd("MAIL FROM:<>").startswith("530")
        assert [event.success for event in witness.of("auth")] == [False] * 3
        begin(client)
        assert client.cmd("*").startswith("421 4.7.0")  # there is an end of begun exchanges


def test_a_connection_that_ends_inside_is_reported(users: Any) -> None:
    with serving(users) as server:
        witness = Witness(server)
        with Client(server, hello="EHLO me") as client:
            begin(client)
        assert witness.one("auth").success is False
        assert witness.one("auth").username == "user"


# What is refused


@pytest.mark.parametrize(
    "first",
    [
        "", "n", "n,,", "n,,n=user", "n,,r=abc", "n,,n=,r=abc", "n,,n=user,r=", "n,n=user,r=abc",
        "n,,n=us=er,r=abc", "n,,n=us=2cer,r=abc", "n,,n=user,r=a b", "n,,n=user,r=a\x7f",
        "n,,n=user,r=é", "n,,r=abc,n=user", "x,,n=user,r=abc", "n,b=x,n=user,r=abc",
        "n,a=,n=user,r=abc", "n,a=a=b,n=user,r=abc", "n=x,,n=user,r=abc", "y=x,,n=user,r=abc",
        "n,,m=ext,n=user,r=abc", "n,,n=user,r=abc,", "n,,n=user,r=abc,x", "n,,n=user,r=abc,1=x",
        "p=tls-unique,,n=user,r=abc", "p=tls-exporter,,n=user,r=abc", "p,,n=user,r=abc",
        "n,,n=a\nb,r=abc", "n,,n=a\0b,r=abc", "n,,n=\u00ad,r=abc", "n,,n=\u0627a,r=abc",
        "n,,n=\ue000,r=abc", "n,,n=a\u2028b,r=abc", "n,a=a\nb,n=user,r=abc",
        f"n,,n={'a' * 256},r=abc", f"n,,n=user,r={'a' * 1025}", f"n,,n={'a' * 8000},r=abc",
    ],
)  # fmt: skip
def test_a_malformed_first_message_reaches_no_hook(first: str) -> None:
    assert refused(exchange().begin, b64(first)) == "501 5.5.2"


def test_a_first_message_that_is_no_utf8() -> None:
    assert refused(exchange().begin, b64(b"n,,n=\xff,r=abc")) == "501 5.5.2"


@pytest.mark.parametrize(
    ("first", "username"),
    [
        ("y,,n=user,r=abc", "user"),  # the client has channel binding and thinks we have none
        ("n,a=user,n=user,r=abc", "user"),
        ("n,,n=a=2Cb=3Dc=3D2C,r=abc", "a,b=c=2C"),
        ("n,,n=user,r=abc,x=y,z=1=2", "user"),  # RFC 5802 section 5.1: ignored
        ("n,,n=I\u00adX,r=abc", "IX"),  # RFC 4013 section 3
        ("n,,n=\u00aa,r=abc", "a"),
        (f"n,,n={'a' * 255},r=abc", "a" * 255),
    ],
)
def test_names_of_the_first_message(first: str, username: str) -> None:
    one = exchange()
    assert one.begin(b64(first)) == AskKeys(username, "SCRAM-SHA-256")
    server_first = challenge(one.answer(KEYS["SCRAM-SHA-256"]))
    asked = one.respond(b64(final(first, server_first)))
    assert isinstance(asked, Ask)
    assert asked.is_proved
    assert asked.credentials.username == username


def after_first(first: Any = FIRST, keys: Any = KEYS["SCRAM-SHA-256"]) -> Any:
    one = exchange()
    one.begin(b64(first))
    return one, challenge(one.answer(keys))


@pytest.mark.parametrize(
    "message",
    [
        "", "c=biws", "c=biws,r=abc", "r=abc,c=biws,p=YQ==", "c=biws,r=abc,p=", "c=biws,r=abc,p=Y",
        "c=biws,r=abc,p=YQ==", "c=biws,r=abc,p=!!", "c=b,r=abc,p=" + "A" * 43 + "=",
        "c=biws,r=abc,p=" + "A" * 43 + "=,x=y", "\0", "c=biws,r=é,p=YQ==",
    ],
)  # fmt: skip
def test_a_malformed_final_message(message: str) -> None:
    one, _ = after_first()
    assert refused(one.respond, b64(message)) == "501 5.5.2"


@pytest.mark.parametrize(
    ("first", "changed"),
    [
        (FIRST, {"r": "abc"}),
        (FIRST, {"r": "abcX"}),
        (FIRST, {"r": ""}),
        (FIRST, {"c": "eSws"}),  # y,, where n,, was said: somebody changed the first message
        ("y,,n=user,r=abc", {"c": "biws"}),
        (FIRST, {"c": ""}),
        (FIRST, {"p": "A" * 43 + "="}),
        (FIRST, {"password": "pencil "}),
    ],
)
def test_what_proves_nothing(first: Any, changed: dict[str, Any]) -> None:
    one, server_first = after_first(first)
    asked = one.respond(b64(final(first, server_first, **changed)))
    assert isinstance(asked, Ask)
    assert not asked.is_proved


def test_extensions_of_the_final_message_are_signed_and_ignored() -> None:
    one, server_first = after_first()
    asked = one.respond(b64(final(FIRST, server_first, extension=",x=y")))
    assert isinstance(asked, Ask)
    assert asked.is_proved


def test_a_proof_is_good_once() -> None:
    one, server_first = after_first()
    proof = b64(final(FIRST, server_first))
    assert one.respond(proof).is_proved
    other, _ = after_first()
    assert not other.respond(proof).is_proved


def test_the_server_s_nonces_differ() -> None:
    assert len({after_first()[1] for _ in range(50)}) == 50


# Users that aren't there


def test_an_unknown_user_is_answered_as_a_known_one(
    users: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []
    monkeypatch.setattr(scram, "DECOYS", scram.Decoys())
    monkeypatch.setattr(auth_command, "AUTH_FAILURE_DELAY", 0)
    monkeypatch.setattr(
        "smtp_blinker.connection.client.Client.pause", lambda self, seconds: pauses.append(seconds)
    )
    with serving(users) as server:
        answers: dict[str, list[Any]] = {"user": [], "nobody": [], "somebody": []}
        for _ in range(2):
            for name, seen in answers.items():
                first = f"n,,n={name},r=abc"
                client = Client(server, hello="EHLO me")
                server_first = begin(client, first=first)
                answer = say(client, final(first, server_first, password="wrong"))
                parts = dict(part.split("=", 1) for part in server_first.split(","))
                seen.append((base64.b64decode(parts["s"]), parts["i"], len(parts["r"]), answer))
                client.close()
    assert len(pauses) == 6
    for seen in answers.values():
        assert seen[0] == seen[1]  # the salt too
    assert len({seen[0][0] for seen in answers.values()}) == 3
    assert len({(len(seen[0][0]), *seen[0][1:]) for seen in answers.values()}) == 1
    assert users.asked == []


def test_decoys_are_the_same_for_the_same_secret() -> None:
    secret = bytes(range(16))
    decoy = ScramKeys.decoy("nobody", "SCRAM-SHA-256", secret)
    assert decoy == ScramKeys.decoy("nobody", "SCRAM-SHA-256", bytes(range(16)))
    others = [
        ScramKeys.decoy("somebody", "SCRAM-SHA-256", secret),
        ScramKeys.decoy("nobody", "SCRAM-SHA-1", secret),
        ScramKeys.decoy("nobody", "SCRAM-SHA-256", bytes(16)),
    ]
    assert len({one.salt for one in (decoy, *others)}) == 4
    longer = ScramKeys.decoy("nobody", "SCRAM-SHA-256", secret, 5000, 24)
    assert (longer.iterations, len(longer.salt)) == (5000, 24)
    with pytest.raises(ValueError, match="secret must have at least 16 octets, not 3"):
        ScramKeys.decoy("nobody", "SCRAM-SHA-256", b"abc")
    with pytest.raises(ValueError, match="mechanism is one of"):
        ScramKeys.decoy("nobody", "PLAIN", secret)


def test_the_keys_of_an_unknown_user_open_nothing() -> None:
    decoy = scram.DECOYS.keys("SCRAM-SHA-256", "nobody")
    assert decoy.fits("SCRAM-SHA-256")
    assert scram.DECOYS.keys("SCRAM-SHA-1", "nobody").fits("SCRAM-SHA-1")
    assert scram.DECOYS.keys("SCRAM-SHA-1", "nobody").salt != decoy.salt
    assert scram.Decoys().keys("SCRAM-SHA-256", "nobody").salt != decoy.salt
    one, server_first = after_first("n,,n=nobody,r=abc", None)
    assert not one.respond(b64(final("n,,n=nobody,r=abc", server_first))).is_proved


def test_guesses_are_counted(users: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_command, "AUTH_FAILURE_DELAY", 0)
    with serving(users, max_auth_failures=2) as server:
        client = Client(server, hello="EHLO me")
        for name in ("user", "nobody"):
            first = f"n,,n={name},r=abc"
            answer = say(client, final(first, begin(client, first=first), password="wrong"))
            assert answer.startswith("535")
        assert client.cmd("AUTH SCRAM-SHA-256").startswith("421 4.7.0")


# The hook


@pytest.mark.parametrize(
    "result", [False, "keys", b"keys", {"salt": b""}, KEYS["SCRAM-SHA-1"], ValueError("no")]
)
def test_what_is_no_keys_is_the_program_s_fault(result: Any, users: Any) -> None:
    users.on_scram = lambda username, mechanism, session: result
    with serving(users) as server:
        witness = Witness(server)
        client = Client(server, hello="EHLO me")
        answer = client.cmd(f"AUTH SCRAM-SHA-256 {b64(FIRST).decode()}")
        assert answer.startswith("451 4.3.0")
        assert witness.one("error").code == "HookError"
        client.ok("NOOP")


@pytest.mark.parametrize(("code", "failures"), [(454, 0), (535, 1)])
def test_on_scram_can_refuse(code: int, failures: int, users: Any) -> None:
    def on_scram(username: Any, mechanism: Any, session: Session) -> None:
        raise Reject(code, "not now")

    users.on_scram = on_scram
    with serving(users) as server:
        client = Client(server, hello="EHLO me")
        assert client.cmd(f"AUTH SCRAM-SHA-1 {b64(FIRST).decode()}").startswith(f"{code} ")
        [live] = server.connections
        assert live.limits.auth_failures == failures


def test_on_scram_is_checked_as_other_hooks_are() -> None:
    with pytest.raises(TypeError, match=r"on_scram is called as on_scram\(username, mechanism"):
        SMTPServer(("127.0.0.1", 0), on_scram=lambda username, session: None)  # type: ignore[arg-type, misc]


# Keys


def test_keys_are_those_of_scramp() -> None:
    for method in METHODS:
        mine = ScramKeys.from_password("päss", method, iterations=4096)
        salt, stored_key, server_key, iterations = scramp.ScramMechanism(method).make_auth_info(
            "päss", iteration_count=4096, salt=mine.salt
        )
        assert mine == ScramKeys(salt, iterations, stored_key, server_key)


def test_keys_hide_what_is_secret() -> None:
    keys = KEYS["SCRAM-SHA-256"]
    assert repr(keys) == "ScramKeys(salt=b'salt of a user', iterations=4096)"


def test_passwords_get_a_salt_of_their_own() -> None:
    one, other = (ScramKeys.from_password("pencil", iterations=1) for _ in range(2))
    assert one.salt != other.salt
    assert len(one.salt) == 16
    assert one.fits("SCRAM-SHA-256")
    assert not one.fits("SCRAM-SHA-1")


@pytest.mark.parametrize(
    ("password", "mechanism"),
    [("", "SCRAM-SHA-256"), ("\u00ad", "SCRAM-SHA-256"), ("a\nb", "SCRAM-SHA-256"),
     ("\U0001f511", "SCRAM-SHA-256"), ("x" * 1025, "SCRAM-SHA-256"), ("pencil", "SCRAM-MD5")],
)  # fmt: skip
def test_passwords_that_have_no_keys(password: str, mechanism: str) -> None:
    with pytest.raises(ValueError, match=r"^(?!.*(\n|xxx))"):
        ScramKeys.from_password(password, mechanism)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"salt": b""}, ValueError), ({"salt": "salt"}, TypeError),
        ({"salt": b"x" * 1025}, ValueError),
        ({"iterations": 0}, ValueError), ({"iterations": True}, TypeError),
        ({"iterations": 2**31}, ValueError), ({"iterations": 4096.0}, TypeError),
        ({"stored_key": b"x"}, ValueError), ({"server_key": b"x" * 20}, ValueError),
        ({"stored_key": "x" * 32}, TypeError), ({"server_key": None}, TypeError),
    ],
)  # fmt: skip
def test_what_can_not_be_keys(changed: dict[str, Any], fault: Any) -> None:
    values = {"salt": b"salt", "iterations": 4096, "stored_key": b"x" * 32, "server_key": b"y" * 32}
    with pytest.raises(fault):
        ScramKeys(**{**values, **changed})


# SASLprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # RFC 4013 section 3
        ("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX"),
        ("a\u3000b", "a b"), ("\u0627\u0628", "\u0627\u0628"), ("\u06271\u0628", "\u06271\u0628"),
    ],
)  # fmt: skip
def test_saslprep(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u06271", "\u0627a\u0628", "\ue000", "\ufffd", "é\0"])
def test_what_saslprep_prohibits(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(a|text) "):
        saslprep(text)


@given(st.text(max_size=40))
def test_saslprep_agrees_with_scramp(text: str) -> None:
    from scramp.utils import saslprep as theirs

    try:
        expected = theirs(text)
    except scramp.ScramException:
        with pytest.raises(ValueError, match=r"^(a|text) "):
            saslprep(text)
    else:
        assert saslprep(text) == expected
