"""Accept access tokens."""

from smtp_blinker import AuthenticationFailed, Credentials, Session, SMTPServer

TOKENS = {"a1b2c3": "ann@example.com"}  # stands for a request to the issuer of the token

server = SMTPServer(("127.0.0.1", 2525), auth_methods=("OAUTHBEARER", "XOAUTH2"))


@server.on_auth
def check(auth: Credentials, session: Session) -> str | None:
    user = TOKENS.get(auth.access_token or "")
    if user is None or auth.username not in ("", user):
        raise AuthenticationFailed(data={"status": "invalid_token", "scope": "mail"})
    return user


server.serve_forever()
