"""The data of a message that the index keeps, so that it needn't read the file again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from . import idn, mime, tags
from .bodies import attachments, shown_text
from .fields import MAX_RECIPIENTS

#: The most octets of encoded text that the index reads.
INDEXED_TEXT: Final = 64 * 1024
#: Characters that an entry of the index keeps of each field that the list shows, of the snippet,
#: of the names of attachments, of the text, and of all that search looks at.
SHOWN: Final = 400
SNIPPET: Final = 160
NAMES: Final = 2048
KEPT_TEXT: Final = 8192
SEARCHED: Final = {
    "from": 1024,
    "to": 32 * 1024,
    "cc": 4096,
    "subject": 1024,
    "message-id": 300,
    "text": NAMES + 1 + KEPT_TEXT,
}
#: What stands between two of these texts, and what stands instead of it in them and in a query.
BETWEEN: Final = "\0"
INSTEAD: Final = "\ufffd"
#: Characters of the other header fields that search looks at.
HEADER: Final = 2048
#: Fields that are looked for elsewhere, or never looked for.
_NOT_IN_HEADER: Final = frozenset(
    {
        *("from", "to", "cc", "subject", "message-id", "received", "return-path", "delivered-to"),
        *("dkim-signature", "arc-seal", "arc-message-signature", "arc-authentication-results"),
        *("mime-version", "content-type", "content-transfer-encoding"),
    }
)
#: The fields of `Entry` that `summarize` fills.
SUMMARIZED: Final = (
    *("size", "sender", "to", "subject", "snippet", "recipients", "attachments", "brought", "cut"),
    *("header", "folded"),
)
#: Recipients named in the list.
LISTED_RECIPIENTS: Final = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in the list."""

    #: The file's name without its flags: it stays the same when the message is read or moved.
    id: str
    path: str
    #: The arrival in seconds since the epoch.
    time: float
    unread: bool
    size: int = 0
    #: False until the file was looked into; the fields below are empty until then.
    indexed: bool = False
    sender: str = ""
    to: str = ""
    subject: str = ""
    snippet: str = ""
    recipients: list[str] = field(default_factory=list)
    attachments: int = 0
    #: Whether there was more than the bounds allow: search may not find what is left out.
    cut: bool = False
    #: Whether it could not be read; then the fields from `sender` on are empty.
    unreadable: bool = False
    #: What search looks at, casefolded: the texts of `SEARCHED` in that order, `BETWEEN` them. One
    #: string is searched several times as fast as six, and needs less memory.
    words: str = ""
    #: Tags that it brought, and tags by hand; casefolded.
    brought: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)
    #: The other header fields in the same way, a line for each: words without a place aren't
    #: looked for there.
    header: str = ""

    @property
    def folded(self) -> dict[str, str]:
        """`words` by place; empty until the file was looked into."""
        texts = self.words.split(BETWEEN) if self.words else ()
        return dict(zip(SEARCHED, texts, strict=False))

    @property
    def tags(self) -> list[str]:
        return self.by_hand + [tag for tag in self.brought if tag not in self.by_hand]

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "time": self.time,
            "unread": self.unread,
            "size": self.size,
            "from": self.sender,
            "to": self.to,
            "subject": self.subject,
            "snippet": self.snippet,
            "recipients": self.recipients,
            "attachments": self.attachments,
            "tags": self.tags,
            "tags_by_hand": self.by_hand,
            "cut": self.cut,
            "unreadable": self.unreadable,
        }


def summarize(size: int, data: bytes, message: mime.Message) -> dict[str, Any]:
    """What an `Entry` keeps of a message that has *size* octets, by the names of its fields."""
    text = shown_text(message, data, INDEXED_TEXT)
    trace = message.trace
    sender = message.first("from") or trace.mail_from or ""
    to = ", ".join(message.every("to"))
    copies = ", ".join(message.every("cc"))
    subject = message.first("subject")
    header = "\n".join(
        f"{each.name}: {each.text}"
        for each in message.fields
        if each.name.lower() not in _NOT_IN_HEADER
    )
    attached = attachments(message, data)
    names = " ".join(part.filename for part in attached if part.filename)
    found = {
        # The envelope first: a long field of the message must not keep it out.
        "from": _both(trace.mail_from or "", sender),
        "to": _both(*trace.rcpt_to[:MAX_RECIPIENTS], to, copies),
        "cc": copies,
        "subject": subject,
        "message-id": message.first("message-id"),
        "text": f"{names[:NAMES]} {text[:KEPT_TEXT]}",
    }
    return {
        "size": size,
        "sender": idn.readable(sender[:SHOWN]),
        "to": idn.readable(to[:SHOWN]),
        "subject": subject[:SHOWN],
        "snippet": " ".join(text[: SNIPPET * 4].split())[:SNIPPET],
        "recipients": trace.rcpt_to[:LISTED_RECIPIENTS],
        "attachments": len(attached),
        "brought": tags.brought(
            message.every("x-tags") + message.every("keywords"), trace.rcpt_to[:LISTED_RECIPIENTS]
        ),
        "cut": bool(message.left_out)
        or len(names) > NAMES
        or len(header) > HEADER
        or any(len(text) > SEARCHED[place] for place, text in found.items()),
        "header": header[:HEADER].casefold()[:HEADER],
        # Casefolding may make a text longer.
        "folded": {
            place: text[: SEARCHED[place]].casefold()[: SEARCHED[place]]
            for place, text in found.items()
        },
    }


def joined(folded: dict[str, str]) -> str:
    """The texts that `summarize` found as `Entry.words`."""
    return BETWEEN.join(folded[place].replace(BETWEEN, INSTEAD) for place in SEARCHED)


def _both(*addresses: str) -> str:
    """*addresses* with host names in A-labels and U-labels, so that a search finds both."""
    written = " ".join(addresses)
    return written if "xn--" not in written.lower() else f"{written} {idn.readable(written)}"
