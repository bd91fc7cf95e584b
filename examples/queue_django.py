"""Save each message of the queue with Django's ORM.

    python examples/queue_django.py [url] [database]

In a project of yours the model is in an app and this a management command: what `handle_mail` does
is the same. The content id is unique, so a message that is delivered twice is saved once.
"""

import logging
import sys

import django
from django.conf import settings
from django.db import close_old_connections, connection, models, transaction

from smtp_blinker.consumers import consume
from smtp_blinker.stores import Envelope

url = sys.argv[1] if len(sys.argv) > 1 else "redis://127.0.0.1/"
database = sys.argv[2] if len(sys.argv) > 2 else "mail.sqlite3"
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()


class Message(models.Model):
    content_id = models.CharField(max_length=64, unique=True)
    sender = models.TextField()
    received = models.DateTimeField()
    content = models.BinaryField()

    class Meta:
        app_label = "mail"


def handle_mail(envelope: Envelope, content: bytes) -> None:
    close_old_connections()  # the last connection may have timed out since the last message
    with transaction.atomic():
        _, is_new = Message.objects.get_or_create(
            content_id=envelope.content_id,
            defaults={
                "sender": envelope.mail_from.address,
                "received": envelope.time,
                "content": content,
            },
        )
    print(f"saved {Message.objects.count()}" if is_new else "known already", flush=True)


if Message._meta.db_table not in connection.introspection.table_names():
    with connection.schema_editor() as editor:
        editor.create_model(Message)
logging.basicConfig(level="INFO")
consume(url, handle_mail)
