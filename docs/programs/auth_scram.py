"""Check passwords that neither the server nor the network ever sees."""

from smtp_blinker import ScramKeys, SMTPServer

# Made when the password was set, and kept instead of it.
KEYS = {"ann": ScramKeys.from_password("secret")}

server = SMTPServer(("127.0.0.1", 2525), auth_methods=("SCRAM-SHA-256",))


@server.on_scram
def keys(username, mechanism, session):
    return KEYS.get(username)  # None for a user who doesn't exist: the client can't tell


@server.on_auth
def check(auth, session):
    return auth.username  # the client has proved that it knows the password


server.serve_forever()
