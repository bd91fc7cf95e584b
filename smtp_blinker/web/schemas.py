"""The JSON Schemas of the API's responses."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "number", "minimum": 0}
MAYBE_TEXT: Final[Schema] = {"type": ["string", "null"]}


def record(**fields: Schema) -> Schema:
    """An object that has these fields, all of them and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def several(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def counted(name: str) -> Schema:
    return record(**{name: COUNT})


def parameter(
    name: str, place: str, schema: Schema, text: str, *, required: bool = False
) -> Schema:
    """A parameter; those in the path are always required."""
    return {
        "name": name,
        "in": place,
        "required": required or place == "path",
        "schema": schema,
        "description": text,
    }


ERROR: Final = record(error=TEXT)

_LISTED: Final[Schema] = {
    "id": TEXT,
    "time": NUMBER,
    "unread": FLAG,
    "size": COUNT,
    "from": TEXT,
    "to": TEXT,
    "subject": TEXT,
    "snippet": TEXT,
    "recipients": several(TEXT),
    "attachments": COUNT,
    "tags": several(TEXT),
    "tags_by_hand": several(TEXT),
    "cut": FLAG,
    "unreadable": FLAG,
}

MESSAGE_LIST: Final = record(
    messages=several(record(**_LISTED)),
    offset=COUNT,
    matching=COUNT,
    hint=MAYBE_TEXT,
    total=COUNT,
    unread=COUNT,
    pending=COUNT,
)

_PART: Final = record(
    number=COUNT,
    depth=COUNT,
    content_type=TEXT,
    charset=MAYBE_TEXT,
    encoding=TEXT,
    filename=MAYBE_TEXT,
    content_id=MAYBE_TEXT,
    content_location=MAYBE_TEXT,
    multipart=FLAG,
    attachment=FLAG,
    image=FLAG,
    readable=FLAG,
    contains=several(TEXT),
    size=COUNT,
)

_SESSION: Final = record(
    **dict.fromkeys(
        (
            *("helo", "hostname", "address", "by", "protocol"),
            *("tls", "cipher", "id", "recipient", "date"),
        ),
        MAYBE_TEXT,
    ),
    priority={"type": ["integer", "null"]},
)

MESSAGE: Final = record(
    **_LISTED,
    cc=TEXT,
    reply_to=TEXT,
    date=TEXT,
    message_id=TEXT,
    envelope=record(mail_from=MAYBE_TEXT, rcpt_to=several(TEXT)),
    session={"anyOf": [_SESSION, {"type": "null"}]},
    headers=several({"type": "array", "items": TEXT, "minItems": 2, "maxItems": 2}),
    text=TEXT,
    text_from_html=FLAG,
    html=FLAG,
    remote_content=FLAG,
    results={"type": "object", "additionalProperties": {"type": "object"}},
    links=several(TEXT),
    codes=several(TEXT),
    checks=several(TEXT),
    parts=several(_PART),
    left_out=several(TEXT),
)

#: ``undo`` is present if the request asked for it.
DELETED: Final[Schema] = {
    "type": "object",
    "properties": {"deleted": COUNT, "undo": COUNT},
    "required": ["deleted"],
    "additionalProperties": False,
}
CODES: Final = record(id=TEXT, subject=TEXT, codes=several(TEXT), links=several(TEXT))
TAGS: Final = record(tags={"type": "object", "additionalProperties": COUNT})
RELEASED: Final = record(released=COUNT, to=TEXT, reply=TEXT)
INBOXES: Final = record(
    inboxes=several(record(name=TEXT, total=COUNT, unread=COUNT, pending=COUNT))
)

_COUNTS: Final[Schema] = {"type": "object", "additionalProperties": NUMBER}


def _named(label: str) -> Schema:
    """A name and its counts."""
    return {**_COUNTS, "properties": {label: TEXT}, "required": [label]}


LIVE: Final = record(
    time=NUMBER,
    began=NUMBER,
    version=TEXT,
    servers=several(
        record(
            address=TEXT,
            ready=FLAG,
            lmtp=FLAG,
            tls={"anyOf": [{"enum": ["implicit", "starttls"]}, {"type": "null"}]},
            auth={"anyOf": [{"enum": ["required", "optional"]}, {"type": "null"}]},
        )
    ),
    open=COUNT,
    connections=several(
        record(
            id=TEXT,
            remote_address=TEXT,
            remote_port=COUNT,
            client_hostname=TEXT,
            host_name_appears_as=TEXT,
            local_address=TEXT,
            local_port=COUNT,
            since=NUMBER,
            tls=MAYBE_TEXT,
            authenticated=FLAG,
            user=MAYBE_TEXT,
            messages=COUNT,
        )
    ),
    clients=several(record(address=TEXT, connections=COUNT, messages=COUNT, bytes=COUNT)),
    totals=_COUNTS,
    keep=record(
        days={"type": ["number", "null"]},
        messages={"type": ["integer", "null"]},
        size={"type": ["integer", "null"]},
    ),
    stores=several(_named("store")),
    spools=several(_named("spool")),
    series=record(
        step=COUNT,
        length=COUNT,
        end=COUNT,
        intervals=several(record(number=COUNT, counts=_COUNTS)),
    ),
)

_REFUSED: Final[Schema] = {
    "id": TEXT,
    "began": NUMBER,
    "time": NUMBER,
    "remote_address": TEXT,
    "host_name_appears_as": TEXT,
    "client_hostname": TEXT,
    "refused": COUNT,
    "refusals": several(
        record(
            time=NUMBER,
            command=TEXT,
            argument=TEXT,
            code={"type": ["integer", "null"]},
            reply=TEXT,
            why=TEXT,
        )
    ),
    "ended": MAYBE_TEXT,
    "detail": TEXT,
}

REFUSED_LIST: Final = record(connections=several(record(**_REFUSED)), total=COUNT)

REFUSED: Final = record(**_REFUSED, lines=several(record(seconds=NUMBER, who=TEXT, text=TEXT)))

#: A fault has a code and a text, or seconds, by its kind.
FAULT: Final[Schema] = {
    **record(
        id=COUNT,
        do={"enum": ["refuse", "delay", "drop"]},
        at=several(TEXT),
        sender=MAYBE_TEXT,
        recipient=MAYBE_TEXT,
        chance=NUMBER,
        times={"type": ["integer", "null"]},
    ),
    "additionalProperties": {"type": ["string", "number"]},
}

FAULT_LIST: Final = record(faults=several(FAULT), stages=several(TEXT))
