"""python manage.py receivemail: every message becomes a row."""

import logging
import signal

import gevent
from django.core.management.base import BaseCommand
from django.db import close_old_connections

from inbox.models import Mail
from smtp_blinker import SMTPServer
from smtp_blinker.listeners.log import EventLog


def save(sender, recipients, content):
    close_old_connections()  # as Django does around a request
    try:
        return Mail.objects.create(sender=sender, recipients=recipients, content=content).pk
    finally:
        close_old_connections()


def store(stream, session):
    envelope = session.envelope
    recipients = [address.address for address in envelope.rcpt_to]
    # The ORM blocks: in a thread it holds up no other client.
    pool = gevent.get_hub().threadpool
    key = pool.apply(save, (envelope.mail_from.address, recipients, stream.read()))
    return f"saved as {key}"


class Command(BaseCommand):
    help = "Receive mail by SMTP"

    def add_arguments(self, parser):
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=2525)

    def handle(self, *, host, port, **options):
        logging.basicConfig(level=logging.INFO)
        server = SMTPServer((host, port), size=25 * 2**20, on_data=store)
        EventLog().attach(server)
        gevent.signal_handler(signal.SIGTERM, server.stop)
        server.serve_forever()
