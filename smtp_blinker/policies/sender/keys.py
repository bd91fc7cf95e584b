"""Public keys from DNS (RFC 6376 section 3.6, RFC 8463), and verification with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .tags import TagError, decode, parse_tags, without_space

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_der_public_key
except ImportError as exc:
    raise ImportError(
        "smtp_blinker.policies.SenderAuthentication needs cryptography: "
        "pip install 'smtp_blinker[sender-auth]'"
    ) from exc

#: RFC 8301 section 3.2: verifiers must refuse shorter RSA keys, and needn't support longer ones.
MIN_RSA_BITS: Final = 1024
MAX_RSA_BITS: Final = 4096
#: The time of a verification grows with the exponent, which is 65537 in all real keys.
_MAX_EXPONENT_BITS: Final = 64
#: The longest record in octets, and the longest key in it.
_MAX_RECORD: Final = 4096
_MAX_KEY: Final = 1024


@dataclass(frozen=True, slots=True)
class Key:
    """A key that may sign mail."""

    #: "rsa" or "ed25519".
    kind: str
    public: Any
    bits: int
    #: Whether the identity must have exactly the key's domain and no subdomain (t=s).
    is_strict: bool

    def verifies(self, signature: bytes, digest: bytes) -> bool:
        """Whether *signature* of the SHA-256 *digest* was made with this key."""
        try:
            if self.kind == "rsa":
                self.public.verify(signature, digest, padding.PKCS1v15(), utils.Prehashed(SHA256()))
            else:
                self.public.verify(signature, digest)  # RFC 8463 section 3
        except InvalidSignature:
            return False
        return True


def parse_key(record: bytes) -> Key:
    """The key in a TXT *record*; raises `TagError` if it is invalid or not for mail."""
    if len(record) > _MAX_RECORD:
        raise TagError(f"a key record of {len(record)} octets")
    tags = parse_tags(record.decode("utf-8", "replace").encode("ascii", "replace").decode())
    if "v" in tags and (next(iter(tags)) != "v" or tags["v"] != "DKIM1"):
        raise TagError("the key record isn't of version DKIM1")
    if "h" in tags and "sha256" not in _list(tags["h"]):
        raise TagError("the key isn't for SHA-256")
    if not {"*", "email"}.intersection(_list(tags.get("s", "*"))):
        raise TagError("the key isn't for mail")
    if "p" not in tags:
        raise TagError("the record has no key")
    if not tags["p"]:
        raise TagError("the key is revoked")
    kind = tags.get("k", "rsa")
    public, bits = _load(kind, decode("p", tags["p"]))
    return Key(kind, public, bits, "s" in _list(tags.get("t", "")))


def _list(value: str) -> list[str]:
    return without_space(value).split(":")


def _load(kind: str, octets: bytes) -> tuple[Any, int]:
    if kind == "ed25519":
        if len(octets) != 32:
            raise TagError("an Ed25519 key must have 32 octets")
        return ed25519.Ed25519PublicKey.from_public_bytes(octets), 256
    if kind != "rsa":
        raise TagError(f"keys of kind {kind[:20]!r} are unknown")
    if len(octets) > _MAX_KEY:
        raise TagError(f"an RSA key of more than {MAX_RSA_BITS} bits")
    try:
        public = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise TagError("the RSA key is malformed, or too short") from None
    if not isinstance(public, rsa.RSAPublicKey):
        raise TagError("the key isn't an RSA key")
    if not MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS:
        raise TagError(f"an RSA key of {public.key_size} bits")
    if public.public_numbers().e.bit_length() > _MAX_EXPONENT_BITS:
        raise TagError("the exponent of the RSA key is too large")
    return public, public.key_size
