"""After: smtp_blinker."""

from smtp_blinker import Address, Credentials, MessageStream, Reject, Session, SMTPServer

server = SMTPServer(("127.0.0.1", 2525), size=25 * 2**20, auth_optional=True)


@server.on_rcpt_to
def check_recipient(address: Address, session: Session) -> None:
    if not address.address.endswith("@example.com"):
        raise Reject(550, "relaying denied", "5.7.1")


@server.on_data
def store(stream: MessageStream, session: Session) -> str:
    envelope = session.envelope
    assert envelope.mail_from is not None  # there is a transaction
    recipients = [address.address for address in envelope.rcpt_to]
    print(session.remote_address, envelope.mail_from.address, recipients, flush=True)
    print(stream.read().decode("utf8", "replace"), flush=True)
    return "queued"


@server.on_auth
def authenticate(auth: Credentials, session: Session) -> bool:
    return auth.username == "ann" and auth.validate_password("secret")


server.serve_forever()
