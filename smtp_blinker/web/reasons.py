"""Why something was refused, for the person whose program was refused."""

from __future__ import annotations

from typing import Final

from ..smtp import reply

_ABOUT_LINES: Final = (
    "Lines must end with CR and LF together. Have the program send CRLF, or let the server accept "
    "other line ends: --lenient, bare_newline='normalize'."
)
_ABOUT_ORDER: Final = (
    "The commands came in another order than EHLO, MAIL, RCPT, DATA. Look for the first refusal in "
    "the dialogue: a program that goes on after a refused command gets this one too."
)
_ABOUT_LIMITS: Final = (
    "The server ends a connection with too many errors or too little activity. The refusals "
    "before it are the cause; the limits are options of the server."
)
_ABOUT_CLIENTS: Final = (
    "More connections are open than the server allows: max_clients, max_clients_per_ip. Does the "
    "program close those it doesn't need?"
)
_ABOUT_TROUBLE: Final = (
    "The fault is the server's or its program's, not the sender's. Its log says what went wrong; "
    "the sender should try again later."
)

#: For replies that the server has ready, by their code and text.
_STANDING: Final[dict[tuple[int, str], str]] = {
    (each.code, each.text): why
    for why, replies in (
        (_ABOUT_LINES, (reply.BARE_NEWLINE, reply.NOT_DELIVERED_BARE_NEWLINE)),
        (
            _ABOUT_ORDER,
            (
                reply.BAD_SEQUENCE,
                reply.HELLO_FIRST,
                reply.MAIL_FIRST,
                reply.RECIPIENT_FIRST,
                reply.NESTED_MAIL,
            ),
        ),
        (_ABOUT_LIMITS, tuple(reply.ABUSE - {reply.TOO_MANY_FROM_ADDRESS})),
        (_ABOUT_CLIENTS, (reply.TOO_MANY_CLIENTS, reply.TOO_MANY_FROM_ADDRESS)),
        (_ABOUT_TROUBLE, (reply.LOCAL_ERROR, reply.INTERNAL_ERROR)),
        (
            "The client spoke TLS where plain SMTP is expected. Set it to STARTTLS instead of "
            "implicit TLS, or have the server listen with smtps://.",
            (reply.BINARY,),
        ),
        (
            "A browser or another HTTP client came here. The web page has a port of its own.",
            (reply.HTTP_NOT_ALLOWED,),
        ),
        (
            "The client sent a command before it had read the greeting; it must wait for the 220.",
            (reply.TALKS_TOO_SOON,),
        ),
        (
            "The client sent a line that isn't an SMTP command. If it is a line of a message, the "
            "client sent the message after DATA was refused.",
            (reply.NOT_RECOGNIZED, reply.CONTENT_NOT_EXPECTED),
        ),
        (
            "The message has passed too many servers: two of them may send it to each other.",
            (reply.LOOP_DETECTED,),
        ),
    )
    for each in replies
} | {
    (502, "AUTH is not available"): (
        "The server has no passwords to check, or checks them only over TLS. Leave out the user "
        "name and the password in the program, or accept any: --accept-any-auth."
    ),
    (502, "STARTTLS is not available"): (
        "The server has no certificate. Turn TLS off in the program, or "
        "give the server a certificate: --self-signed, --cert."
    ),
}

_ABOUT_NAMES: Final = (
    "The client must give the name of its host here, such as EHLO client.example.com, or its "
    "address as [192.0.2.1]. Look for a setting of the host name, HELO name or domain in the "
    "program. With --lenient, lenient_address_parsing, the name may have spaces."
)
_ABOUT_PATHS: Final = (
    "The address isn't in the form <name@example.com>; MAIL FROM:<> is the sender of a bounce. "
    "With --lenient, lenient_address_parsing, the angle brackets may be missing if the address has "
    "an @, and other mistakes are accepted."
)
_ABOUT_PARAMETERS: Final = (
    "What follows the address isn't a parameter that the reply to EHLO offers, or its value isn't "
    "valid. With --lenient the parameters of DSN are ignored: RET, ENVID, NOTIFY, ORCPT."
)
_ABOUT_CREDENTIALS: Final = (
    "The AUTH exchange isn't as its mechanism requires: the user name and the password are sent in "
    "base64, by the rules of PLAIN, LOGIN or another mechanism. A mail library does this itself."
)
_ABOUT_UTF8: Final = (
    "Non-ASCII characters in an address need the parameter SMTPUTF8 of MAIL. Programs that know it "
    "send it by themselves; for others, write the domain as xn--….example."
)

#: For replies that contain what the client sent, by how they begin.
_BEGINNINGS: Final[tuple[tuple[str, str], ...]] = (
    *((f"Syntax: {verb} hostname", _ABOUT_NAMES) for verb in ("HELO", "EHLO", "LHLO")),
    *(
        (text, _ABOUT_PATHS)
        for text in (
            *("A path is ", "Syntax: MAIL ", "Syntax: RCPT ", "Path too long", "Bad address "),
            *("Bad domain syntax", "The recipient address is empty", "The address holds "),
        )
    ),
    *(
        (text, _ABOUT_PARAMETERS)
        for text in (
            *("Parameter", "Bad parameter ", "A parameter's value ", "Bad xtext"),
            *("RET ", "ENVID ", "NOTIFY", "ORCPT "),
        )
    ),
    *(
        (text, _ABOUT_CREDENTIALS)
        for text in ("Malformed credentials", "Cannot decode the response", "Syntax: AUTH ")
    ),
    (
        "Authentication cancelled",
        "The client began AUTH and gave up: it may not know what the server asked it for. The "
        "dialogue shows with which mechanism; turn another one on in the program.",
    ),
    *((text, _ABOUT_UTF8) for text in ("Non-ASCII ", "Only ASCII ", "AUTH with non-ASCII ")),
    (
        "This is an LMTP server",
        "The client speaks SMTP to an LMTP port. Let it speak LMTP, or send to the SMTP port.",
    ),
    (
        "This is an SMTP server",
        "The client speaks LMTP to an SMTP port. Let it speak SMTP, or have the server listen "
        "with lmtp://.",
    ),
)

#: For all others, by their codes.
_BY_CODE: Final[dict[int, str]] = {
    421: "The server ended the connection; the reply says why.",
    450: "Not now: the sender should try again later, as it does after greylisting.",
    451: "Not now: the server, or a system behind it, couldn't accept it. The sender should try "
    "again later; the server's log may say more.",
    452: "The storage is full, or the message has too many recipients. The sender should "
    "address the other recipients in another message.",
    454: "Not now: passwords can't be checked, or TLS isn't available. The server's log says more.",
    500: "The line isn't a command, is too long, or has characters that aren't "
    "allowed. The dialogue shows what the server read.",
    501: "The command is known; its argument isn't valid. The reply says what is expected, and the "
    "dialogue shows what came.",
    502: "The command is known but not offered here. The reply to EHLO lists what is.",
    503: _ABOUT_ORDER,
    504: "The mechanism or the value isn't offered here. The reply to EHLO lists what is.",
    530: "The server accepts mail only after AUTH, or only over TLS. Give the program a user name "
    "and a password, or turn on STARTTLS in it.",
    535: "The user name or the password is wrong. To accept any: --accept-any-auth.",
    538: "The password would be sent in plain text. Turn on STARTTLS in the program, or allow "
    "it: --accept-any-auth, allow_insecure_auth.",
    550: "The server doesn't accept this: there is no such mailbox, or its rules forbid it. The "
    "reply says which; with --domain only those domains are accepted.",
    552: "It is larger than the server accepts: --size, the option size.",
    553: "The address can't be used; for example, non-ASCII characters need SMTPUTF8.",
    554: "The server doesn't accept this; the reply says why. A blocklist, a filter or the program "
    "decided so.",
}
#: Why a connection ended before anything could be refused.
BY_ENDING: Final[dict[str, str]] = {
    "tls": "The TLS handshake failed. A client that doesn't trust the server's certificate ends it "
    "this way: give the program the certificate of --self-signed, or its issuer.",
    "proxy": "No PROXY header came that the server accepts. Every client must send one "
    "here: --trusted-proxy, use_proxy.",
}


def why(code: int, text: str) -> str:
    """What the reply *code* with *text* means for the sender, in a sentence or two."""
    known = _STANDING.get((code, text))
    if known is None:
        known = next((why for beginning, why in _BEGINNINGS if text.startswith(beginning)), None)
    if known is None:
        known = _BY_CODE.get(code, _BY_CODE[451] if code < 500 else _BY_CODE[554])
    return known
