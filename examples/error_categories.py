"""Treat errors by their kind.

`smtp_blinker.listeners.log.category` knows more codes; here is how it works.
"""

import sys
from collections import Counter

from smtp_blinker import Address, Session, SMTPServer
from smtp_blinker.signals import ErrorEvent, error

port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
server = SMTPServer(("127.0.0.1", port))
seen: Counter[str] = Counter()


@server.on_rcpt_to
def look_up(address: Address, session: Session) -> None:
    if address.address.startswith("broken@"):
        raise LookupError("the user database can't be reached")


@error.connect_via(server)
def categorize(server: SMTPServer, event: ErrorEvent) -> None:
    match event.code:
        case "ECONNRESET" | "EPIPE" | "ETIMEDOUT":
            category, advice = "network", "the client is gone, nothing to do"
        case "TLSError":
            category, advice = "tls", "look at the certificate and the client's TLS versions"
        case "EADDRINUSE" | "EACCES" | "EMFILE":
            category, advice = "listener", "look at the port, its permission, the limit of files"
        case "HookError" | "HookTimeout" | "ListenerError":
            category, advice = "program", "fix this program"
        case _:
            category, advice = "other", "have a look"
    seen[category] += 1
    print(f"[{category}] {event.code}: {event.error!r} - {advice}", flush=True)
    print("So far:", dict(seen), flush=True)


server.serve_forever()
