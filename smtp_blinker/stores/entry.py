"""The envelope of a message in queues and webhooks: one documented JSON object."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Final

from ..session import Address, Session
from ..session import Envelope as SessionEnvelope
from ..trace import header_address

#: The version of the format. A reader accepts objects of its own version and ignores unknown keys.
#: A change that an old reader would misunderstand needs a new version.
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Path:
    """A reverse-path or forward-path."""

    #: "" for the null reverse-path; an internationalised domain in U-labels.
    address: str
    #: ESMTP parameters: keywords in upper case, values decoded, True for a bare keyword.
    args: Mapping[str, str | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Client:
    """The client that sent the message: facts of the session."""

    #: The session's id, which stands in log lines.
    id: str
    remote_address: str
    remote_port: int
    local_address: str
    local_port: int
    #: The name by reverse DNS, or ``[address]``.
    client_hostname: str
    #: The argument of HELO, EHLO or LHLO.
    host_name_appears_as: str | None
    #: SMTP, ESMTPSA, … as in a Received field.
    transmission_type: str
    #: The authenticated user.
    user: str | None
    #: For example "TLSv1.3"; None without TLS.
    tls: str | None


_CLIENT: Final = tuple(one.name for one in fields(Client))


@dataclass(frozen=True, slots=True)
class Envelope:
    """Everything about one message except its content."""

    #: Made for this transaction: the session's id, a hyphen, and the number of the transaction.
    id: str
    #: SHA-256, in hexadecimal, of the envelope's addresses, their parameters and the content. If a
    #: client didn't get the 250 and sends a message again, it has a new id and the same content_id.
    content_id: str
    #: When it was received, in UTC.
    time: datetime
    mail_from: Path
    rcpt_to: tuple[Path, ...]
    #: "7bit", "8bitmime" or "binarymime".
    body_type: str
    smtputf8: bool
    client: Client
    #: Octets of content.
    size: int
    #: The SHA-256 of the content, in hexadecimal.
    sha256: str
    #: The results of policies about the client and the message, by the policies' names.
    results: Mapping[str, Any] = field(default_factory=dict)
    #: The key of the content in the contents' store, if the entry doesn't have the content.
    content_key: str | None = None

    @classmethod
    def of(
        cls, session: Session, size: int, sha256: str, content_key: str | None = None
    ) -> Envelope:
        """The envelope of *session*'s present transaction, for content of *size* octets.

        A result is what its ``as_dict()`` says; what JSON has no form for is its text.
        """
        return cls.from_json(Entry.of(session, size, sha256, content_key).head)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object: ``version`` and the fields, times in RFC 3339."""
        entry: dict[str, Any] = json.loads(self.as_json())
        return entry

    def as_json(self) -> bytes:
        """The JSON object in one line of ASCII."""
        client = self.client
        return _entry_json(
            self.id,
            self.content_id,
            self.time.isoformat(timespec="milliseconds"),
            _path_json(self.mail_from.address, self.mail_from.args),
            _list_json(_path_json(path.address, path.args) for path in self.rcpt_to),
            self.body_type,
            self.smtputf8,
            _client_json(*[getattr(client, name) for name in _CLIENT]),
            self.size,
            self.sha256,
            self.results,
            self.content_key,
        )

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Envelope:
        """The opposite of `as_dict`. Raises ValueError for another version or an invalid object."""
        try:
            if entry["version"] != VERSION:
                raise ValueError(
                    f"this is version {entry['version']!r} of an entry; only {VERSION} is known"
                )
            return cls(
                id=entry["id"],
                content_id=entry["content_id"],
                time=datetime.fromisoformat(entry["time"]),
                mail_from=_read_path(entry["mail_from"]),
                rcpt_to=tuple(map(_read_path, entry["rcpt_to"])),
                body_type=entry["body_type"],
                smtputf8=entry["smtputf8"],
                client=Client(**{name: entry["client"][name] for name in _CLIENT}),
                size=entry["size"],
                sha256=entry["sha256"],
                results=entry.get("results", {}),
                content_key=entry.get("content_key"),
            )
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError(f"this is not the envelope of an entry: {exc!r}") from exc

    @classmethod
    def from_json(cls, text: bytes | str) -> Envelope:
        """The opposite of `as_json`. Raises ValueError for anything else."""
        return cls.from_dict(json.loads(text))


@dataclass(slots=True)
class Entry:
    """The envelope of a message as a store hands it over: its JSON, and what the store needs of it.

    It is written from the session, without an `Envelope`, which takes 40 % of the instructions.
    """

    id: str
    content_id: str
    #: When it was received, in seconds since 1970.
    time: float
    #: The JSON of the envelope, as `Envelope.as_json` returns it.
    head: bytes

    @classmethod
    def of(cls, session: Session, size: int, sha256: str, content_key: str | None = None) -> Entry:
        """The entry for *session*'s present transaction, for content of *size* octets."""
        envelope = session.envelope
        mail_from = _address_json(envelope.mail_from or Address(""), envelope)
        rcpt_to = _list_json(_address_json(address, envelope) for address in envelope.rcpt_to)
        id = entry_id(session)
        content_id = _content_id(mail_from, rcpt_to, sha256)
        received_at = envelope.received_at
        seconds = time.time() if received_at is None else received_at.timestamp()
        client = _client_json(
            session.id,
            session.remote_address,
            session.remote_port,
            session.local_address,
            session.local_port,
            session.client_hostname,
            session.host_name_appears_as,
            session.transmission_type,
            None if session.user is None else str(session.user),
            None if session.tls is None else session.tls.version,
        )
        head = _entry_json(
            id,
            content_id,
            _utc(seconds),
            mail_from,
            rcpt_to,
            envelope.body_type,
            envelope.smtputf8,
            client,
            size,
            sha256,
            {**session.results, **envelope.results},
            content_key,
        )
        return cls(id, content_id, seconds, head)


def entry_id(session: Session) -> str:
    """The id of the entry for *session*'s present transaction."""
    return f"{session.id}-{session.transaction}"


def json_ready(value: Any) -> Any:
    """*value*, a result of a policy, in types that JSON has."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    as_dict = getattr(value, "as_dict", None)
    if as_dict is not None:
        value = as_dict()
    if isinstance(value, Mapping):
        return {str(key): json_ready(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_ready(one) for one in value]
    return str(value)


# The JSON is written out, because dicts for `json.dumps` take four times as long.


def _entry_json(
    id: str,
    content_id: str,
    time: str,
    mail_from: str,
    rcpt_to: str,
    body_type: str,
    smtputf8: bool,
    client: str,
    size: int,
    sha256: str,
    results: Mapping[str, Any],
    content_key: str | None,
) -> bytes:
    """The JSON of an envelope, from parts of which *mail_from*, *rcpt_to* and *client* are JSON."""
    return (
        f'{{"version": {VERSION}, "id": {_quoted(id)}, "content_id": "{content_id}", '
        f'"time": "{time}", "mail_from": {mail_from}, "rcpt_to": {rcpt_to}, '
        f'"body_type": {_quoted(body_type)}, "smtputf8": {"true" if smtputf8 else "false"}, '
        f'"client": {client}, "size": {size}, "sha256": "{sha256}", '
        f'"results": {_json(json_ready(results)) if results else "{}"}, '
        f'"content_key": {_json(content_key)}}}'
    ).encode("ascii")


# All messages of a connection have the same client.
@lru_cache(maxsize=1024)
def _client_json(
    id: str,
    remote_address: str,
    remote_port: int,
    local_address: str,
    local_port: int,
    client_hostname: str,
    host_name_appears_as: str | None,
    transmission_type: str,
    user: str | None,
    tls: str | None,
) -> str:
    """The JSON of a `Client`, whose fields these are, in their order."""
    return (
        f'{{"id": {_quoted(id)}, "remote_address": {_quoted(remote_address)}, '
        f'"remote_port": {remote_port}, "local_address": {_quoted(local_address)}, '
        f'"local_port": {local_port}, "client_hostname": {_quoted(client_hostname)}, '
        f'"host_name_appears_as": {_json(host_name_appears_as)}, '
        f'"transmission_type": {_quoted(transmission_type)}, '
        f'"user": {_json(user)}, "tls": {_json(tls)}}}'
    )


def _address_json(address: Address, envelope: SessionEnvelope) -> str:
    # If the client needed no SMTPUTF8, the next hop needs none either.
    return _path_json(header_address(address.address, envelope), address.args)


def _path_json(address: str, args: Mapping[str, str | bool]) -> str:
    return f'{{"address": {_quoted(address)}, "args": {_args_json(args) if args else "{}"}}}'


def _args_json(args: Mapping[str, str | bool]) -> str:
    items = (f"{_quoted(name)}: {_json(args[name])}" for name in sorted(args))
    return f"{{{', '.join(items)}}}"


def _list_json(items: Iterable[str]) -> str:
    return f"[{', '.join(items)}]"


def _json(value: Any) -> str:
    """The JSON of *value*; fast for the values that most envelopes have."""
    if isinstance(value, str):
        return _quoted(value)
    return "null" if value is None else json.dumps(value)


def _utc(seconds: float) -> str:
    """RFC 3339, with milliseconds: what `datetime.isoformat` makes, for a tenth of its time."""
    second, millisecond = divmod(round(seconds * 1e6) // 1000, 1000)
    return f"{_second(second)}.{millisecond:03d}+00:00"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00")


def _read_path(entry: Mapping[str, Any]) -> Path:
    return Path(entry["address"], entry["args"])


def _content_id(mail_from: str, rcpt_to: str, sha256: str) -> str:
    return hashlib.sha256(f'[{mail_from}, {rcpt_to}, "{sha256}"]'.encode("ascii")).hexdigest()
