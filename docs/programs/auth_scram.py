"""Check passwords that neither the server nor the network ever sees."""

from smtp_blinker import Credentials, ScramKeys, Session, SMTPServer

# Made when the password was set, and kept instead of it.
KEYS = {"ann": ScramKeys.from_password("secret")}

server = SMTPServer(("127.0.0.1", 2525), auth_methods=("SCRAM-SHA-256",))


@server.on_scram
def keys(username: str, mechanism: str, session: Session) -> ScramKeys | None:
    return KEYS.get(username)  # None for a user who doesn't exist: the client can't tell


@server.on_auth
def check(auth: Credentials, session: Session) -> str | None:
    return auth.username  # the client has proved that it knows the password


server.serve_forever()
