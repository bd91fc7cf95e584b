"""A file of users and hashed passwords as `on_scram`."""

from __future__ import annotations

import base64
import re
from itertools import pairwise
from pathlib import Path

import pytest
import scramp
from support import talking

from smtp_blinker import Credentials, ScramKeys, Session
from smtp_blinker.users import UserFile, hash_password, set_password

SHA_256 = "SCRAM-SHA-256"


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is written for alice, without the line's end."""
    path = tmp_path_factory.mktemp("users") / "users"
    set_password(path, "alice", "sésame")
    return path.read_text().rstrip("\n")


@pytest.fixture
def path(tmp_path: Path, line: str) -> Path:
    path = tmp_path / "users"
    path.write_text(f"{line}\n")
    return path


def plain(name: str, password: str) -> Credentials:
    return Credentials("PLAIN", name, password=password, authcid=name, authzid="")


def proved(name: str, authzid: str = "") -> Credentials:
    return Credentials(SHA_256, name, authcid=name, authzid=authzid)


def is_decoy(users: UserFile, name: str) -> bool:
    """Whether *name* has another salt for each secret, as no user of the file has."""
    other = UserFile(users.path, secret=b"another secret of the test")
    return users.scram(name, SHA_256, Session()) != other.scram(name, SHA_256, Session())


def test_a_line_has_a_hash_and_keys(line: str) -> None:
    b64 = r"[\w+/]+={0,2}"
    scrypt = rf"scrypt\$16384\$8\$1\${b64}\${b64}"
    assert re.fullmatch(rf"alice:{scrypt} SCRAM-SHA-256\$100000:{b64}\${b64}:{b64}", line)


def test_both_kinds_serve(path: Path) -> None:
    users = UserFile(path)
    keys = users.scram("alice", SHA_256, Session())
    assert keys is not None
    assert keys == ScramKeys.from_password("sésame", SHA_256, keys.iterations, keys.salt)
    assert users.scram("alice", "SCRAM-SHA-1", Session()).fits("SCRAM-SHA-1")
    assert users.scram("bob", SHA_256, Session()).fits(SHA_256)
    assert users(plain("alice", "sésame"), Session()) == "alice"
    assert users(plain("alice", "sesame"), Session()) is None
    assert users(proved("alice"), Session()) == "alice"
    assert users(proved("alice", "alice"), Session()) == "alice"
    assert users(proved("alice", "bob"), Session()) is None
    assert users(proved("bob"), Session()) is None
    assert users(Credentials("EXTERNAL", "alice", authcid="alice"), Session()) is None


def test_lines_of_earlier_versions_have_no_keys(path: Path, line: str) -> None:
    assert UserFile(path).all_have_scram
    path.write_text(f"{line}\nbob:{hash_password('mellon')}\n")
    users = UserFile(path)
    assert not users.all_have_scram
    assert is_decoy(users, "bob")
    assert users(plain("bob", "mellon"), Session()) == "bob"
    set_password(path, "bob", "mellon")
    users.reload()
    assert users.all_have_scram


def test_a_password_that_saslprep_has_no_form_for_gets_no_keys(path: Path) -> None:
    set_password(path, "bob", "\U0001f511 key")
    users = UserFile(path)
    assert users(plain("bob", "\U0001f511 key"), Session()) == "bob"
    assert is_decoy(users, "bob")


def test_keys_of_both_mechanisms_fit_in_a_line(path: Path, line: str) -> None:
    # As scramp, or PostgreSQL, or RFC 5803 has them.
    salt, stored, server, iterations = (
        base64.b64encode(part).decode() if isinstance(part, bytes) else part
        for part in scramp.ScramMechanism("SCRAM-SHA-1").make_auth_info("mellon")
    )
    path.write_text(f"{line}   SCRAM-SHA-1${iterations}:{salt}${stored}:{server}\n")
    keys = UserFile(path).scram("alice", "SCRAM-SHA-1", Session())
    assert keys is not None
    assert keys == ScramKeys.from_password("mellon", "SCRAM-SHA-1", int(iterations), keys.salt)


def with_iterations(line: str, *counts: int) -> str:
    """A file with a user for each of *counts*."""
    return "".join(
        line.replace("alice", f"user{number}", 1).replace("$100000:", f"${count}:") + "\n"
        for number, count in enumerate(counts)
    )


def test_an_unknown_name_keeps_its_salt_over_a_restart_and_a_reload(path: Path) -> None:
    users = UserFile(path)
    before = users.scram("nobody", SHA_256, Session())
    assert UserFile(path).scram("nobody", SHA_256, Session()) == before
    set_password(path, "bob", "mellon")
    users.reload()
    assert users.scram("nobody", SHA_256, Session()) == before
    assert users.scram("somebody", SHA_256, Session()).salt != before.salt
    assert users.scram("nobody", "SCRAM-SHA-1", Session()).salt != before.salt


def test_a_secret_keeps_the_salts_whatever_the_file_has(path: Path) -> None:
    secret = b"0123456789abcdef"
    before = UserFile(path, secret).scram("nobody", SHA_256, Session())
    path.write_text("")
    assert UserFile(path, secret).scram("nobody", SHA_256, Session()) == before
    assert UserFile(path).scram("nobody", SHA_256, Session()) != before
    assert before == ScramKeys.decoy("nobody", SHA_256, secret)
    with pytest.raises(ValueError, match="secret must have at least 16 octets, not 15"):
        UserFile(path, secret[1:])


def test_iterations_are_as_frequent_among_unknown_names_as_among_users(
    path: Path, line: str
) -> None:
    path.write_text(with_iterations(line, *[4096] * 3, 100_000))
    users = UserFile(path, b"0123456789abcdef")
    counts = [users.scram(f"nobody{n}", SHA_256, Session()).iterations for n in range(400)]
    assert set(counts) == {4096, 100_000}
    assert 200 < counts.count(4096) < 380
    again = [users.scram(f"nobody{n}", SHA_256, Session()).iterations for n in range(400)]
    assert again == counts


def test_raised_iterations_move_unknown_names_one_way_only(path: Path, line: str) -> None:
    seen: list[list[int]] = []
    for new in range(5):
        path.write_text(with_iterations(line, *[4096] * (4 - new), *[100_000] * new))
        users = UserFile(path, b"0123456789abcdef")
        seen.append([users.scram(f"n{n}", SHA_256, Session()).iterations for n in range(100)])
    assert set(seen[0]) == {4096}
    assert set(seen[4]) == {100_000}
    assert all(
        before <= after
        for early, late in pairwise(seen)
        for before, after in zip(early, late, strict=True)
    )


KEY = base64.b64encode(b"SECRET" * 5 + b"!!").decode()


@pytest.mark.parametrize(
    "keys",
    [
        f"SCRAM-SHA-256$4096:c2FsdA==${KEY}",
        f"SCRAM-SHA-512$4096:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-1$4096:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$0:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$-1:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$9999999999:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$4096:c2FsdA=!${KEY}:{KEY}",
        f"SCRAM-SHA-256$4096:c2FsdA==${KEY}:U0VDUkVU",
        f"SCRAM-SHA-256$4096:c2FsdA==${KEY}:{KEY} SCRAM-SHA-256$4096:c2FsdA==${KEY}:{KEY}",
        KEY,
    ],
)
def test_a_line_with_broken_keys_is_named_not_shown(path: Path, line: str, keys: str) -> None:
    users = UserFile(path)
    path.write_text(f"# comment\n{line.split()[0]} {keys}\n")
    with pytest.raises(ValueError, match="users, line 2: ") as raised:
        users.reload()
    said = str(raised.value).removeprefix(str(path))
    assert KEY[:8] not in said
    assert "U0VD" not in said
    assert users.all_have_scram  # as before


@pytest.mark.parametrize("password", ["sésame", "sesame"])
def test_a_client_logs_in(path: Path, password: str) -> None:
    users = UserFile(path)
    with talking(on_auth=users, on_scram=users.scram, auth_methods=(SHA_256,)) as client:
        peer = scramp.ScramClient([SHA_256], "alice", password)

        def said(text: str) -> str:
            return base64.b64encode(text.encode()).decode()

        answer = client.cmd(f"AUTH {SHA_256} {said(peer.get_client_first())}")
        peer.set_server_first(base64.b64decode(answer[4:]).decode())
        answer = client.cmd(said(peer.get_client_final()))
        if password == "sésame":
            peer.set_server_final(base64.b64decode(answer[4:]).decode())
            assert client.cmd("").startswith("235")
            assert client.session.user == "alice"
        else:
            assert answer.startswith("535 5.7.8")
