"""A public server with limits, a lockout and greylisting, counted in this process."""

from smtp_blinker import MessageStream, Session, SMTPServer
from smtp_blinker.policies import AuthLockout, Greylist, MemoryCounters, RateLimit

PASSWORDS = {"ann": "sesame"}

server = SMTPServer(
    ("127.0.0.1", 2525),
    auth_optional=True,
    on_auth=lambda auth, session: (
        auth.validate_password(PASSWORDS.get(auth.username)) and auth.username
    ),
)

# RedisCounters("redis://localhost") counts over all nodes. Without trusted=() loopback isn't
# judged.
counters = MemoryCounters()
server.use(
    RateLimit("10/minute", counters=counters, trusted=()),
    RateLimit("100/hour", of="recipients", key="user", counters=counters, trusted=()),
    AuthLockout(failures=5, per=900, counters=counters, trusted=()),
    Greylist(delay=1, counters=counters, trusted=()),
)


@server.on_data
def store(stream: MessageStream, session: Session) -> str:
    found = session.envelope.results["greylist"]
    print(f"{len(stream.read())} bytes from {found.client}, {found.as_dict()}", flush=True)
    return "queued"


server.serve_forever()
