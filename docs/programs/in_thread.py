"""Receive mail in a program that doesn't use gevent."""

import queue
import smtplib

from smtp_blinker import SMTPServer

received = queue.Queue()


def store(stream, session):
    received.put(stream.read())


with SMTPServer(("127.0.0.1", 0), on_data=store).run_in_thread() as server:
    with smtplib.SMTP("127.0.0.1", server.server_port) as smtp:
        smtp.sendmail("bob@example.net", ["ann@example.com"], "Subject: Hi\n\nHello\n")
    print(received.get(timeout=10).decode())
