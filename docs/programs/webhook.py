"""Each message becomes a POST request."""

from smtp_blinker import SMTPServer
from smtp_blinker.stores import WebhookStore

store = WebhookStore("http://127.0.0.1:5000/mail", secret="the secret of the WebhookStore")
server = SMTPServer(("127.0.0.1", 2525), on_data=store, auth_optional=True)
server.use(store)  # while the endpoint is away, mail is refused at MAIL

if __name__ == "__main__":
    server.serve_forever()
