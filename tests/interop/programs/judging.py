"""SenderAuthentication in a process that is monkey patched first, last ("late") or not at all.

Usage: judging.py patched|late|unpatched port-of-the-name-server file-with-a-message
"""

# ruff: noqa: E402

from __future__ import annotations

import sys

MODE, PORT, MAIL = sys.argv[1:]

if MODE == "patched":
    from gevent import monkey

    monkey.patch_all()

import socket
from pathlib import Path
from typing import Any

import gevent
from gevent import socket as gevent_socket

from smtp_blinker import SMTPServer
from smtp_blinker.policies import SenderAuthentication
from smtp_blinker.policies.dns import DNSFailure, Resolver

if MODE == "late":
    from gevent import monkey

    monkey.patch_all()

HOST = "127.0.0.1"
BEATS = 20
found: list[Any] = []


def keep(stream: Any, session: Any) -> None:
    stream.read()
    found.append(session.envelope.results["sender_authentication"])


def say(client: Any, line: bytes) -> None:
    client.sendall(line)
    assert client.recv(4096)[:1] in b"23", line


server = SMTPServer((HOST, 0), disable_reverse_lookup=True, on_data=keep)
resolver = Resolver([(HOST, int(PORT))])
server.use(SenderAuthentication("mx.test", resolver=resolver, trusted=(), timeout=60))
server.start()
with gevent_socket.create_connection((HOST, server.server_port)) as client:
    content = Path(MAIL).read_bytes()
    for line in (
        *(b"", b"EHLO client.good.test\r\n", b"MAIL FROM:<a@good.test>\r\n"),
        *(b"RCPT TO:<b@mx.test>\r\n", b"DATA\r\n", content + b".\r\n", b"QUIT\r\n"),
    ):
        say(client, line)
server.stop()
[result] = found
print(result.spf.result, result.dkim[0].result, result.dmarc.result)

beats = 0


def beat() -> None:
    global beats
    while True:
        gevent.sleep(0.001)
        beats += 1


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
    silent.bind((HOST, 0))
    beating = gevent.spawn(beat)
    while beats < BEATS:  # however long that takes on a busy machine
        try:
            Resolver([silent.getsockname()]).query("good.test", "TXT", 0.2)
        except DNSFailure:
            pass
    beating.kill()
print("the hub went on")
