"""A store for each recipient: one `on_data` hook that hands a message to several others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, Final

from ..connection.spool import Spool
from ..session import Address, Session
from ..smtp.names import ascii_domain
from ..smtp.reply import Reject
from .received import PIECE, Source

#: Octets of a message for several stores that are kept in memory; the rest is in a temporary file.
MEMORY: Final = 2**20

Store = Callable[[Any, Session], Any]


class RecipientStore:
    """Hands each message to the stores of its recipients: ``on_data=RecipientStore({…})``.

    *stores* maps patterns to stores. For a recipient the first of these patterns counts that there
    is: its address (``"ann@example.com"``), its domain (``"@example.com"``), the authenticated user
    that sends (``"user:ann"``), everything (``"*"``). Domains are compared as A-labels in lower
    case. Of local parts only the case of a-z makes no difference: RFC 5321 section 2.4 leaves it to
    the host that has the mailboxes, and nobody has two that differ in it.

    Each store is called with a session whose envelope has its own recipients only. A message for
    one store is not copied; for several it is kept in memory up to 1 MiB and in a temporary file
    beyond. They are called one after the other, in the order of *stores*. Where one fails and
    none has the message yet, its failure is the reply; after another one took it the reply is 451,
    and the client sends it to all of them again. With LMTP each recipient has the reply of its
    own store.

    An address that no pattern fits is refused: 550 5.1.1, at RCPT with ``server.use(store)`` and at
    the message without. With ``use`` the stores that are policies themselves are asked too, what
    they decide at MAIL at each RCPT.

    Raises TypeError for what is no mapping of texts to callables, ValueError for a wrong pattern.
    """

    def __init__(self, stores: Mapping[str, Store]) -> None:
        if not isinstance(stores, Mapping):
            raise TypeError(f"stores takes a mapping of patterns to stores, not {stores!r}")
        if not stores:
            raise ValueError("stores must have a pattern, for example '*'")
        self._stores: dict[str, Store] = {}
        for pattern, store in stores.items():
            if not callable(store):
                raise TypeError(f"the store of {pattern!r} must be callable, not {store!r}")
            key = _normal_pattern(pattern)
            if key in self._stores:
                raise ValueError(f"two patterns are the same address or domain: {pattern!r}")
            self._stores[key] = store

    @property
    def stores(self) -> list[Store]:
        """The inner stores, each once."""
        return _each_once(self._stores.values())

    def attach(self, server: Any) -> None:
        """For `server.use`: the inner stores see *server* too."""
        for store in self.stores:
            attach = getattr(store, "attach", None)
            if attach is not None:
                attach(server)

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        """For `server.use`: refuse what no pattern fits, and what the store of it would refuse."""
        store = self._store_for(address, session)
        if store is None:
            raise _no_such_mailbox()
        on_mail_from = getattr(store, "on_mail_from", None)
        if on_mail_from is not None:
            on_mail_from(session.envelope.mail_from, session)
        on_rcpt_to = getattr(store, "on_rcpt_to", None)
        if on_rcpt_to is not None:
            on_rcpt_to(address, session)

    def __call__(self, stream: Source, session: Session) -> Any:
        recipients = session.envelope.rcpt_to
        chosen = [self._store_for(recipient, session) for recipient in recipients]
        by_recipient = session.opening_command == "LHLO"
        if None in chosen and not by_recipient:
            raise _no_such_mailbox()
        stores = _each_once(store for store in chosen if store is not None)
        if len(stores) == 1 and None not in chosen:
            return stores[0](stream, session)
        spool = Spool(MEMORY)
        try:
            spool.fill(_Pieces(stream))
            own: dict[int, list[Address]] = {id(store): [] for store in stores}
            for recipient, store in zip(recipients, chosen, strict=True):
                if store is not None:
                    own[id(store)].append(recipient)
            if by_recipient:
                return _call_for_each(stores, own, chosen, spool, session)
            return _call_all(stores, own, spool, session)
        finally:
            spool.close()

    def _store_for(self, recipient: Address, session: Session) -> Store | None:
        local, at, domain = _normal_address(recipient.address).rpartition("@")
        keys = [f"{local}{at}{domain}"]
        if at:
            keys.append(f"@{domain}")
        if session.user is not None:
            keys.append(f"user:{session.user}")
        for key in (*keys, "*"):
            store = self._stores.get(key)
            if store is not None:
                return store
        return None


def _call_all(
    stores: list[Store], own: dict[int, list[Address]], spool: Spool, session: Session
) -> Any:
    """Every store in turn; the reply of the last one."""
    result = None
    for number, store in enumerate(stores):
        try:
            result = _call(store, own[id(store)], spool, session)
        except Reject as exc:
            if number == 0:
                raise
            # At least once: the first stores have it, and get it again.
            raise Reject(451, "Not stored for every recipient, try again later", "4.3.0") from exc
    return result


def _call_for_each(
    stores: list[Store],
    own: dict[int, list[Address]],
    chosen: list[Store | None],
    spool: Spool,
    session: Session,
) -> list[Any]:
    """Every store, whatever becomes of the others; a result for each recipient (LMTP)."""
    results: dict[int, list[Any]] = {}
    for store in stores:
        mine = own[id(store)]
        try:
            result = _call(store, mine, spool, session)
        except Exception as exc:
            result = exc  # the server makes the recipient's reply of it
        alone = isinstance(result, list) and len(result) == len(mine)
        results[id(store)] = list(result) if alone else [result] * len(mine)
    return [
        _no_such_mailbox() if store is None else results[id(store)].pop(0) for store in chosen
    ]


def _call(store: Store, recipients: list[Address], spool: Spool, session: Session) -> Any:
    """*store* with the message in *spool*, and a session that knows these *recipients* only."""
    view = copy.copy(session)
    view.envelope = copy.copy(session.envelope)
    view.envelope.rcpt_to = recipients
    content: BinaryIO = spool.open()
    with content:
        return store(content, view)


class _Pieces:
    """The message stream as the source of a spool."""

    is_whole_so_far = True
    size_exceeded = False
    ended = False
    byte_length = 0

    def __init__(self, stream: Source) -> None:
        self._stream = stream

    def next_piece(self) -> bytes:
        return self._stream.read(PIECE)


def _each_once(stores: Iterable[Store]) -> list[Store]:
    """By identity: a store may define what equals it."""
    return list({id(store): store for store in stores}.values())


def _normal_pattern(pattern: Any) -> str:
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern is a text, not {pattern!r}")
    if pattern == "*" or (pattern.startswith("user:") and len(pattern) > len("user:")):
        return pattern
    local, at, domain = pattern.rpartition("@")
    # RFC 5321 section 4.5.1: <postmaster> has no domain.
    if (at and not domain) or (not at and pattern.lower() != "postmaster") or "*" in domain:
        raise ValueError(
            "a pattern is an address, '@' and a domain, 'user:' and a name, 'postmaster', or '*', "
            f"not {pattern!r}"
        )
    return _normal_address(pattern)


def _normal_address(address: str) -> str:
    local, at, domain = address.rpartition("@")
    if not at:
        return address.lower()
    return f"{_lower(local)}@{ascii_domain(domain).lower()}"


def _lower(local: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in local)


def _no_such_mailbox() -> Reject:
    return Reject(550, "No such mailbox here", "5.1.1")
