"""Users with hashed passwords in a file, for `on_auth` and `on_scram`."""

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

# The cost of scrypt: 128 * N * r = 16 MiB and about 50 ms for each password check.
_N: Final = 16384
_R: Final = 8
_P: Final = 1
_SALT_LENGTH: Final = 16
_KEY_LENGTH: Final = 32

# Limits for the cost of an entry. A larger number is a typing error that would overload the CPU.
_MAX_MEMORY: Final = 2**28
_MAX_P: Final = 64

#: The longest name or password to normalize, in octets; a longer one stays unchanged. The time
#: grows with the square of the length, and all threads wait: 2 ms for the worst of this length.
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
        """Raises ValueError if `derive` couldn't use it. The message never shows *text*."""
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
            raise ValueError("not a hash as `smtp-blinker adduser` writes it") from None
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
        """A hash of the same cost that matches no password."""
        return replace(self, salt=os.urandom(len(self.salt)), key=os.urandom(len(self.key)))

    @property
    def cost(self) -> tuple[int, int, int]:
        """The parameters that determine the time."""
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
    """*text* in NFC (RFC 8265 sections 3.3.2 and 4.2.2): keyboards compose accents differently."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_NORMALIZED:
        return text
    return unicodedata.normalize("NFC", text)


_PATTERN: Final = _Hash(_N, _R, _P, b"\0" * _SALT_LENGTH, b"\0" * _KEY_LENGTH)


@dataclass(frozen=True, slots=True)
class _User:
    #: The name exactly as in the file.
    name: str
    hash: _Hash
    #: The keys by mechanism.
    scram: Mapping[str, ScramKeys]


class UserFile:
    """The users in the file *path*: ``SMTPServer(address, on_auth=UserFile(path))``.

    A line is ``name:hash`` or ``name:hash keys``; empty lines and lines that begin with "#" are
    ignored. The keys are for SCRAM, whose hook is the method `scram`. Names are case-sensitive and
    are compared in NFC. Called with credentials, it returns the user's name as in the file, or
    None for a wrong name or password. It checks passwords in threads, so that other clients don't
    wait.

    Each attempt takes the same time, whether the name exists or not: if the entries have different
    costs, every attempt does one derivation of each cost. So while the cost of a file is raised
    entry by entry, attempts take longer, until all entries have the new cost.

    With SCRAM the server sends a salt and an iteration count before the client proves anything. For
    a name that doesn't exist the salt is derived from the name and *secret* (at least 16 octets),
    and the count is that of some entry, so that neither reveals which names exist. By default
    *secret* is derived from the first entry. Then all processes that read the file have the same
    one, also after a restart; it changes when the password of that user changes.

    For PLAIN and LOGIN the password is checked. After SCRAM, whose proof the server has verified,
    and for an XCLIENT login, which a trusted proxy has checked, the name only has to exist. For
    other mechanisms, and for a client that wants to act as another user, the result is None.

    The constructor and `reload` raise `OSError` for a file that can't be read and `ValueError` for
    one that can't be parsed; the message names the line but never shows a hash. The constructor
    also raises `ValueError` for a *secret* that is too short.
    """

    def __init__(self, path: str | os.PathLike[str], secret: bytes | None = None) -> None:
        if secret is not None and len(secret) < MIN_SECRET:
            raise ValueError(f"secret must have at least {MIN_SECRET} octets, not {len(secret)}")
        self.path = os.fspath(path)
        self._given_secret = secret
        #: The secret for an empty file.
        self._random_secret = os.urandom(32)
        self._secret = secret or self._random_secret
        #: By mechanism, the sorted pairs of iterations and salt length of all users.
        self._likenesses: Mapping[str, list[tuple[int, int]]] = {}
        self._users: Mapping[str, _User] = {}
        self._decoys: tuple[_Hash, ...] = ()
        self.reload()

    def reload(self) -> None:
        """Read the file again. If that raises, the earlier users stay."""
        with open(self.path, "rb") as file:
            users = _parse(file.read(), self.path)
        by_cost = {user.hash.cost: user.hash for user in users.values()} or {
            _PATTERN.cost: _PATTERN
        }
        self._users = users
        #: One hash for each cost in the file.
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

        For a user who doesn't exist, or who has no keys for *mechanism*, it returns keys that match
        no password.
        """
        name = _normal(username)
        decoy = self._decoy(name, mechanism)  # also for known names, so that all take the same time
        user = self._users.get(name)
        return decoy if user is None else user.scram.get(mechanism, decoy)

    def _decoy(self, name: str, mechanism: str) -> ScramKeys:
        # RFC 5802 doesn't say how a server hides which names exist. Here the name selects one of
        # the entries to imitate, always the same one while the file has the same entries.
        alike = self._likenesses.get(mechanism) or [(ITERATIONS, SALT_LENGTH)]
        text = f"{mechanism} {name}".encode("utf-8", "surrogatepass")
        draw = int.from_bytes(hmac.digest(self._secret, text, "sha256")[:8])
        iterations, salt_length = alike[draw * len(alike) >> 64]
        return ScramKeys.decoy(name, mechanism, self._secret, iterations, salt_length)

    @property
    def all_have_scram(self) -> bool:
        """Whether each user has keys for SCRAM-SHA-256. Clients prefer this mechanism, and users
        without keys can't log in with it, so offer it only if this is true."""
        return all("SCRAM-SHA-256" in user.scram for user in self._users.values())


def _verify(user: _User | None, decoys: tuple[_Hash, ...], password: str) -> bool:
    """Whether *password* is that of *user*. Does one derivation of the cost of each decoy."""
    right = False
    for decoy in decoys:
        if user is not None and user.hash.cost == decoy.cost:
            right = user.hash.verify(password)
        else:
            decoy.verify(password)
    return right


def hash_password(password: str) -> str:
    """Make the hash for a line of a users file; takes about 50 ms.

    Raises ValueError for an empty password.
    """
    if not password:
        raise ValueError("the password is empty")
    return str(_Hash.of(password))


def _scram_entry(password: str) -> str:
    """A space and the keys for SCRAM-SHA-256, to follow the hash in a line; "" if SASLprep
    (RFC 4013) refuses *password*."""
    try:
        keys = ScramKeys.from_password(password)
    except ValueError:
        return ""
    return " " + _scram_text("SCRAM-SHA-256", keys)


def _scram_text(mechanism: str, keys: ScramKeys) -> str:
    """The keys in the format of RFC 5803 section 2, which PostgreSQL uses too."""
    salt, stored_key, server_key = (
        base64.b64encode(part).decode("ascii")
        for part in (keys.salt, keys.stored_key, keys.server_key)
    )
    return f"{mechanism}${keys.iterations}:{salt}${stored_key}:{server_key}"


_SCRAM: Final = re.compile(r"([A-Z0-9-]+)\$([0-9]{1,10}):([^$:]+)\$([^$:]+):([^$:]+)", re.ASCII)


def _parse_scram(text: str) -> tuple[str, ScramKeys]:
    found = _SCRAM.fullmatch(text)
    if found is None or found[1] not in DIGESTS:
        raise ValueError("not SCRAM keys as `smtp-blinker adduser` writes them")
    try:
        salt, stored, server = (
            base64.b64decode(part, validate=True) for part in found.groups()[2:]
        )
    except (ValueError, binascii.Error):
        raise ValueError("the SCRAM keys are not base64") from None
    keys = ScramKeys(salt, int(found[2]), stored, server)
    if not keys.fits(found[1]):
        raise ValueError("the SCRAM keys have the wrong length")
    return found[1], keys


def _parse_user(name: str, text: str) -> _User:
    """Parse *text*, the part of a line after the colon."""
    hashed, *others = text.split() or [""]
    scram = dict(map(_parse_scram, others))
    if len(scram) != len(others):
        raise ValueError("more than one set of keys for a mechanism")
    return _User(name, _Hash.parse(hashed), scram)


def set_password(path: str | os.PathLike[str], name: str, password: str) -> None:
    """Add the user *name* to the file *path*, or change the user's password.

    The line gets a hash and the keys for SCRAM-SHA-256, which takes about 100 ms. A password that
    SASLprep (RFC 4013) refuses, for example one with emoji, gets no keys. Other lines don't change.

    A missing file is created with mode 0600. An existing one is replaced atomically, with the same
    owner and mode. On return the file is on the disk (fsync). Of two changes at the same moment one
    may be lost.

    Raises ValueError for a name that isn't possible in a line, an empty password or a file that
    can't be parsed, and OSError for one that can't be read or written. Then the file is unchanged.
    """
    if not name or name != name.strip() or name[0] == "#" or ":" in name or not name.isprintable():
        raise ValueError(
            "a user's name must be printable, without a colon, a # at the beginning or spaces "
            "around it"
        )
    hashed = hash_password(password) + _scram_entry(password)
    path = os.path.realpath(path)  # replace the target, not the symbolic link
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
    """The name in a line, "" if it has none, or None if the line isn't an entry."""
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
