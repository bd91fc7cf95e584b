"""A server on a free port that hands its mail to a queue; prints the port, and each error.

Arguments: the store's class, its URL, its keywords in JSON (``contents`` is a folder), the server's
options in JSON.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402

from smtp_blinker import SMTPServer, signals, stores  # noqa: E402

name, url, keywords, options = sys.argv[1:]
arguments = json.loads(keywords)
if "contents" in arguments:
    arguments["contents"] = stores.FolderContents(arguments["contents"])
store = getattr(stores, name)(url, **arguments)
server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True, **json.loads(options))
server.use(store)
server.on_data(store)


@signals.error.connect_via(server)
def report(sender: object, event: signals.ErrorEvent) -> None:
    print(f"{type(event.error).__name__}: {event.error}", flush=True)


server.start()
print(server.server_port, flush=True)
signal.signal(signal.SIGTERM, lambda *args: server.stop(timeout=1))
server.serve_forever()
