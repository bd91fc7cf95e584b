"""The users file: who may log in, what the file may hold, and how it is changed."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gevent
import pytest

from smtp_blinker import users
from smtp_blinker.pools import PASSWORDS
from smtp_blinker.session import Credentials, Session
from smtp_blinker.users import UserFile, hash_password, set_password


@pytest.fixture(scope="session")
def entry() -> str:
    """The hash of "sesame"; hashing takes its time."""
    return hash_password("sesame")


@pytest.fixture
def path(tmp_path: Path, entry: str) -> Path:
    path = tmp_path / "users"
    path.write_text(f"# who may send\n\nalice:{entry}\n bob@example.org : {entry} \n")
    return path


def plain(name: str, password: str | None, authzid: str = "") -> Credentials:
    return Credentials("PLAIN", name, password=password, authcid=name, authzid=authzid)


def login(name: str, password: str) -> Credentials:
    return Credentials("LOGIN", name, password=password)


def test_right_password_gives_the_user(path: Path) -> None:
    file = UserFile(path)
    assert file(plain("alice", "sesame"), Session()) == "alice"
    assert file(login("bob@example.org", "sesame"), Session()) == "bob@example.org"
    assert len(file) == 2


@pytest.mark.parametrize(
    ("name", "password"),
    [("alice", "Sesame"), ("alice", ""), ("ALICE", "sesame"), ("nobody", "sesame"), ("", "")],
)
def test_wrong_credentials_give_nobody(path: Path, name: str, password: str) -> None:
    file = UserFile(path)
    assert file(plain(name, password), Session()) is None
    assert file(login(name, password), Session()) is None


def test_plain_may_name_its_own_identity_only(path: Path) -> None:
    file = UserFile(path)
    assert file(plain("alice", "sesame", "alice"), Session()) == "alice"
    assert file(plain("alice", "sesame", "bob@example.org"), Session()) is None


def test_mechanisms_without_a_password_are_refused(path: Path) -> None:
    file = UserFile(path)
    for auth in (
        Credentials("CRAM-MD5", "alice", challenge="<1@x>", challenge_response="0" * 32),
        Credentials("XOAUTH2", "alice", access_token="token"),
        plain("alice", None),
    ):
        assert file(auth, Session()) is None


def test_xclient_login_needs_only_the_name(path: Path) -> None:
    file = UserFile(path)
    assert file(Credentials("XCLIENT", "alice"), Session()) == "alice"
    assert file(Credentials("XCLIENT", "mallory"), Session()) is None


def test_unknown_user_costs_as_much_as_a_known_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("alice:scrypt$32$8$2$c2FsdHNhbHQ=$" + "A" * 43 + "=\n")
    file = UserFile(path)
    costs = []
    scrypt: Callable[..., bytes] = hashlib.scrypt

    def spy(password: bytes, **parameters: int) -> bytes:
        costs.append({name: parameters[name] for name in ("n", "r", "p", "dklen")})
        return scrypt(password, **parameters)

    monkeypatch.setattr(hashlib, "scrypt", spy)
    assert file(plain("alice", "x"), Session()) is None
    assert file(plain("nobody", "x"), Session()) is None
    assert costs == [{"n": 32, "r": 8, "p": 2, "dklen": 32}] * 2


def weak(name: str, password: str, n: int, r: int = 8, p: int = 1) -> str:
    """An entry whose cost is *n*, *r* and *p*."""
    salted = users._Hash(n, r, p, os.urandom(16), b"")
    key = hashlib.scrypt(password.encode(), salt=salted.salt, n=n, r=r, p=p, dklen=32)
    return f"{name}:{replace(salted, key=key)}\n"


def test_entries_of_different_cost_take_every_name_the_same_work(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(
        weak("cheap", "1", 32)
        + weak("cheap2", "2", 32)
        + weak("dear", "3", 128)
        + weak("wide", "4", 32, r=16)
        + weak("parallel", "5", 32, p=4)
    )
    file = UserFile(path)
    costs: list[tuple[int, ...]] = []
    scrypt: Callable[..., bytes] = hashlib.scrypt

    def spy(password: bytes, **parameters: int) -> bytes:
        costs.append(tuple(parameters[name] for name in "nrp"))
        return scrypt(password, **parameters)

    monkeypatch.setattr(hashlib, "scrypt", spy)
    seen = set()
    for name in ("cheap", "cheap2", "dear", "wide", "parallel", "nobody", "é" * 5000):
        for password in ("1", "2", "3", "4", "5", "x", "", "é" * 5000):
            costs.clear()
            right = file(plain(name, password), Session())
            assert (right == name) == (
                (name, password)
                in {
                    ("cheap", "1"),
                    ("cheap2", "2"),
                    ("dear", "3"),
                    ("wide", "4"),
                    ("parallel", "5"),
                }
            )
            seen.add(tuple(costs))
    [derivations] = seen
    assert sorted(derivations) == [(32, 8, 1), (32, 8, 4), (32, 16, 1), (128, 8, 1)]


def test_a_file_without_users_takes_as_long_as_one_with_new_entries(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("# nobody yet\n")
    costs = []
    monkeypatch.setattr(
        hashlib,
        "scrypt",
        lambda password, *, n, **rest: costs.append(n) or b"x" * 32,  # type: ignore[func-returns-value]
    )
    assert UserFile(path)(plain("alice", "x"), Session()) is None
    assert costs == [16384]


NFC, NFD = "andr\u00e9", "andre\u0301"


@pytest.mark.parametrize("spelling", [NFC, NFD])
@pytest.mark.parametrize("typed", [NFC, NFD])
def test_composed_and_decomposed_accents_are_one_name(
    path: Path, entry: str, spelling: str, typed: str
) -> None:
    path.write_text(f"{spelling}:{entry}\n")
    file = UserFile(path)
    assert file(plain(typed, "sesame"), Session()) == spelling
    assert file(plain(typed, "sesame", NFC), Session()) == spelling
    assert file(plain(typed, "sesame", NFD), Session()) == spelling
    assert file(plain(typed, "sesame", "andre"), Session()) is None
    assert file(login(typed, "sesame"), Session()) == spelling
    assert file(Credentials("XCLIENT", typed), Session()) == spelling
    assert file(plain("andre", "sesame"), Session()) is None


def test_two_spellings_of_one_name_are_two_entries_for_it(path: Path, entry: str) -> None:
    path.write_text(f"{NFC}:{entry}\n{NFD}:{entry}\n")
    with pytest.raises(ValueError, match="line 2: a second entry"):
        UserFile(path)


@pytest.mark.parametrize(("old", "new"), [(NFC, NFD), (NFD, NFC)])
def test_set_password_knows_a_name_in_another_spelling(
    path: Path, entry: str, old: str, new: str
) -> None:
    path.write_text(f"{old}:{entry}\n")
    set_password(path, new, "other")
    assert path.read_text().startswith(f"{old}:")
    assert UserFile(path)(plain(new, "other"), Session()) == old
    assert len(UserFile(path)) == 1


def test_only_short_text_is_normalized(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFC takes time proportional to the square of the length, and every thread waits."""
    normalize: Callable[[str, str], str] = unicodedata.normalize  # type: ignore[assignment]
    lengths = []

    def spy(form: str, text: str) -> str:
        lengths.append(len(text.encode("utf-8", "surrogatepass")))
        return normalize(form, text)

    long = "\u0344" * 5000
    set_password(path, "longest", long)
    set_password(path, "surrogate", "\ud800" * 3)
    file = UserFile(path)
    monkeypatch.setattr(unicodedata, "normalize", spy)
    for text in (long, "\u0344" * 512, "\u0344" * 513, "a" * 12000, "\ud800" * 400):
        assert file(plain(text, "x"), Session()) is None
        assert file(plain("alice", text), Session()) is None
        assert file(plain("alice", "x", text), Session()) is None
    assert file(plain("longest", long), Session()) == "longest"
    assert max(lengths) == users.MAX_NORMALIZED == 1024


def test_composed_and_decomposed_accents_are_one_password(tmp_path: Path) -> None:
    set_password(tmp_path / "users", "zoë", "caf\u00e9")
    assert UserFile(tmp_path / "users")(plain("zoë", "cafe\u0301"), Session()) == "zoë"


def test_other_greenlets_run_while_a_password_is_tried(path: Path) -> None:
    file = UserFile(path)
    client = gevent.spawn(file, plain("alice", "sesame"), Session())
    gevent.sleep(0)
    assert not client.ready()
    assert client.get(timeout=30) == "alice"


def test_a_few_passwords_are_tried_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = UserFile(path)
    running = Counts()

    def count(self: users._Hash, password: str) -> bool:
        with running:
            time.sleep(0.01)
        return True

    monkeypatch.setattr(users._Hash, "verify", count)
    clients = [gevent.spawn(file, plain("alice", "x"), Session()) for _ in range(20)]
    gevent.joinall(clients, raise_error=True)
    assert 1 <= running.most <= PASSWORDS.most


class Counts:
    """How many were in it at the same time, at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._now -= 1


def test_reload_sees_new_users_and_forgets_old_ones(path: Path, entry: str) -> None:
    file = UserFile(path)
    path.write_text(f"carol:{entry}\n")
    assert file(plain("alice", "sesame"), Session()) == "alice"
    file.reload()
    assert file(plain("alice", "sesame"), Session()) is None
    assert file(plain("carol", "sesame"), Session()) == "carol"


BROKEN = [
    b"no colon",
    b":scrypt$16384$8$1$c2FsdHNhbHQ=$" + b"S" * 43 + b"=",
    b"x:secret",
    b"x:",
    b"x:$2b$12$SECRETSECRETSECRET",
    b"x:scrypt$16383$8$1$c2FsdHNhbHQ=$" + b"S" * 43 + b"=",
    b"x:scrypt$1$8$1$c2FsdHNhbHQ=$" + b"S" * 43 + b"=",
    b"x:scrypt$65536$1$1$c2FsdHNhbHQ=$" + b"S" * 43 + b"=",
    b"x:scrypt$1073741824$8$1$c2FsdHNhbHQ=$" + b"S" * 43 + b"=",
    b"x:scrypt$16384$0$1$c2FsdHNhbHQ=$" + b"S" * 43 + b"=",
    b"x:scrypt$16384$8$-1$c2FsdHNhbHQ=$" + b"S" * 43 + b"=",
    b"x:scrypt$16384$8$1$c2FsdHNhbHQ=$!" + b"S" * 42 + b"=",
    b"x:scrypt$16384$8$1$c2Fs$" + b"S" * 43 + b"=",
    b"x:scrypt$16384$8$1$c2FsdHNhbHQ=$U0VDUkVU",
    b"x:scrypt$16384$8$1$c2FsdHNhbHQ=",
    b"x:\xff" + b"SECRET",
    b"\x1b[2J:scrypt$16384$8$1$c2FsdHNhbHQ=$" + b"S" * 43 + b"=",
]


@pytest.mark.parametrize("line", BROKEN)
def test_broken_line_is_named_not_shown(path: Path, line: bytes) -> None:
    file = UserFile(path)
    path.write_bytes(b"# comment\n\n" + line + b"\n")
    for read in (file.reload, lambda: UserFile(path)):
        with pytest.raises(ValueError, match="users, line 3: ") as raised:
            read()
        said = str(raised.value).removeprefix(str(path))
        assert "secret" not in said.lower()
        assert "SSSS" not in said
        assert said.isprintable()
    assert file(plain("alice", "sesame"), Session()) == "alice"  # the users of before


def test_two_entries_for_one_name_are_an_error(path: Path, entry: str) -> None:
    path.write_text(f"alice:{entry}\nalice:{entry}\n")
    with pytest.raises(ValueError, match="line 2: a second entry"):
        UserFile(path)


def test_missing_file_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        UserFile(tmp_path / "none")


def test_hash_describes_itself_and_is_salted() -> None:
    one, other = hash_password("sesame"), hash_password("sesame")
    assert re.fullmatch(r"scrypt\$16384\$8\$1\$[\w+/]{22}==\$[\w+/]{43}=", one)
    assert one != other


def test_set_password_makes_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "users"
    old = os.umask(0)
    try:
        set_password(path, "alice", "sesame")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["users"]
    assert UserFile(path)(plain("alice", "sesame"), Session()) == "alice"


def test_set_password_keeps_everything_else(path: Path, entry: str) -> None:
    set_password(path, "alice", "new")
    set_password(path, "carol", "new")
    lines = path.read_text().split("\n")
    assert lines[:2] == ["# who may send", ""]
    assert lines[2].startswith("alice:")
    assert lines[2] != f"alice:{entry}"
    assert lines[3] == f" bob@example.org : {entry} "
    assert lines[4].startswith("carol:")
    assert lines[5:] == [""]
    file = UserFile(path)
    assert file(plain("alice", "sesame"), Session()) is None
    assert file(plain("alice", "new"), Session()) == "alice"
    assert file(plain("bob@example.org", "sesame"), Session()) == "bob@example.org"


def test_set_password_keeps_those_who_could_read_the_file(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, 1, 65534)
    path.chmod(0o640)
    before = path.stat()
    set_password(path, "carol", "new")
    after = path.stat()
    assert after.st_ino != before.st_ino
    assert after.st_mode == before.st_mode
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


def test_set_password_follows_a_symbolic_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    link = tmp_path / "etc" / "users"
    link.symlink_to(path)
    set_password(link, "carol", "new")
    assert link.is_symlink()
    assert len(UserFile(path)) == 3


@pytest.mark.parametrize(
    "name", ["", "a:b", "a\nb", "a\0", "\x1b[2J", "a\x85", "#a", " a", "a ", "a\u2028b"]
)
def test_names_that_no_line_can_hold_are_refused(path: Path, name: str) -> None:
    before = path.read_bytes()
    with pytest.raises(ValueError, match="name"):
        set_password(path, name, "sesame")
    assert path.read_bytes() == before


def test_empty_password_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="empty"):
        set_password(path, "alice", "")


def test_set_password_does_not_touch_a_broken_file(path: Path) -> None:
    path.write_text("nonsense\n")
    with pytest.raises(ValueError, match="line 1"):
        set_password(path, "alice", "sesame")
    assert path.read_text() == "nonsense\n"


def test_failed_change_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            set_password(path, "alice", "new")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["users"]
