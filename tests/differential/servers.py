"""The servers that compare.py plays to: how each is had, started and asked what it took.

All of them take mail from anybody for example.com, of 1 MiB at most, have neither TLS nor AUTH,
and are as their authors deliver them otherwise; but for Postfix, which refuses bare newlines.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support import free_port  # noqa: E402

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
SMTP_SERVER = "smtp-server@3.21.6"
SIZE = 2**20
#: Seconds that a server may take to start.
START = 30.0


class Unavailable(Exception):
    """A server can't be had here; the text names what is missing."""


class Server:
    """A process that serves SMTP on a port of 127.0.0.1 until `stop`."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.taken = folder / "taken"
        self.taken.touch()
        self.process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
            self._wait()
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        raise NotImplementedError

    def run(self, *command: str, **environment: str) -> None:
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + START
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), START) as sock:
                    if sock.recv(100).startswith(b"220"):
                        return
            except OSError:
                pass
            ended = self.process is not None and self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                log = self.folder / "log"
                text = log.read_text(errors="replace")[-500:] if log.exists() else ""
                raise Unavailable(f"{self.name} did not start: {text}")
            time.sleep(0.05)

    def messages(self, accepted: int) -> list[tuple[str, bytes | None]]:
        """Sender and content of every message so far, oldest first.

        *accepted* is how many the client heard a 250 for.
        """
        lines = self.taken.read_text().splitlines()
        pairs = [line.rpartition(" ") for line in lines]
        return [(sender, base64.b64decode(content)) for sender, _, content in pairs]

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Ours(Server):
    name = "smtp_blinker"

    def start(self) -> None:
        program = str(Path(__file__).resolve())
        self.run(
            sys.executable, program, "ours", str(self.port), str(self.taken), PYTHONPATH=str(ROOT)
        )


class Aiosmtpd(Server):
    name = "aiosmtpd"

    def start(self) -> None:
        if importlib.util.find_spec("aiosmtpd") is None:
            raise Unavailable("aiosmtpd is missing: pip install aiosmtpd")
        program = str(Path(__file__).resolve())
        self.run(sys.executable, program, "aiosmtpd", str(self.port), str(self.taken))


class SmtpServer(Server):
    name = "smtp-server"

    def start(self) -> None:
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            raise Unavailable("node and npm are missing: install nodejs and npm")
        modules = CACHE / "node_modules"
        if not (modules / "smtp-server").exists():
            CACHE.mkdir(exist_ok=True)
            done = subprocess.run(
                [npm, "install", "--no-audit", "--no-fund", "--prefix", str(CACHE), SMTP_SERVER],
                cwd=CACHE,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise Unavailable(f"npm can't install {SMTP_SERVER}: {done.stderr.strip()}")
        script = str(HERE / "smtp_server.js")
        self.run(node, script, str(self.port), str(self.taken), NODE_PATH=str(modules))


MAIN_CF = """
compatibility_level = 3.6
myhostname = server.example
mydomain = example
mydestination = $myhostname
local_transport = discard:
local_recipient_maps =
relay_domains = example.com
relay_transport = discard:
default_transport = discard:
relay_recipient_maps =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
message_size_limit = {size}
smtpd_forbid_bare_newline = reject
smtpd_forbid_bare_newline_exclusions =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_peername_lookup = no
# Its answers, not its patience, are compared.
smtpd_error_sleep_time = 0
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
"""

MASTER_CF = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
tlsmgr    unix  - - n 1000? 1 tlsmgr
smtp      unix  - - n - - smtp
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
showq     unix  n - n - - showq
postlog   unix-dgram n - n - 1 postlogd
"""


class Postfix(Server):
    """A private instance: its own configuration, queue and log."""

    name = "Postfix"

    def start(self) -> None:
        program = shutil.which("postfix", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
        if program is None:
            raise Unavailable("postfix is missing: install postfix")
        if os.geteuid() != 0:
            raise Unavailable("postfix has to be started by root")
        for name in ("config", "queue", "data"):
            (self.folder / name).mkdir(mode=0o755)
        shutil.chown(self.folder / "data", "postfix", "postfix")
        settings = {"folder": str(self.folder), "size": SIZE, "port": self.port}
        (self.folder / "config/main.cf").write_text(MAIN_CF.format(**settings))
        (self.folder / "config/master.cf").write_text(MASTER_CF.format(**settings))
        for parent in (self.folder, *self.folder.parents):
            if not parent.stat().st_mode & 0o001:
                raise Unavailable(f"the user postfix can't get into {parent}")
        self.control = [program, "-c", str(self.folder / "config")]
        done = subprocess.run([*self.control, "start"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"postfix did not start: {done.stderr.strip()}")

    def messages(self, accepted: int) -> list[tuple[str, bytes | None]]:
        # "queued as" is its word for it; the discard transport keeps no content.
        return [("", None)] * accepted

    def stop(self) -> None:
        if hasattr(self, "control"):
            subprocess.run([*self.control, "abort"], capture_output=True, check=False)


#: Ours first.
SERVERS: tuple[Callable[[Path], Server], ...] = (Ours, SmtpServer, Aiosmtpd, Postfix)


# What the processes of the Python servers run


def keep(path: str, sender: str, content: bytes) -> None:
    with open(path, "a") as file:
        file.write(f"{sender} {base64.b64encode(content).decode()}\n")


def serve_ours(port: int, path: str) -> None:
    from smtp_blinker import SMTPServer

    def on_data(stream: Any, session: Any) -> None:
        content = stream.read()
        keep(path, session.envelope.mail_from.address, content)

    SMTPServer(
        ("127.0.0.1", port),
        name="server.example",
        size=SIZE,
        disable_reverse_lookup=True,
        on_data=on_data,
    ).serve_forever()


def serve_aiosmtpd(port: int, path: str) -> None:
    from aiosmtpd.smtp import SMTP

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            keep(path, envelope.mail_from, envelope.content)
            return "250 OK"

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: SMTP(
                Handler(),
                hostname="server.example",
                data_size_limit=SIZE,
                enable_SMTPUTF8=True,
                loop=loop,
            ),
            "127.0.0.1",
            port,
        )
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    run = {"ours": serve_ours, "aiosmtpd": serve_aiosmtpd}[sys.argv[1]]
    run(int(sys.argv[2]), sys.argv[3])
