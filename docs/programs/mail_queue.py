"""Mail into a queue: 250 means that Redis has it."""

from gevent import monkey

monkey.patch_all()

from smtp_blinker import SMTPServer  # noqa: E402
from smtp_blinker.stores import FolderContents, RedisStreamStore  # noqa: E402

store = RedisStreamStore("redis://127.0.0.1:6379/", contents=FolderContents("contents"))
server = SMTPServer(("127.0.0.1", 2525))
server.use(store)  # refuses at MAIL while the queue is away
server.on_data(store)
server.serve_forever()
