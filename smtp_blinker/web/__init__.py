"""A web page beside the server: what it does now, and the mail in its Maildir.

Needs ``pip install 'smtp_blinker[web]'``. It is an ordinary WSGI program, made to be served by
gevent in the process of the SMTP server::

    from smtp_blinker.web import PageServer, create_app

    app = create_app([server], "./Maildir")
    PageServer(("127.0.0.1", 8025), app).start()

docs/web.md lists the page's keys, the search words and the JSON API.
"""

try:
    from .app import create_app
    from .inbox import Keep
    from .release import Release
    from .server import PageServer
except ModuleNotFoundError as exc:
    if exc.name not in {"flask", "prometheus_client"}:
        raise
    raise ImportError(
        f"smtp_blinker.web needs {exc.name}: pip install 'smtp_blinker[web]'"
    ) from exc

__all__ = ["Keep", "PageServer", "Release", "create_app"]
