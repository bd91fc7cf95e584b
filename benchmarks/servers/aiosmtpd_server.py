"""The peer: aiosmtpd, accepting and discarding. Usage: aiosmtpd_server.py PORT"""

import asyncio
import sys

from aiosmtpd.smtp import SMTP, Envelope, Session


class Discard:
    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return "250 OK"


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    # The host name is given, or every connection would look it up again.
    server = await loop.create_server(
        lambda: SMTP(Discard(), hostname="localhost", loop=loop), "127.0.0.1", port
    )
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))
