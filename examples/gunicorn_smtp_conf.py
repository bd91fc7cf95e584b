"""The settings of gunicorn for gunicorn_smtp.py."""

import os
import tempfile

from smtp_blinker.gunicorn import child_exit  # noqa: F401  # a setting: removes the gauges of ended workers

# An empty folder for the counters of the workers, set before anything imports prometheus_client.
# With systemd use RuntimeDirectory=. A reload reads this file again, and keeps the folder.
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="metrics"))

worker_class = "smtp_blinker.gunicorn.SMTPWorker"
workers = 2
bind = [
    os.environ.get("SMTP_BIND", "127.0.0.1:2525"),
    os.environ.get("METRICS_BIND", "127.0.0.1:9100"),
]
graceful_timeout = 30
