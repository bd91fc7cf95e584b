"""Each message goes to the next hop before the client gets 250."""

from smtp_blinker import DEFAULT_EXTENSIONS, SMTPServer
from smtp_blinker.stores import RelayStore

store = RelayStore("smtp://127.0.0.1:25")
server = SMTPServer(
    ("127.0.0.1", 2525),
    on_data=store,
    auth_optional=True,
    extensions=DEFAULT_EXTENSIONS | {"DSN"},  # if the next hop has it too
)
server.use(store)  # while the next hop is away, mail is refused at MAIL

if __name__ == "__main__":
    server.serve_forever()
