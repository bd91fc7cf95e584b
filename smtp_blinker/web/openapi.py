"""The description of the page's API (OpenAPI 3.1), from which programs can be generated.

`OPERATIONS` has a row for each route. One test holds the rows and the routes equal, another checks
the answers of a running page. ``/api.json`` serves the description, ``/api`` shows it to people.
"""

from __future__ import annotations

import re
from typing import Any, Final

from flask import Blueprint, Flask, Response, current_app, jsonify, render_template
from markupsafe import Markup

from .. import __version__
from ..faults import MAX_SECONDS, STAGES
from .schemas import (
    CODES,
    COUNT,
    DELETED,
    ERROR,
    FAULT,
    FAULT_LIST,
    INBOXES,
    LIVE,
    MESSAGE,
    MESSAGE_LIST,
    NUMBER,
    REFUSED,
    REFUSED_LIST,
    RELEASED,
    TAGS,
    TEXT,
    counted,
    parameter,
)

routes = Blueprint("openapi", __name__)

Operation = dict[str, Any]

#: A text that isn't empty.
WORD: Final = {**TEXT, "minLength": 1}

_INTRODUCTION: Final = (
    "The mail in the Maildir, and what the server does. Times are seconds since the epoch, sizes "
    "are in bytes. `GET /api/messages?q=to:ada@example.com&wait=10` waits for a message, and "
    "`GET /api/messages/ID` has all that is in it. A request for a change takes no parameter but "
    "those listed, and no body. An error is a JSON object with a sentence, `error`. Requests that "
    "a browser makes for another site are refused."
)
_CONVERTER = re.compile(r"<(?:\w+:)?(\w+)>")
#: Routes for the page itself, which aren't part of the API.
_OF_THE_PAGE: Final = frozenset({"/", "/api", "/static/{filename}"})

_ID: Final = parameter("id", "path", {"type": "string"}, "The message, as the list names it.")
_CONNECTION: Final = parameter("id", "path", {"type": "string"}, "Its `id`, as in the list.")
_PART: Final = parameter(
    "number", "path", {**COUNT, "maximum": 999_999_999}, "The part, as `parts` numbers it."
)
_SEARCH: Final = parameter(
    "q",
    "query",
    {"type": "string", "maxLength": 500},
    "Words that must all occur, as `to:ada@example.com subject:welcome`. Of these places: `from:` "
    "`to:` `cc:` `subject:` `message-id:` `text:` `header:x-campaign`; with `is:unread` `is:read` "
    "`has:attachment` `tag:welcome` `larger:10k` `smaller:1M` `after:2026-11-28` "
    '`before:2026-11-29`; `-` before a word means without it, and `"two words"` is one.',
)
_CHOICE: Final = parameter(
    "q",
    "query",
    {**WORD, "maxLength": 500},
    "Those that match; without it, all. One that chooses nothing for certain is refused.",
)
_IDS: Final = parameter("id", "query", {"type": "array", "items": WORD}, "Of those only these.")
_HIDDEN: Final = "Seconds in which it can be taken back: until then the messages are only hidden."
_UNDO: Final = parameter("undo", "query", {**NUMBER, "maximum": 60}, _HIDDEN)
_TAG: Final = parameter(
    "tag",
    "path",
    {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$"},
    "A word, 26 different ones at most.",
)


def _json(summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": summary, "content": {"application/json": {"schema": schema}}}


def _octets(summary: str, *types: str) -> dict[str, Any]:
    return {"description": summary, "content": {each: {} for each in types}}


def _part_of(*types: str) -> dict[str, Any]:
    """The answers to a request with a Range, an If-None-Match or an If-Match field."""
    return {
        "206": _octets("The range that the request asks for.", *types),
        "304": {"description": "It is what the client has, as its If-None-Match field says."},
        "412": _json("It isn't what the client has, as its If-Match field says.", ERROR),
        "416": _json("There is no such range.", ERROR),
    }


_FAULTS: Final = {
    "400": _json("It isn't understood, and nothing was changed.", ERROR),
    "404": _json("There is no such thing here; `error` says more.", ERROR),
    "500": _json("It could not be read; `raw` has the message as it came.", ERROR),
    "503": _json("The Maildir can't be used, or too many requests wait.", ERROR),
}


def _operation(
    name: str,
    summary: str,
    answer: dict[str, Any],
    *faults: str,
    parameters: Any = (),
    **others: dict[str, Any],
) -> Operation:
    """The description of an operation; *others* are further responses by their status."""
    return {
        "operationId": name,
        "summary": summary,
        "parameters": list(parameters),
        "responses": {
            "200": answer,
            **{each: _FAULTS[each] for each in faults},
            **others,
            "401": _octets("A user name and a password are needed.", "text/plain"),
            "403": {"description": "Requests from other sites are refused."},
            "421": {"description": "This host name is not served here."},
        },
    }


_WAIT: Final = parameter(
    "wait", "query", {**NUMBER, "maximum": 60}, "Seconds to wait until a message matches."
)
_LIST: Final = (
    _SEARCH,
    parameter("offset", "query", {**COUNT, "default": 0}, "How many to pass over."),
    parameter(
        "limit", "query", {**COUNT, "default": 50, "maximum": 500}, "How many to list at most."
    ),
    _WAIT,
    parameter(
        "within",
        "query",
        {**NUMBER, "maximum": 60},
        "Seconds in which to answer with what is known by then.",
    ),
)

_FAULT: Final = [
    parameter(name, "query", schema, text, required=name == "do")
    for name, schema, text in (
        ("do", {"enum": ["refuse", "delay", "drop"]}, "What happens."),
        ("at", {"enum": STAGES}, "Where: one of `stages`."),
        ("sender", WORD, "Only with this reverse-path: an address, or `@domain`."),
        ("recipient", WORD, "Only with this forward-path."),
        ("code", {"type": "integer", "minimum": 400, "maximum": 599}, "`refuse`: the reply code."),
        ("text", WORD, "`refuse`: the text of the reply."),
        ("seconds", {**NUMBER, "maximum": MAX_SECONDS}, "`delay`: how long."),
        ("chance", {**NUMBER, "maximum": 1}, "How often of all times, more than 0."),
        ("times", {"type": "integer", "minimum": 1}, "How often at all."),
    )
]

#: The operations by method and path.
OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("GET", "/api/messages"): _operation(
        "list_messages",
        "The messages that match, the newest first",
        _json("A page of the list.", MESSAGE_LIST),
        *("500", "503"),
        parameters=_LIST,
    ),
    ("DELETE", "/api/messages"): _operation(
        "delete_messages",
        "Delete the messages that match, for good",
        _json("How many there were.", DELETED),
        *("400", "500", "503"),
        parameters=[_CHOICE, _IDS, _UNDO],
    ),
    ("POST", "/api/messages/undo/{number}"): _operation(
        "undo_deletion",
        "Take a deletion back",
        _json("How many messages it was of.", counted("restored")),
        *("400", "404", "500", "503"),
        parameters=[
            parameter("number", "path", {**COUNT, "maximum": 999_999_999}, "Its `undo`."),
        ],
    ),
    ("GET", "/api/messages/codes"): _operation(
        "show_codes",
        "The one-time codes and the links of the newest message that matches",
        _json("What was found; either may be empty.", CODES),
        *("404", "500", "503"),
        parameters=[_SEARCH, _WAIT],
    ),
    ("PUT", "/api/messages/seen"): _operation(
        "see_messages",
        "Mark the messages that match as read",
        _json("How many were unread.", counted("changed")),
        *("400", "500", "503"),
        parameters=[_CHOICE, _IDS],
    ),
    **{
        (method, f"/api/messages{place}/tags/{{tag}}"): _operation(
            f"{name}_message{'' if place else 's'}",
            f"{what} {'a message' if place else 'the messages that match'}",
            _json("How many changed.", counted("changed")),
            *("400", "404", "500", "503"),
            parameters=[*parameters, _TAG],
            **{"409": _json("There are 26 tags by hand already.", ERROR)},
        )
        for method, name, what in (
            ("PUT", "tag", "Put a tag by hand on"),
            ("DELETE", "untag", "Take a tag by hand off"),
        )
        for place, parameters in (("", (_CHOICE, _IDS)), ("/{id}", (_ID,)))
    },
    ("GET", "/api/tags"): _operation(
        "list_tags",
        "The tags that there are",
        _json("How many messages have each.", TAGS),
        *("500", "503"),
    ),
    ("GET", "/api/inboxes"): _operation(
        "list_inboxes",
        "The inboxes: all about messages and tags is below /api/inboxes/NAME once more",
        _json("How many messages are in each; the first one's name is empty.", INBOXES),
        *("500", "503"),
    ),
    ("GET", "/api/messages/{id}"): _operation(
        "show_message",
        "All that is known of a message",
        _json("The message.", MESSAGE),
        *("404", "500", "503"),
        parameters=[_ID],
    ),
    ("DELETE", "/api/messages/{id}"): _operation(
        "delete_message",
        "Delete a message, for good",
        _json("1, or 0 if another was faster.", DELETED),
        *("400", "404", "500", "503"),
        parameters=[_ID, _UNDO],
    ),
    ("POST", "/api/messages/{id}/release"): _operation(
        "release_message",
        "Pass a message on to the relay that was configured",
        _json("What the relay said.", RELEASED),
        *("400", "404", "500", "503"),
        parameters=[
            _ID,
            parameter(
                "to",
                "query",
                {"type": "array", "items": {"type": "string"}},
                "Recipients; without it those of the envelope.",
            ),
        ],
        **{"502": _json("The relay refused it, or can't be reached.", ERROR)},
    ),
    ("PUT", "/api/messages/{id}/seen"): _operation(
        "see_message",
        "Mark a message as read",
        _json("1, or 0 if it was.", counted("changed")),
        *("400", "404", "500", "503"),
        parameters=[_ID],
    ),
    ("DELETE", "/api/messages/{id}/seen"): _operation(
        "unsee_message",
        "Mark a message as unread",
        _json("1, or 0 if it was.", counted("changed")),
        *("400", "404", "500", "503"),
        parameters=[_ID],
    ),
    ("GET", "/api/messages/{id}/html"): _operation(
        "show_html",
        "The message's HTML, for a frame with a sandbox",
        _octets("Its own pictures are in it.", "text/html"),
        *("404", "500", "503"),
        parameters=[
            _ID,
            parameter(
                "images", "query", {"enum": ["remote"]}, "`remote` lets pictures load from others."
            ),
        ],
        **_part_of("text/html"),
    ),
    ("GET", "/api/messages/{id}/source"): _operation(
        "show_source",
        "The beginning of the message as text, one MiB",
        _octets("As it is stored.", "text/plain"),
        *("404", "500", "503"),
        parameters=[_ID],
    ),
    ("GET", "/api/messages/{id}/raw"): _operation(
        "download",
        "The whole message, to be saved",
        _octets("As it is stored.", "message/rfc822"),
        *("404", "500", "503"),
        parameters=[_ID],
        **_part_of("message/rfc822"),
    ),
    ("GET", "/api/messages/{id}/parts/{number}"): _operation(
        "download_part",
        "A part of the message, decoded, to be saved",
        _octets("Its type is what the message says.", "*/*"),
        *("404", "500", "503"),
        parameters=[
            _ID,
            _PART,
            parameter("inline", "query", TEXT, "Shows bitmap pictures and text in place."),
        ],
        **_part_of("*/*"),
    ),
    ("GET", "/api/refused"): _operation(
        "list_refused",
        "The connections on which something was refused, the last one first",
        _json("The last 200.", REFUSED_LIST),
    ),
    ("GET", "/api/refused/{id}"): _operation(
        "show_refused",
        "What was refused on a connection, and all that was said on it",
        _json("The connection.", REFUSED),
        "404",
        parameters=[_CONNECTION],
    ),
    ("DELETE", "/api/refused"): _operation(
        "forget_refused",
        "Forget what was refused",
        _json("How many connections there were.", counted("deleted")),
        "400",
    ),
    ("GET", "/api/faults"): _operation(
        "list_faults",
        "The faults that the server makes on demand",
        _json("All of them, and where they can strike.", FAULT_LIST),
        "404",
    ),
    ("POST", "/api/faults"): _operation(
        "add_fault",
        "Have the server fail",
        _json("The new fault.", FAULT),
        *("400", "404"),
        parameters=_FAULT,
    ),
    ("DELETE", "/api/faults"): _operation(
        "clear_faults",
        "Take all faults away",
        _json("How many there were.", counted("deleted")),
        *("400", "404"),
    ),
    ("DELETE", "/api/faults/{number}"): _operation(
        "remove_fault",
        "Take a fault away",
        _json("It is away.", counted("deleted")),
        *("400", "404"),
        parameters=[parameter("number", "path", COUNT, "Its `id`.")],
    ),
    ("GET", "/api/live"): _operation(
        "live",
        "What the server does now",
        _json("Connections, counters and plots.", LIVE),
        parameters=[
            parameter("step", "query", {"enum": ["1", "60"]}, "Seconds of an interval of `series`.")
        ],
    ),
    ("GET", "/api/events"): _operation(
        "events",
        "What happens, as server-sent events, without end",
        _octets("`smtp` for each signal, `inbox` when the list changes.", "text/event-stream"),
        "404",
        "503",
        parameters=[
            parameter("inbox", "query", TEXT, "The inbox that is watched; without it the first."),
            parameter("since", "query", {"type": "integer"}, "The last that is known."),
            parameter("newest", "query", {"type": "integer"}, "So many of a signal at a time."),
            parameter("Last-Event-ID", "header", {"type": "integer"}, "The same, and comes first."),
        ],
    ),
    ("GET", "/api.json"): _operation(
        "describe_api", "This description", _json("OpenAPI 3.1.", {"type": "object"})
    ),
    ("GET", "/metrics"): _operation(
        "metrics", "Counters for Prometheus", _octets("The exposition format.", "text/plain")
    ),
    ("GET", "/healthz/live"): _operation(
        "is_live", "Whether the page answers", _octets("It does.", "text/plain")
    ),
    ("GET", "/healthz/ready"): _operation(
        "is_ready",
        "Whether mail is received",
        _octets("It is.", "text/plain"),
        **{"503": _octets("It isn't, and why.", "text/plain")},
    ),
}


def served(app: Flask) -> set[tuple[str, str]]:
    """The methods and paths of *app* that are the API."""
    return {
        (method, path)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if (path := _CONVERTER.sub(r"{\1}", rule.rule)) not in _OF_THE_PAGE
        and not path.startswith("/api/inboxes/{inbox}/")  # the same routes for other inboxes
    }


def description(app: Flask) -> dict[str, Any]:
    """The OpenAPI description of *app*; its paths are relative to its own URL."""
    paths: dict[str, dict[str, Any]] = {}
    here = served(app)
    for (method, path), operation in OPERATIONS.items():
        if (method, path) in here:
            paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "smtp_blinker", "version": __version__, "description": _INTRODUCTION},
        "servers": [{"url": "."}],
        "paths": paths,
    }


@routes.app_template_filter()
def marked(text: str) -> Markup:
    """*text*, which has Markdown's backticks, for the page that people read."""
    pieces = enumerate(text.split("`"))
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if number % 2 else piece for number, piece in pieces
    )


@routes.get("/api.json")
def describe_api() -> Response:
    return jsonify(description(current_app))


@routes.get("/api")
def show_api() -> str:
    return render_template("api.html", version=__version__, api=description(current_app))
