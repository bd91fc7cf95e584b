"""Stores and consumers before brokers with TLS, users and passwords of any characters."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from support import Program, free_port

from .engines import RabbitMQ, Redis
from .names import Certificates
from .nodes import Node

#: What must be percent-encoded in a URL.
USER, PASSWORD = "ma:l@us/er", "p@ss/w:rd?#%25 \u00e9"
VIRTUAL_HOST = "/mail & more"

CONSUMER = """
import sys
from smtp_blinker.consumers import consume

def handler(envelope, content):
    print(content.decode().strip(), flush=True)
    raise SystemExit

consume(sys.argv[1], handler)
"""


@pytest.fixture(scope="module")
def broker(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[tuple[RabbitMQ, str]]:
    """A RabbitMQ, and where it is with TLS: all but what stands behind the "?"."""
    engine = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    port = free_port()
    (engine.folder / "rabbitmq.conf").write_text(
        f"listeners.ssl.1 = 127.0.0.1:{port}\n"
        f"ssl_options.certfile = {certificates.server}\n"
        f"ssl_options.keyfile = {certificates.server}\n"
        f"ssl_options.cacertfile = {certificates.ca}\n"
    )
    with engine:
        engine.control("add_user", USER, PASSWORD)
        engine.control("add_vhost", VIRTUAL_HOST)
        engine.control("set_permissions", "-p", VIRTUAL_HOST, USER, ".*", ".*", ".*")
        who = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
        yield engine, f"amqps://{who}@localhost:{port}/{quote(VIRTUAL_HOST, safe='')}"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[tuple[Redis, str]]:
    """The same with Redis."""
    port = free_port()
    pem = str(certificates.server)
    engine = Redis(
        tmp_path_factory.mktemp("redis"),
        *("--tls-port", str(port), "--tls-cert-file", pem, "--tls-key-file", pem),
        *("--tls-ca-cert-file", str(certificates.ca), "--tls-auth-clients", "no"),
        *("--requirepass", PASSWORD),
    )
    engine.is_ready = engine.asks_for_password  # type: ignore[method-assign]
    with engine:
        yield engine, f"rediss://:{quote(PASSWORD, safe='')}@localhost:{port}/3"


def ends(node: Node, url: str) -> None:
    """The message that *node* takes comes out at the other end."""
    with node:
        assert node.send(b"Hello\r\n").startswith("250 "), node.lines
    with Program("-c", CONSUMER, url) as consumer:
        consumer.wait_for("Hello")


def refused(node: Node, why: str) -> None:
    with node:
        assert node.send().startswith("451 4.3.0 ")
        node.wait_for(why)
        assert not any("ss/w" in line for line in node.lines), "the password is nobody's business"


@pytest.mark.timeout(300)  # it waits for the engine's start
def test_rabbitmq_with_tls(broker: tuple[RabbitMQ, str], certificates: Certificates) -> None:
    _, url = broker
    size = {"size": 2**20}
    right = url + f"?cacertfile={certificates.ca}"
    ends(Node("AMQPStore", right, {}, **size), right)
    refused(Node("AMQPStore", url, {}, **size), "CERTIFICATE_VERIFY_FAILED")
    stranger = right.replace(quote(PASSWORD, safe=""), "ss/w".replace("/", "%2F"))
    refused(Node("AMQPStore", stranger, {}, **size), "RabbitMQ is away: ")


def test_redis_with_tls(server: tuple[Redis, str], certificates: Certificates) -> None:
    _, url = server
    size = {"size": 2**20}
    right = url + f"?ssl_ca_certs={certificates.ca}"
    ends(Node("RedisStreamStore", right, {}, **size), right)
    refused(Node("RedisStreamStore", url, {}, **size), "CERTIFICATE_VERIFY_FAILED")
    stranger = right.replace(quote(PASSWORD, safe=""), "wrong")
    refused(Node("RedisStreamStore", stranger, {}, **size), "Redis is away: ")
