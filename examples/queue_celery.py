"""Give each message of the queue to a Celery task, which may run on another machine.

    python examples/queue_celery.py [url]                 the consumer
    celery -A queue_celery worker                         the workers, in this folder

A message leaves our queue when Celery's broker has the task. Celery's own settings decide about a
task that fails; here a worker acknowledges it at the end, not at the start. The environment
variable CELERY_BROKER_URL names the broker. It needs ``pip install 'celery[redis]'``.
"""

import logging
import os
import sys
from typing import Any

from celery import Celery

from smtp_blinker.consumers import consume
from smtp_blinker.stores import Envelope

app = Celery("mail", broker=os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1/1"))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_transport_options={"confirm_publish": True},
)


@app.task(name="mail.store")  # type: ignore[untyped-decorator]
def store(envelope: dict[str, Any], content: bytes) -> None:
    """Runs in a worker. A task may run twice; then the content id is the same."""
    print(f"task for {envelope['content_id'][:8]}: {len(content)} bytes", flush=True)


def handle(envelope: Envelope, content: bytes) -> None:
    store.delay(envelope.as_dict(), content)


if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    consume(sys.argv[1] if len(sys.argv) > 1 else "redis://127.0.0.1/", handle)
