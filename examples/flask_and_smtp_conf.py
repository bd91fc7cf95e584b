"""The settings of gunicorn for flask_and_smtp.py in the gevent worker."""

import os

from smtp_blinker.gunicorn import Beside

worker_class = "gevent"
bind = [
    os.environ.get("HTTP_BIND", "127.0.0.1:8000"),
    os.environ.get("SMTP_BIND", "127.0.0.1:2525"),
]
# The second socket is for SMTP. The module is loaded in the worker, after the monkey patching.
smtp = Beside("flask_and_smtp:server", sockets=[1])
post_worker_init, worker_int, worker_exit = smtp.hooks
