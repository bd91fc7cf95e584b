"""Numbers for Prometheus on http://127.0.0.1:9100/metrics."""

from gevent.pywsgi import WSGIServer
from prometheus_client import make_wsgi_app

from smtp_blinker import SMTPServer
from smtp_blinker.listeners.metrics import EventMetrics

server = SMTPServer(("127.0.0.1", 2525))
EventMetrics().attach(server)
WSGIServer(("127.0.0.1", 9100), make_wsgi_app(), log=None).start()
server.serve_forever()
