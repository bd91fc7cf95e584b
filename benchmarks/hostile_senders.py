"""Messages and DNS answers that make the most work for `SenderAuthentication`."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field

import dkim
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

MIB = 2**20
LINE = b"Some words that make a line of usual length, seventy-two characters....\r\n"
HEAD = b"From: A <a@example.org>\r\nSubject: x\r\n"
#: As long as one by a key of 4096 bits, so that it has to be verified.
WRONG = base64.b64encode(b"\x01" * 512).decode()
EMPTY = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
TAGS = f"v=1; a=rsa-sha256; d=example.org; s={{s}}; h=from; bh={EMPTY}; b={WRONG}"


@dataclass(frozen=True)
class Attack:
    """A message, and what DNS says of its sender."""

    content: bytes
    #: By name and type; what isn't there has no records.
    records: dict[tuple[str, str], tuple[str | bytes, ...]] = field(default_factory=dict)
    #: For all other names, by their type.
    everywhere: dict[str, tuple[str | bytes, ...]] = field(default_factory=dict)

    def query(self, name: str, kind: str, timeout: float) -> tuple[str | bytes, ...]:
        """As a resolver's."""
        found = self.records.get((name, kind))
        return self.everywhere.get(kind, ()) if found is None else found


def key_of(bits: int) -> tuple[bytes, bytes]:
    """A private key in PEM, and the record of its public one."""
    key = rsa.generate_private_key(65537, bits)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return private, record_of(key.public_key())


def record_of(key: rsa.RSAPublicKey) -> bytes:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b"v=DKIM1; p=" + base64.b64encode(der)


def made_key(bits: int, exponent: int = 65537) -> bytes:
    """The record of a number that is not a key, which is made sooner than one."""
    return record_of(rsa.RSAPublicNumbers(exponent, 2 ** (bits - 1) + 1).public_key())


def signature(s: str = "s", more: str = "") -> bytes:
    return f"DKIM-Signature: {TAGS.format(s=s)}{more}\r\n".encode()


def keys(record: bytes, *selectors: str) -> dict[tuple[str, str], tuple[str | bytes, ...]]:
    return {(f"{one}._domainkey.example.org", "TXT"): (record,) for one in selectors}


def thousand_signatures() -> Attack:
    private, record = key_of(1024)
    content = HEAD + b"\r\n" + LINE
    signed = dkim.sign(content, b"s", b"example.org", private)
    return Attack(signed * 1000 + content, keys(record, "s"))


def lengths() -> Attack:
    """Ten signatures that cover as many parts of 8 MiB, in both canonical forms."""
    body = LINE * (8 * MIB // len(LINE))
    signatures = b"".join(
        signature(more=f"; l={len(body) - number * 1000}; c=relaxed/{form}")
        for number, form in enumerate(["simple", "relaxed"] * 5)
    )
    return Attack(signatures + HEAD + b"\r\n" + body, keys(made_key(2048), "s"))


def spaces() -> Attack:
    """8 MiB of what the relaxed form reduces."""
    body = (b" \t" * 30_000 + b"x \r\n") * (8 * MIB // 60_004)
    return Attack(signature(more="; c=relaxed/relaxed") + HEAD + b"\r\n" + body,
                  keys(made_key(2048), "s"))  # fmt: skip


def large_keys() -> Attack:
    """The largest keys and exponents that are accepted, and those that are not."""
    names = [f"s{number}" for number in range(10)]
    records: dict[tuple[str, str], tuple[str | bytes, ...]] = {}
    for number, name in enumerate(names):
        record = (
            made_key(4096, 2**64 - 1),
            made_key(16_384),
            made_key(4096, 2**4000 + 1),
            b"v=DKIM1; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBANmBe10IgY+u7h3enWTukkqtUD5PR52T"
            b"b/mPfjC0QJTocVBq6Za/PlzfV+Py92VaCak19F4WrbVTK5Gg5tW220MCAwEAAQ==",  # 512 bits
        )[number % 4]
        records |= keys(record, name)
    content = b"".join(signature(name, "; c=relaxed/relaxed") for name in names)
    return Attack(content + HEAD + b"\r\n", records)


def long_chain() -> Attack:
    """Fifty sets of ARC, every seal of them good."""
    key = rsa.generate_private_key(65537, 2048)

    def signed(field: bytes, before: bytes) -> bytes:
        """*field*, which is in relaxed form, with a signature over it and what is before."""
        octets = key.sign(before + field, padding.PKCS1v15(), SHA256())
        return field + base64.b64encode(octets) + b"\r\n"

    tags = "a=rsa-sha256; d=example.org; s=s"
    author = b"from:A <a@example.org>\r\n"
    chain = b""
    for i in range(1, 51):
        message = f"arc-message-signature:i={i}; {tags}; c=relaxed/relaxed; h=from; bh={EMPTY}; b="
        seal = f"arc-seal:i={i}; {tags}; cv={'none' if i == 1 else 'pass'}; b="
        results = f"arc-authentication-results:i={i}; x\r\n".encode()
        chain += results + signed(message.encode(), author)
        chain += signed(seal.encode(), chain)
    return Attack(chain + HEAD + b"\r\n", keys(record_of(key.public_key()), "s"))


def long_fields() -> Attack:
    """Fields of 100 KiB of each kind, up to the bound for the whole header."""
    fields = [
        "X: " + "a b\t" * 25_000,
        "DKIM-Signature: " + "a=b;" * 25_000,
        "DKIM-Signature: v=1; h=" + "from:" * 20_000,
        "ARC-Seal: " + "i=1;" * 25_000,
        "From: " + "(" * 15_000,
    ]
    return Attack("".join(f"{one}\r\n" for one in fields).encode() + b"\r\n" + LINE)


def many_fields() -> Attack:
    return Attack(b"a: b\r\n" * 4990 + signature(more="; c=relaxed/simple") + HEAD + b"\r\n" + LINE,
                  keys(made_key(2048), "s"))  # fmt: skip


def signs_the_same_again_and_again() -> Attack:
    """h= names a field of 100 KiB as often as it can."""
    names = "x:" * 7500 + "from"
    fields = b"X: " + b"a b\t" * 25_000 + b"\r\n"
    tags = TAGS.format(s="s").replace("h=from", f"h={names}")
    content = f"DKIM-Signature: {tags}; c=relaxed/simple\r\n".encode() * 10
    return Attack(content + fields + HEAD + b"\r\n" + LINE, keys(made_key(2048), "s"))


def authors() -> Attack:
    """A From with as many domains as fit, none of them ASCII."""
    names = ", ".join(f"a@{chr(0x4E00 + number)}\u9fa5.example" for number in range(700))
    return Attack(f"From: {names}\r\n\r\n".encode())


def long_author() -> Attack:
    domain = "\u4e00\u9fa5" * 2500
    return Attack(f"From: a@{domain}.example\r\n\r\n".encode())


def amplified() -> Attack:
    """SPF whose every term asks for as much as may be asked."""
    terms = b" ".join(b"mx:m%d.example" % number for number in range(10))
    everywhere: dict[str, tuple[str | bytes, ...]] = {
        "MX": tuple(f"10 h{number}.example." for number in range(10)),
        "A": ("192.0.2.1",),
        "PTR": tuple(f"p{number}.example." for number in range(200)),
        "TXT": (b"v=DMARC1; p=reject; np=reject; psd=u",),
    }
    records = {("example.org", "TXT"): (b"v=spf1 " + terms + b" ?all",)}
    return Attack(HEAD + b"\r\n" + LINE, dict(records), everywhere)


def many_addresses() -> Attack:
    """A hundred hosts with as many addresses as fit into an answer, none of them the client's."""
    terms = b" ".join(b"mx:m%d.example/31" % number for number in range(10))
    everywhere: dict[str, tuple[str | bytes, ...]] = {
        "MX": tuple(f"10 h{number}.example." for number in range(10)),
        "A": tuple(f"10.0.0.{number}" for number in range(200)),
    }
    records = {("example.org", "TXT"): (b"v=spf1 " + terms + b" -all",)}
    return Attack(HEAD + b"\r\n" + LINE, dict(records), everywhere)


def long_includes() -> Attack:
    """As many records as may be included, each of 4 KiB."""
    terms = b" ".join(b"include:i%d.example" % number for number in range(10))
    records: dict[tuple[str, str], tuple[str | bytes, ...]] = {
        ("example.org", "TXT"): (b"v=spf1 " + terms + b" -all",)
    }
    for number in range(10):
        records[f"i{number}.example", "TXT"] = (b"v=spf1 " + b"ip4:1.1.1.1 " * 330 + b"-all",)
    return Attack(HEAD + b"\r\n" + LINE, records)


def names_of_names() -> Attack:
    """Macros that stand for the client's name, as many as there may be."""
    macros = b"%{p1r}" * 160 + b".example"
    record = b"v=spf1 " + b" ".join([b"exists:" + macros] * 4) + b" -all"
    everywhere: dict[str, tuple[str | bytes, ...]] = {
        "A": ("198.51.100.25",),
        "PTR": tuple(f"p{number}.example." for number in range(200)),
        "TXT": (b"v=DMARC1; p=none",),
    }
    return Attack(HEAD + b"\r\n" + LINE, {("example.org", "TXT"): (record,)}, everywhere)


def long_record() -> Attack:
    """A record of 4 KiB that is wrong at its end."""
    records: dict[tuple[str, str], tuple[str | bytes, ...]] = {
        ("example.org", "TXT"): (b"v=spf1 " + b"ip4:1.1.1.1 " * 330 + b"x=%",),
        ("_dmarc.example.org", "TXT"): (b"v=DMARC1;" + b";=" * 2000,),
    }
    return Attack(HEAD + b"\r\n" + LINE, records)


def hyphens() -> Attack:
    """A record that regular expressions try again and again."""
    record = b"v=spf1 exists:" + b"a-.-a" * 800 + b"-"
    return Attack(HEAD + b"\r\n" + LINE, {("example.org", "TXT"): (record,)})


ATTACKS: tuple[Callable[[], Attack], ...] = (
    thousand_signatures,
    lengths,
    spaces,
    large_keys,
    long_chain,
    long_fields,
    many_fields,
    signs_the_same_again_and_again,
    authors,
    long_author,
    amplified,
    many_addresses,
    long_includes,
    names_of_names,
    long_record,
    hyphens,
)
