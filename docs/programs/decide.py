"""Accept mail for two mailboxes, of 25 MiB at most."""

from smtp_blinker import Address, MessageStream, Reject, Session, SMTPServer

MAILBOXES = {"ann@example.com", "postmaster@example.com", "postmaster"}

server = SMTPServer(("127.0.0.1", 2525), size=25 * 2**20, max_recipients=100)


@server.on_mail_from
def check_sender(address: Address, session: Session) -> None:
    if address.address.endswith("@spam.example"):
        raise Reject(550, "we don't want your mail", "5.7.1")


@server.on_rcpt_to
def check_recipient(address: Address, session: Session) -> None:
    if address.address.lower() not in MAILBOXES:
        raise Reject(550, "no such mailbox here", "5.1.1")


@server.on_data
def store(stream: MessageStream, session: Session) -> None:
    recipients = [str(address) for address in session.envelope.rcpt_to]
    octets = 0
    while piece := stream.read(65536):  # never more than this in memory
        octets += len(piece)
    print(f"{octets} bytes for {', '.join(recipients)}", flush=True)


server.serve_forever()
