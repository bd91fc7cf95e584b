"""A file of users and hashed passwords as `on_auth` and `on_scram`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from .pools import PASSWORDS
from .sasl.scram import DIGESTS, ITERATIONS, MIN_SECRET, SALT_LENGTH, ScramKeys
from .session import Credentials, Session

# scrypt's cost: 128 * N * r = 16 MiB and some 50 ms for each password that is tried.
_N: Final = 16384
_R: Final = 8
_P: Final = 1
_SALT_LENGTH: Final = 16
_KEY_LENGTH: Final = 32

# What an entry may cost; a larger number is a typing error that would cost the server its CPU.
_MAX_MEMORY: Final = 2**28
_MAX_P: Final = 64

#: Octets of a name or password that is brought into its normal form; a longer one is taken as it
#: is. For a client's text that takes time proportional to the square of the length, and every
#: thread waits: 2 ms for so much of the worst.
MAX_NORMALIZED: Final = 1024


@dataclass(frozen=True, slots=True)
class _Hash:
    """``scrypt$N$r$p$salt$key``, salt and key in base 64."""

    n: int
    r: int
    p: int
    salt: bytes
    key: bytes

    @classmethod
    def parse(cls, text: str) -> _Hash:
        """Raises ValueError for anything that `derive` couldn't work with; never shows *text*."""
        try:
            scheme, n, r, p, salt, key = text.split("$")
            parsed = cls(
                int(n),
                int(r),
                int(p),
                base64.b64decode(salt, validate=True),
                base64.b64decode(key, validate=True),
            )
        except (ValueError, binascii.Error):
            raise ValueError("not a hash that `smtp-blinker adduser` writes") from None
        # RFC 7914 section 2: N is a power of two larger than 1.
        if scheme != "scrypt" or parsed.n < 2 or parsed.n & (parsed.n - 1):
            raise ValueError("not an scrypt hash")
        too_much = parsed.p > _MAX_P or parsed.memory > _MAX_MEMORY
        if parsed.r < 1 or parsed.p < 1 or too_much or parsed.n >= 1 << 16 * parsed.r:
            raise ValueError("scrypt parameters out of range")
        if len(parsed.salt) < 8 or not 16 <= len(parsed.key) <= 64:
            raise ValueError("salt or key of the wrong length")
        return parsed

    @classmethod
    def of(cls, password: str) -> _Hash:
        salted = replace(_PATTERN, salt=os.urandom(_SALT_LENGTH))
        return replace(salted, key=salted.derive(password))

    def of_no_password(self) -> _Hash:
        """One that costs as much and that no password has."""
        return replace(self, salt=os.urandom(len(self.salt)), key=os.urandom(len(self.key)))

    @property
    def cost(self) -> tuple[int, int, int]:
        """What the time depends on."""
        return self.n, self.r, self.p

    @property
    def memory(self) -> int:
        """Octets that scrypt needs (RFC 7914 section 6)."""
        return 128 * self.r * (self.n + self.p + 2)

    def derive(self, password: str) -> bytes:
        return hashlib.scrypt(
            _normal(password).encode("utf-8", "surrogatepass"),
            salt=self.salt,
            n=self.n,
            r=self.r,
            p=self.p,
            maxmem=self.memory + 2**20,
            dklen=len(self.key),
        )

    def verify(self, password: str) -> bool:
        return hmac.compare_digest(self.derive(password), self.key)

    def __str__(self) -> str:
        salt, key = (base64.b64encode(part).decode("ascii") for part in (self.salt, self.key))
        return f"scrypt${self.n}${self.r}${self.p}${salt}${key}"


def _normal(text: str) -> str:
    """One user's keyboards may compose an accent or not (RFC 8265 sections 3.3.2 and 4.2.2)."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_NORMALIZED:
        return text
    return unicodedata.normalize("NFC", text)


_PATTERN: Final = _Hash(_N, _R, _P, b"\0" * _SALT_LENGTH, b"\0" * _KEY_LENGTH)


@dataclass(frozen=True, slots=True)
class _User:
    #: As the file has it.
    name: str
    hash: _Hash
    #: By mechanism.
    scram: Mapping[str, ScramKeys]


class UserFile:
    """The users that the file *path* names: ``SMTPServer(address, on_auth=UserFile(path))``.

    A line is ``name:hash`` or ``name:hash keys``; empty lines and those that begin with "#" mean
    nothing. The keys are for SCRAM, whose hook is `scram`. Names are
    compared letter for letter, however their accents are composed. Called with credentials it
    returns the user's name as the file has it, or None for a wrong name or password. The work is
    done in threads, some passwords at a time, so that other clients don't wait.

    Each attempt takes the same time, whether the name exists or not: where the entries have
    different costs, one derivation of each cost is done for every name. So a file in which the
    cost is raised entry by entry takes longer, and is quick again once all entries are new.

    SCRAM asks for the salt of a name before anything is proved. A name that doesn't exist has one
    too, made of the name and of *secret*, 16 octets at least, and as many iterations as some entry:
    a count is as frequent among names that don't exist as among those that do. By default *secret*
    comes from the first entry: each process that reads the file has the same, also after a
    restart, and another one once that user has another password.

    PLAIN and LOGIN carry a password. After SCRAM, whose proof the server has verified, and for an
    XCLIENT login, which a trusted proxy has checked, the name only has to exist. For other
    mechanisms the answer is None, and so it is for a client that wants to act as another user.

    The constructor and `reload` raise `OSError` for a file that can't be read and `ValueError`,
    which names the line but never shows a hash, for one that can't be understood. The constructor
    also raises `ValueError` for a *secret* that is too short.
    """

    def __init__(self, path: str | os.PathLike[str], secret: bytes | None = None) -> None:
        if secret is not None and len(secret) < MIN_SECRET:
            raise ValueError(f"secret has {MIN_SECRET} octets at least, not {len(secret)}")
        self.path = os.fspath(path)
        self._given_secret = secret
        #: Of an empty file.
        self._random_secret = os.urandom(32)
        self._secret = secret or self._random_secret
        #: By mechanism, the iterations and the salt's length of each user, in order.
        self._likenesses: Mapping[str, list[tuple[int, int]]] = {}
        self._users: Mapping[str, _User] = {}
        self._decoys: tuple[_Hash, ...] = ()
        self.reload()

    def reload(self) -> None:
        """Read the file again; where that raises, the users are those of before."""
        with open(self.path, "rb") as file:
            users = _parse(file.read(), self.path)
        by_cost = {user.hash.cost: user.hash for user in users.values()} or {
            _PATTERN.cost: _PATTERN
        }
        self._users = users
        #: One of each cost in the file.
        self._decoys = tuple(one.of_no_password() for one in by_cost.values())
        first = next((user.hash for user in users.values()), None)
        own = self._random_secret if first is None else first.salt + first.key
        self._secret = self._given_secret or own
        self._likenesses = {
            mechanism: sorted(
                (keys.iterations, len(keys.salt))
                for user in users.values()
                if (keys := user.scram.get(mechanism)) is not None
            )
            for mechanism in DIGESTS
        }

    def __len__(self) -> int:
        return len(self._users)

    def __call__(self, auth: Credentials, session: Session) -> str | None:
        user = self._users.get(_normal(auth.username))
        if auth.authzid and _normal(auth.authzid) != _normal(auth.username):
            return None
        if auth.method == "XCLIENT" or auth.method in DIGESTS:
            return user.name if user is not None else None
        if auth.method not in {"PLAIN", "LOGIN"} or auth.password is None:
            return None
        right = PASSWORDS.run(_verify, user, self._decoys, auth.password)
        return user.name if right and user is not None else None

    def scram(self, username: str, mechanism: str, session: Session) -> ScramKeys:
        """The hook `on_scram`: ``SMTPServer(address, on_auth=users, on_scram=users.scram)``.

        A user who doesn't exist, or has no keys for *mechanism*, gets keys that no password has.
        """
        name = _normal(username)
        decoy = self._decoy(name, mechanism)  # for each name, so that each takes the same time
        user = self._users.get(name)
        return decoy if user is None else user.scram.get(mechanism, decoy)

    def _decoy(self, name: str, mechanism: str) -> ScramKeys:
        # RFC 5802 leaves it to the server how it hides which names exist. The name draws a user
        # to be like, and draws the same one while the counts stay the same.
        alike = self._likenesses.get(mechanism) or [(ITERATIONS, SALT_LENGTH)]
        text = f"{mechanism} {name}".encode("utf-8", "surrogatepass")
        draw = int.from_bytes(hmac.digest(self._secret, text, "sha256")[:8])
        iterations, salt_length = alike[draw * len(alike) >> 64]
        return ScramKeys.decoy(name, mechanism, self._secret, iterations, salt_length)

    @property
    def all_have_scram(self) -> bool:
        """Whether each user has keys for SCRAM-SHA-256. A client that can choose takes it, and
        those without keys can't log in then: offer it once this is true."""
        return all("SCRAM-SHA-256" in user.scram for user in self._users.values())


def _verify(user: _User | None, decoys: tuple[_Hash, ...], password: str) -> bool:
    """Whether *password* is that of *user*; one derivation of the cost of each of *decoys*."""
    right = False
    for decoy in decoys:
        if user is not None and user.hash.cost == decoy.cost:
            right = user.hash.verify(password)
        else:
            decoy.verify(password)
    return right


def hash_password(password: str) -> str:
    """What stands after the colon in a users file; takes some 50 ms.

    Raises ValueError for an empty password.
    """
    if not password:
        raise ValueError("the password is empty")
    return str(_Hash.of(password))


def _scram_entry(password: str) -> str:
    """The keys for SCRAM-SHA-256 as they stand behind the hash; "" where SASLprep (RFC 4013) has
    no form for *password*."""
    try:
        keys = ScramKeys.from_password(password)
    except ValueError:
        return ""
    return " " + _scram_text("SCRAM-SHA-256", keys)


def _scram_text(mechanism: str, keys: ScramKeys) -> str:
    """The form of RFC 5803 section 2, which PostgreSQL has too."""
    salt, stored_key, server_key = (
        base64.b64encode(part).decode("ascii")
        for part in (keys.salt, keys.stored_key, keys.server_key)
    )
    return f"{mechanism}${keys.iterations}:{salt}${stored_key}:{server_key}"


_SCRAM: Final = re.compile(r"([A-Z0-9-]+)\$([0-9]{1,10}):([^$:]+)\$([^$:]+):([^$:]+)", re.ASCII)


def _parse_scram(text: str) -> tuple[str, ScramKeys]:
    found = _SCRAM.fullmatch(text)
    if found is None or found[1] not in DIGESTS:
        raise ValueError("not keys for SCRAM that `serve.py adduser` writes")
    try:
        salt, stored, server = (
            base64.b64decode(part, validate=True) for part in found.groups()[2:]
        )
    except (ValueError, binascii.Error):
        raise ValueError("keys for SCRAM that are not base64") from None
    keys = ScramKeys(salt, int(found[2]), stored, server)
    if not keys.fits(found[1]):
        raise ValueError("keys for SCRAM of the wrong length")
    return found[1], keys


def _parse_user(name: str, text: str) -> _User:
    """*text* is what stands after the colon."""
    hashed, *others = text.split() or [""]
    scram = dict(map(_parse_scram, others))
    if len(scram) != len(others):
        raise ValueError("keys for one mechanism twice")
    return _User(name, _Hash.parse(hashed), scram)


def set_password(path: str | os.PathLike[str], name: str, password: str) -> None:
    """Add the user *name* to the file *path*, or change the password; all else is kept.

    The line gets a hash and the keys for SCRAM-SHA-256, which takes some 100 ms. A password that
    SASLprep (RFC 4013) has no form for, with emoji for example, gets no keys.

    The file is made, with mode 0600, where there is none. It is replaced in one step, with the
    owner and the mode it had, and is on the disk on return. Of two changes at the same moment one
    may be lost.

    Raises ValueError for a name that no line can hold, an empty password or a file that can't be
    understood, and OSError for one that can't be read or written. The file then is as it was.
    """
    if not name or name != name.strip() or name[0] == "#" or ":" in name or not name.isprintable():
        raise ValueError(
            "a user's name is printable, has no colon, no space around it and no # before it"
        )
    hashed = hash_password(password) + _scram_entry(password)
    path = os.path.realpath(path)  # a symbolic link stays one
    try:
        with open(path, "rb") as file:
            text = file.read()
            old = os.fstat(file.fileno())
    except FileNotFoundError:
        text, old = b"", None
    known = _parse(text, path).get(_normal(name))
    name = known.name if known is not None else name
    entry = f"{name}:{hashed}"
    lines = [
        entry if _name_of(line) == name else line
        for line in text.decode("utf-8").removesuffix("\n").split("\n")
        if text
    ]
    if known is None:
        lines.append(entry)
    new = f"{path}.new{os.getpid()}"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="utf-8") as file_:
            if old is not None:
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(fd, old.st_uid, old.st_gid)
                os.fchmod(fd, stat.S_IMODE(old.st_mode))
            file_.write("".join(f"{line}\n" for line in lines))
            file_.flush()
            os.fsync(fd)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _name_of(line: str) -> str | None:
    """The name in a line, "" where it has none, or None where it is not an entry."""
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    name, colon, _ = line.partition(":")
    return name.strip() if colon else ""


def _parse(text: bytes, path: str) -> dict[str, _User]:
    """The users by the normal form of their names."""
    users: dict[str, _User] = {}
    for number, octets in enumerate(text.split(b"\n"), 1):
        try:
            line = octets.decode("utf-8")
            name = _name_of(line)
            if name is None:
                continue
            if not name or not name.isprintable():
                raise ValueError("an entry is name:hash")
            if _normal(name) in users:
                raise ValueError("a second entry for the same name")
            users[_normal(name)] = _parse_user(name, line.partition(":")[2])
        except UnicodeDecodeError:
            raise ValueError(f"{path}, line {number}: not UTF-8") from None
        except ValueError as exc:
            raise ValueError(f"{path}, line {number}: {exc}") from None
    return users
