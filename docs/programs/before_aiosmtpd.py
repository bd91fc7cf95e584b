"""Before: aiosmtpd."""

import asyncio

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if not address.endswith("@example.com"):
            return "550 5.7.1 relaying denied"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        print(session.peer[0], envelope.mail_from, envelope.rcpt_tos, flush=True)
        print(envelope.content.decode("utf8", "replace"), flush=True)
        return "250 queued"


def authenticate(server, session, envelope, mechanism, auth_data):
    right = (auth_data.login, auth_data.password) == (b"ann", b"secret")
    return AuthResult(success=right, handled=False)


async def main():
    controller = Controller(
        Handler(),
        hostname="127.0.0.1",
        port=2525,
        data_size_limit=25 * 2**20,
        authenticator=authenticate,
        auth_require_tls=False,
    )
    controller.start()
    await asyncio.Event().wait()


asyncio.run(main())
