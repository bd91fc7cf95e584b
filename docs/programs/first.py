"""Print who sends what."""

from email import message_from_binary_file, policy

from smtp_blinker import MessageStream, Session, SMTPServer

server = SMTPServer(("127.0.0.1", 2525))


@server.on_data
def show(stream: MessageStream, session: Session) -> str:
    message = message_from_binary_file(stream, policy=policy.default)
    print(session.envelope.mail_from, "sends:", message["Subject"], flush=True)
    return "thank you"  # the text of the 250 reply


server.serve_forever()
