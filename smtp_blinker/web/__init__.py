"""A web page beside the server: what it does now, and the mail in its Maildir.

Needs ``pip install 'smtp_blinker[web]'``. It is an ordinary WSGI program, made to be served by
gevent in the process of the SMTP server::

    from gevent.pywsgi import WSGIServer
    from smtp_blinker.web import create_app

    app = create_app([server], "./Maildir")
    WSGIServer(("127.0.0.1", 8025), app, log=None).start()

docs/web.md lists the page's keys, the search words and the JSON API.
"""

try:
    from .app import create_app
except ModuleNotFoundError as exc:
    if exc.name not in {"flask", "prometheus_client"}:
        raise
    raise ImportError(
        f"smtp_blinker.web needs {exc.name}: pip install 'smtp_blinker[web]'"
    ) from exc

__all__ = ["create_app"]
