"""Final delivery for Postfix: an answer for each recipient."""

import os

from smtp_blinker import Address, MessageStream, Reject, Session, SMTPServer

QUOTA = 10_000  # bytes a mailbox
used = {"ann@example.com": 0, "bob@example.com": QUOTA}

server = SMTPServer("unix:lmtp.sock", lmtp=True, use_xforward=True)


@server.on_rcpt_to
def known_only(address: Address, session: Session) -> None:
    if address.address.lower() not in used:
        raise Reject(550, "no such mailbox", "5.1.1")


@server.on_data
def deliver(stream: MessageStream, session: Session) -> list[str | Reject | None]:
    message = stream.read()
    results: list[str | Reject | None] = []
    for address in session.envelope.rcpt_to:
        mailbox = address.address.lower()
        if used[mailbox] + len(message) > QUOTA:
            results.append(Reject(452, "mailbox full", "4.2.2"))
        else:
            used[mailbox] += len(message)
            results.append(f"delivered to {mailbox}")
    print("from", session.remote_address or "this machine", flush=True)
    return results


server.start()
os.chmod("lmtp.sock", 0o660)  # Postfix's group may write
server.serve_forever()
