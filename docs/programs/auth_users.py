"""Accept mail from those in the file `users` only."""

from smtp_blinker import MessageStream, Session, SMTPServer
from smtp_blinker.users import UserFile

server = SMTPServer(("127.0.0.1", 2525), on_auth=UserFile("users"))


@server.on_data
def store(stream: MessageStream, session: Session) -> None:
    stream.read()
    print("a message of", session.user, flush=True)


server.serve_forever()
