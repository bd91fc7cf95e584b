"""Write a log, and count what was refused."""

import logging
from collections import Counter

from smtp_blinker import MessageStream, Reject, Session, SMTPServer
from smtp_blinker.listeners.log import EventLog
from smtp_blinker.signals import (
    DisconnectEvent,
    MessageEvent,
    RefusedEvent,
    disconnect,
    message,
    refused,
)

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

server = SMTPServer(("127.0.0.1", 2525))
answers: Counter[int] = Counter()


@server.on_data
def store(stream: MessageStream, session: Session) -> None:
    if b"lottery" in stream.read():
        raise Reject(554, "no lotteries", "5.7.1")


@refused.connect_via(server)  # a command, or the client itself
@message.connect_via(server)
def count(server: SMTPServer, event: MessageEvent | RefusedEvent) -> None:
    answers[event.code] += 1


@disconnect.connect_via(server)
def tell(server: SMTPServer, event: DisconnectEvent) -> None:
    print("answers so far:", dict(answers), flush=True)


EventLog().attach(server)
server.serve_forever()
