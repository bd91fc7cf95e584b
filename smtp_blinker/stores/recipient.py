"""A store that passes each message to the stores of its recipients."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ..connection.spool import Spool
from ..hooks import checked
from ..session import Address, Session
from ..smtp.names import ascii_domain
from ..smtp.reply import Reject
from .received import Source
from .whole import whole_message

Store = Callable[[Any, Session], Any]

#: The beginning of a pattern for a user.
_USER: Final = "user:"
# RFC 5321 section 4.1.2: a local-part that needs no quotes, and a quoted-pair.
_DOT_STRING: Final = re.compile(r'[^\s"\\()<>\[\]:;@,.]+(\.[^\s"\\()<>\[\]:;@,.]+)*')
_QUOTED_PAIR: Final = re.compile(r"\\(.)")


class RecipientStore:
    """Passes each message to the stores of its recipients: ``on_data=RecipientStore({…})``.

    *stores* maps patterns to stores. The first of these patterns that exists determines the store
    of a recipient: its address (``"ann@example.com"``), its domain (``"@example.com"``), the user
    who sends after AUTH (``"user:ann"``), everything (``"*"``). Domains are compared in A-labels
    and lower case. Local-parts are compared without regard to the case of a-z and to unnecessary
    quotes (RFC 5321 section 2.4 leaves this to the host of the mailboxes, which this one is). Add
    ``"postmaster"`` for the address without domain (section 4.5.1), unless there is ``"*"``.

    Each store is called with a session whose envelope has only its own recipients. A message for
    one store isn't copied; for several stores it is kept in memory up to 1 MiB, else in a temporary
    file. The stores are called one after the other, in the order of the recipients, until one
    fails. If no store has the message yet, its failure is the reply. Otherwise the reply is 451,
    and the client will send the message to all of them again. With LMTP all stores are called, and
    each recipient gets the reply of its store.

    An address without a pattern is refused with 550 5.1.1, at RCPT with ``server.use(store)``, else
    for the message. With ``use``, a store's own ``on_mail_from`` and ``on_rcpt_to`` are called at
    RCPT for its recipients, and its ``attach`` is called.

    Raises TypeError unless *stores* maps text to callables, ValueError for a wrong pattern.
    """

    def __init__(self, stores: Mapping[str, Store]) -> None:
        if not isinstance(stores, Mapping):
            raise TypeError(f"stores takes a mapping of patterns to stores, not {stores!r}")
        if not stores:
            raise ValueError("stores must have a pattern, for example '*'")
        # Separate: an address from a client (`lenient_address_parsing`) must not match a user.
        self._addresses: dict[str, Store] = {}
        self._users: dict[str, Store] = {}
        self._default: Store | None = None
        for pattern, store in stores.items():
            if not callable(store):
                raise TypeError(f"the store of {pattern!r} must be callable, not {store!r}")
            self._add(pattern, store)

    def _add(self, pattern: Any, store: Store) -> None:
        if not isinstance(pattern, str):
            raise TypeError(f"a pattern is a text, not {pattern!r}")
        if pattern == "*":
            self._default = store
        elif pattern.startswith(_USER) and pattern != _USER:
            self._users[pattern[len(_USER) :]] = store
        else:
            key = _normal_pattern(pattern)
            if key in self._addresses:
                raise ValueError(f"two patterns are the same address or domain: {pattern!r}")
            self._addresses[key] = store

    @property
    def stores(self) -> list[Store]:
        """The inner stores without duplicates."""
        default = () if self._default is None else (self._default,)
        return _each_once((*self._addresses.values(), *self._users.values(), *default))

    def attach(self, server: Any) -> None:
        """For `server.use`: attach the inner stores to *server* too."""
        for store in self.stores:
            attach = getattr(store, "attach", None)
            if attach is not None:
                attach(server)

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        """For `server.use`: refuse recipients without a pattern, and those that a store refuses."""
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
        if not stores:
            return [_no_such_mailbox() for _ in recipients]
        if len(stores) == 1 and None not in chosen:
            return stores[0](stream, session)
        own: dict[int, list[Address]] = {id(store): [] for store in stores}
        for recipient, store in zip(recipients, chosen, strict=True):
            if store is not None:
                own[id(store)].append(recipient)
        with whole_message(stream, session) as spool:
            if by_recipient:
                return _call_for_each(stores, own, chosen, spool, session)
            return _call_all(stores, own, spool, session)

    def _store_for(self, recipient: Address, session: Session) -> Store | None:
        address = _normal_address(recipient.address)
        _, at, domain = address.rpartition("@")
        store = self._addresses.get(address)
        if store is None and at:
            store = self._addresses.get(f"@{domain}")
        if store is None and session.user is not None:
            store = self._users.get(str(session.user))
        return self._default if store is None else store


def _call_all(
    stores: list[Store], own: dict[int, list[Address]], spool: Spool, session: Session
) -> Any:
    """Call every store in turn; returns the reply of the last one."""
    result = None
    for number, store in enumerate(stores):
        try:
            result = _call(store, own[id(store)], spool, session)
            if isinstance(result, (list, tuple)):
                raise TypeError(f"{store!r} returned a list of results; only LMTP has several")
        except Reject as exc:
            if number == 0:
                raise
            # At least once: the earlier stores have the message, and will get it again.
            raise Reject(451, "Not stored for every recipient, try again later", "4.3.0") from exc
    return result


def _call_for_each(
    stores: list[Store],
    own: dict[int, list[Address]],
    chosen: list[Store | None],
    spool: Spool,
    session: Session,
) -> list[Any]:
    """Call every store, even if others fail; returns a result for each recipient (LMTP)."""
    results: dict[int, list[Any]] = {}
    for store in stores:
        mine = own[id(store)]
        try:
            result = _call(store, mine, spool, session)
        except Exception as exc:
            result = exc  # the server turns it into the recipient's reply
        if not isinstance(result, (list, tuple)):
            result = [result] * len(mine)
        elif len(result) != len(mine):
            what = f"{store!r} returned {len(result)} results for {len(mine)} recipients"
            result = [ValueError(what)] * len(mine)
        results[id(store)] = list(result)
    return [_no_such_mailbox() if store is None else results[id(store)].pop(0) for store in chosen]


def _call(store: Store, recipients: list[Address], spool: Spool, session: Session) -> Any:
    """Call *store* with the message in *spool* and a session that has only these *recipients*."""
    view = copy.copy(session)
    view.envelope = copy.copy(session.envelope)
    view.envelope.rcpt_to = recipients
    with spool.open() as content:
        result = store(content, view)
    return None if result is None else checked("on_data", result)


def _each_once(stores: Iterable[Store]) -> list[Store]:
    """*stores* without duplicates, compared by identity because a store may define __eq__."""
    return list({id(store): store for store in stores}.values())


def _normal_pattern(pattern: str) -> str:
    local, at, domain = pattern.rpartition("@")
    # RFC 5321 section 4.5.1: <postmaster> has no domain.
    is_address = bool(at and domain) or pattern.lower() == "postmaster"
    if not is_address or "*" in (local, *domain):
        raise ValueError(
            "a pattern is an address, '@' and a domain, 'user:' and a name, 'postmaster', or '*', "
            f"not {pattern!r}"
        )
    return _normal_address(pattern)


def _normal_address(address: str) -> str:
    local, at, domain = address.rpartition("@")
    if not at:
        return _lower(address)
    if len(local) > 1 and local[0] == local[-1] == '"':
        bare = _QUOTED_PAIR.sub(r"\1", local[1:-1])
        if _DOT_STRING.fullmatch(bare):
            local = bare
    return f"{_lower(local)}@{ascii_domain(domain).lower()}"


def _lower(text: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in text)


def _no_such_mailbox() -> Reject:
    return Reject(550, "No such mailbox here", "5.1.1")
