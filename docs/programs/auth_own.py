"""Ask a table of one's own, for passwords and for challenges."""

from smtp_blinker import Address, Credentials, Reject, Session, SMTPServer

PASSWORDS = {"ann": "secret"}  # CRAM-MD5 needs the password itself

server = SMTPServer(
    ("127.0.0.1", 2525),
    auth_methods=("CRAM-MD5", "PLAIN", "LOGIN"),
    auth_optional=True,
    max_auth_failures=5,
)


@server.on_auth
def check(auth: Credentials, session: Session) -> dict[str, str] | None:
    if auth.authzid and auth.authzid != auth.authcid:
        raise Reject(535, "acting for another user is not allowed", "5.7.8")
    # As much work for a user who doesn't exist.
    right = auth.validate_password(PASSWORDS.get(auth.username, ""))
    if right and auth.username in PASSWORDS:
        return {"name": auth.username, "may_send_as": f"{auth.username}@example.com"}
    return None  # 535 5.7.8


@server.on_mail_from
def own_address_only(address: Address, session: Session) -> None:
    if session.user and address.address != session.user["may_send_as"]:
        raise Reject(550, "that isn't your address", "5.7.1")


server.serve_forever()
