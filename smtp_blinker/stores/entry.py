"""The envelope of a message in queues and webhooks: one documented JSON object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
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
# Made once, because `json.dumps` makes an encoder for each call with an option.
_SORTED: Final = json.JSONEncoder(sort_keys=True).encode


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
        """The envelope of *session*'s present transaction, for content of *size* octets."""
        envelope = session.envelope
        mail_from = _path(envelope.mail_from or Address(""), envelope)
        rcpt_to = tuple(_path(address, envelope) for address in envelope.rcpt_to)
        return cls(
            id=entry_id(session),
            content_id=_content_id(_path_json(mail_from), _paths_json(rcpt_to), sha256),
            time=envelope.received_at or datetime.now(UTC),
            mail_from=mail_from,
            rcpt_to=rcpt_to,
            body_type=envelope.body_type,
            smtputf8=envelope.smtputf8,
            client=Client(
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
            ),
            size=size,
            sha256=sha256,
            results=json_ready({**session.results, **envelope.results}),
            content_key=content_key,
        )

    def as_dict(self) -> dict[str, Any]:
        """The JSON object: ``version`` and the fields, times in RFC 3339.

        A result is what its ``as_dict()`` says; what JSON has no form for is its text.
        """
        entry: dict[str, Any] = json.loads(self.as_json())
        return entry

    def as_json(self) -> bytes:
        """The JSON object in one line of ASCII."""
        # Written out, because dicts for `json.dumps` take four times as long.
        client = self.client
        return (
            f'{{"version": {VERSION}, "id": {_quoted(self.id)}, '
            f'"content_id": "{self.content_id}", "time": "{_milliseconds(self.time)}", '
            f'"mail_from": {_path_json(self.mail_from)}, "rcpt_to": {_paths_json(self.rcpt_to)}, '
            f'"body_type": {_quoted(self.body_type)}, '
            f'"smtputf8": {"true" if self.smtputf8 else "false"}, '
            f'"client": {{"id": {_quoted(client.id)}, '
            f'"remote_address": {_quoted(client.remote_address)}, '
            f'"remote_port": {client.remote_port}, '
            f'"local_address": {_quoted(client.local_address)}, '
            f'"local_port": {client.local_port}, '
            f'"client_hostname": {_quoted(client.client_hostname)}, '
            f'"host_name_appears_as": {_json(client.host_name_appears_as)}, '
            f'"transmission_type": "{client.transmission_type}", '
            f'"user": {_json(client.user)}, "tls": {_json(client.tls)}}}, '
            f'"size": {self.size}, "sha256": "{self.sha256}", '
            f'"results": {_json(json_ready(self.results)) if self.results else "{}"}, '
            f'"content_key": {_json(self.content_key)}}}'
        ).encode("ascii")

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


def _path(address: Address, envelope: SessionEnvelope) -> Path:
    # If the client needed no SMTPUTF8, the next hop needs none either.
    return Path(header_address(address.address, envelope), dict(address.args))


def _path_json(path: Path) -> str:
    args = _SORTED(dict(path.args)) if path.args else "{}"
    return f'{{"address": {_quoted(path.address)}, "args": {args}}}'


def _paths_json(paths: tuple[Path, ...]) -> str:
    return f"[{', '.join(map(_path_json, paths))}]"


def _json(value: Any) -> str:
    """The JSON of *value*; fast for the values that most envelopes have."""
    if isinstance(value, str):
        return _quoted(value)
    return "null" if value is None else json.dumps(value)


def _milliseconds(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")


def _read_path(entry: Mapping[str, Any]) -> Path:
    return Path(entry["address"], entry["args"])


def _content_id(mail_from: str, rcpt_to: str, sha256: str) -> str:
    return hashlib.sha256(f'[{mail_from}, {rcpt_to}, "{sha256}"]'.encode("ascii")).hexdigest()
