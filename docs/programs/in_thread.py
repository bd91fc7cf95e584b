"""Receive mail in a program that doesn't use gevent."""

import queue
import smtplib

from smtp_blinker import MessageStream, Session, SMTPServer

received: queue.Queue[bytes] = queue.Queue()


def store(stream: MessageStream, session: Session) -> None:
    received.put(stream.read())


with SMTPServer(("127.0.0.1", 0), on_data=store).run_in_thread() as server:
    with smtplib.SMTP("127.0.0.1", server.server_port or 0) as smtp:
        smtp.sendmail("bob@example.net", ["ann@example.com"], "Subject: Hi\n\nHello\n")
    print(received.get(timeout=10).decode())
