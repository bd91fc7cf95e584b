"""What all tests share: servers, clients, programs, waiting, certificates."""

from .certificates import Certificate, trusting
from .client import BlockingClient, Client, auth_plain
from .leaks import descriptors, greenlets
from .pieces import cut_at, octets, two_pieces
from .programs import (
    HOST,
    LIBRARY,
    PROGRAM_SECONDS,
    Program,
    beside,
    bound_socket,
    environment,
    missing,
    program,
    proxies,
    python,
    run,
    succeed,
)
from .replies import ClientReply, take_replies, take_reply
from .server import (
    SIGNALS,
    Message,
    Served,
    Talk,
    Witness,
    assert_serves,
    raising,
    running,
    serve,
    talking,
    tcp_address,
    until_read,
    witnessed,
)
from .waiting import MOMENT, PATIENCE, SECONDS, free_port, poll, wait_until

__all__ = [
    "HOST", "LIBRARY", "MOMENT", "PATIENCE", "PROGRAM_SECONDS", "SECONDS", "SIGNALS",
    "BlockingClient", "Certificate", "Client", "ClientReply", "Message", "Program", "Served",
    "Talk", "Witness", "assert_serves", "auth_plain", "beside", "bound_socket", "cut_at",
    "descriptors", "environment", "free_port", "greenlets", "missing", "octets", "poll", "program",
    "proxies", "python", "raising", "run", "running", "serve", "succeed", "take_replies",
    "take_reply", "talking", "tcp_address", "trusting", "two_pieces", "until_read", "wait_until",
    "witnessed",
]  # fmt: skip
