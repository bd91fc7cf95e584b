"""SCRAM-SHA-256 and SCRAM-SHA-1 (RFC 5802, RFC 7677).

The client proves that it knows the password, and the server that it has the keys; neither sends
them. Channel binding (-PLUS) isn't supported: Python's ssl has only tls-unique, which TLS 1.3
lacks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from ..session import Credentials
from .mechanism import (
    Ask,
    AskKeys,
    Facts,
    Mechanism,
    check_name,
    decode_saslname,
    decode_text,
    malformed,
)
from .saslprep import saslprep

#: The hash function of each mechanism.
DIGESTS: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}

#: Iterations that a client computes for each login; RFC 7677 section 4: at least 4096.
ITERATIONS: Final = 100_000
MAX_ITERATIONS: Final = 2**31 - 1
SALT_LENGTH: Final = 16
MAX_SALT: Final = 1024

#: The shortest secret in octets.
MIN_SECRET: Final = 16

#: The longest user name, and the longest nonce of a client, which the challenge repeats.
MAX_NAME: Final = 255
MAX_NONCE: Final = 1024


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """The keys that a server stores instead of a password for SCRAM; `on_scram` returns them.

    RFC 5802 section 3. *salt* has 1 to 1024 octets; *stored_key* and *server_key* are as long as
    the mechanism's digest. An attacker who steals them can't log in with them, but can guess
    passwords offline and pose as the server. Raises TypeError or ValueError for wrong values.
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("salt", "stored_key", "server_key"):
            if not isinstance(getattr(self, name), bytes):
                raise TypeError(f"{name} takes bytes")
        if isinstance(self.iterations, bool) or not isinstance(self.iterations, int):
            raise TypeError("iterations takes a whole number")
        if not 1 <= self.iterations <= MAX_ITERATIONS:
            raise ValueError(f"iterations must be from 1 to {MAX_ITERATIONS}")
        if not 1 <= len(self.salt) <= MAX_SALT:
            raise ValueError(f"salt must have 1 to {MAX_SALT} octets")
        if len(self.stored_key) not in (20, 32) or len(self.stored_key) != len(self.server_key):
            raise ValueError(
                "stored_key and server_key must have 32 octets (SHA-256) or 20 (SHA-1)"
            )

    @classmethod
    def from_password(
        cls,
        password: str,
        mechanism: str = "SCRAM-SHA-256",
        iterations: int = ITERATIONS,
        salt: bytes | None = None,
    ) -> ScramKeys:
        """Derive the keys of *password* for *mechanism* ("SCRAM-SHA-256" or "SCRAM-SHA-1").

        The default *salt* is random and has 16 octets. It takes about 40 ms: call it when a
        password is set, not at each login. Raises ValueError for an empty password, one that
        SASLprep (RFC 4013) refuses, and another mechanism.
        """
        if mechanism not in DIGESTS:
            raise ValueError(f"mechanism is one of {', '.join(DIGESTS)}, not {mechanism!r}")
        prepared = saslprep(password)
        if not prepared:
            raise ValueError("the password is empty")
        salt = secrets.token_bytes(SALT_LENGTH) if salt is None else salt
        digest = DIGESTS[mechanism]
        salted = hashlib.pbkdf2_hmac(digest, prepared.encode(), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", digest)
        stored_key = hashlib.new(digest, client_key).digest()
        return cls(salt, iterations, stored_key, hmac.digest(salted, b"Server Key", digest))

    @classmethod
    def decoy(
        cls,
        username: str,
        mechanism: str,
        secret: bytes,
        iterations: int = ITERATIONS,
        salt_length: int = SALT_LENGTH,
    ) -> ScramKeys:
        """Make keys that match no password; `on_scram` returns them for a name that doesn't exist.

        The same name, mechanism and *secret* (at least 16 octets) give the same keys. If all
        processes use the same secret, also after a restart, the salt doesn't reveal whether the
        name exists. Raises ValueError for a shorter secret or another mechanism.
        """
        if mechanism not in DIGESTS:
            raise ValueError(f"mechanism is one of {', '.join(DIGESTS)}, not {mechanism!r}")
        if len(secret) < MIN_SECRET:
            raise ValueError(f"secret must have at least {MIN_SECRET} octets, not {len(secret)}")
        size = hashlib.new(DIGESTS[mechanism]).digest_size
        name = f"{mechanism} {username}".encode("utf-8", "surrogatepass")
        seed = hmac.digest(secret, name, "sha512")
        octets = hashlib.shake_256(seed).digest(salt_length + 2 * size)
        salt, stored, server = octets[:salt_length], octets[salt_length:-size], octets[-size:]
        return cls(salt, iterations, stored, server)

    def fits(self, mechanism: str) -> bool:
        """Whether the keys have the length for *mechanism*."""
        return len(self.stored_key) == hashlib.new(DIGESTS[mechanism]).digest_size


class Decoys:
    """Keys for names for which `on_scram` returns None.

    In one process a name always has the same keys. The iterations and the salt length are those
    of the first known user.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._likeness: dict[str, tuple[int, int]] = {}

    def learn(self, mechanism: str, keys: ScramKeys) -> None:
        self._likeness.setdefault(mechanism, (keys.iterations, len(keys.salt)))

    def keys(self, mechanism: str, username: str) -> ScramKeys:
        likeness = self._likeness.get(mechanism, (ITERATIONS, SALT_LENGTH))
        return ScramKeys.decoy(username, mechanism, self._secret, *likeness)


DECOYS: Final = Decoys()


def new_nonce() -> bytes:
    return secrets.token_urlsafe(24).encode()


# RFC 5802 section 7. A saslname has "," and "=" only as =2C and =3D. Unknown extensions are
# optional and ignored.
_NAME: Final = r"((?:[^=,\0]|=2C|=3D)+)"
_EXTENSIONS: Final = r"(?:,[A-Za-z]=[^,\0]+)*"
_FIRST: Final = re.compile(rf"([nyp])(=[^,]*)?,(?:a={_NAME})?,(.*)", re.DOTALL)
_FIRST_BARE: Final = re.compile(rf"n={_NAME},r=([\x21-\x2b\x2d-\x7e]+){_EXTENSIONS}")
_FINAL: Final = re.compile(
    rf"(c=([A-Za-z0-9+/=]*),r=([^,]*){_EXTENSIONS}),p=([A-Za-z0-9+/]+={{0,2}})"
)


@dataclass(frozen=True, slots=True)
class _First:
    """client-first-message."""

    gs2_header: bytes
    bare: bytes
    authzid: str
    username: str
    nonce: bytes


def _parse_first(message: bytes) -> _First:
    text = decode_text(message)
    found = _FIRST.fullmatch(text)
    if found is None:
        raise malformed("SCRAM takes a GS2 header, n= and r=")
    flag, binding, authzid, bare = found.groups()
    if flag == "p":
        # RFC 5802 section 6: channel binding is for -PLUS mechanisms, which aren't offered.
        raise malformed("channel binding is not supported")
    if binding is not None:
        raise malformed("the GS2 header begins with n, or y,")
    if bare.startswith("m="):
        raise malformed("the extension m= is not supported")  # RFC 5802 section 5.1
    parts = _FIRST_BARE.fullmatch(bare)
    if parts is None:
        raise malformed("SCRAM takes n= and r=")
    username, nonce = _prepare(parts[1]), parts[2].encode()
    if len(nonce) > MAX_NONCE:
        raise malformed("the nonce is too long")
    octets = bare.encode()
    return _First(
        message[: len(message) - len(octets)],
        octets,
        _prepare(authzid) if authzid else "",
        username,
        nonce,
    )


def _prepare(name: str) -> str:
    name = decode_saslname(name)
    if len(name) > MAX_NAME:
        raise malformed("the user name is too long")
    try:
        # RFC 5802 section 5.1: a name is a query, so unassigned characters are allowed.
        name = saslprep(name, allow_unassigned=True)
    except ValueError as exc:
        raise malformed(f"the user name has {exc}") from None
    if not name:
        raise malformed("no user name")
    return check_name(name)


def _scram(mechanism: str, initial: bytes | None) -> Mechanism:
    digest = DIGESTS[mechanism]
    first = _parse_first((yield b"") if initial is None else initial)
    found: ScramKeys | None = yield AskKeys(first.username, mechanism)
    if found is not None:
        DECOYS.learn(mechanism, found)
    decoy = DECOYS.keys(mechanism, first.username)  # also for known users, for the same time
    keys = decoy if found is None else found

    nonce = first.nonce + new_nonce()
    challenge = b"r=%b,s=%b,i=%d" % (nonce, base64.b64encode(keys.salt), keys.iterations)
    final = _FINAL.fullmatch(decode_text((yield challenge)))
    if final is None:
        raise malformed("SCRAM takes c=, r= and p=")
    without_proof, binding, said_nonce, proof = (part.encode() for part in final.groups())
    signed = b",".join((first.bare, challenge, without_proof))

    is_right = _knows_password(keys, _decode(proof), signed, digest)
    is_right &= hmac.compare_digest(said_nonce, nonce)
    is_right &= hmac.compare_digest(_decode(binding), first.gs2_header)
    signature = hmac.digest(keys.server_key, signed, digest)
    credentials = Credentials(
        mechanism, first.username, authcid=first.username, authzid=first.authzid
    )
    user = yield Ask(credentials, is_proved=is_right and found is not None)
    # RFC 4954 section 4: the server's final data is a challenge; the client sends an empty line.
    if (yield b"v=" + base64.b64encode(signature)):
        raise malformed("the response to the server's signature must be empty")
    return user


def _knows_password(keys: ScramKeys, proof: bytes, signed: bytes, digest: str) -> bool:
    """RFC 5802 section 3: ClientKey is ClientProof XOR ClientSignature."""
    signature = hmac.digest(keys.stored_key, signed, digest)
    if len(proof) != len(signature):
        raise malformed("the proof has another length than the digest")
    client_key = bytes(one ^ other for one, other in zip(proof, signature, strict=True))
    return hmac.compare_digest(hashlib.new(digest, client_key).digest(), keys.stored_key)


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise malformed("not base64") from None


def scram_sha_256(initial: bytes | None, facts: Facts) -> Mechanism:
    return _scram("SCRAM-SHA-256", initial)


def scram_sha_1(initial: bytes | None, facts: Facts) -> Mechanism:
    return _scram("SCRAM-SHA-1", initial)
