"""The settings of gunicorn for gunicorn_smtp.py."""

import os
import tempfile

from smtp_blinker.gunicorn import child_exit  # noqa: F401  # a setting: keeps the gauges true

# Before anything imports prometheus_client: an empty folder for the counts of the workers. With
# systemd that is RuntimeDirectory=; here one that reloading (this file is read again) keeps.
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="metrics"))

worker_class = "smtp_blinker.gunicorn.SMTPWorker"
workers = 2
bind = [
    os.environ.get("SMTP_BIND", "127.0.0.1:2525"),
    os.environ.get("METRICS_BIND", "127.0.0.1:9100"),
]
graceful_timeout = 30
