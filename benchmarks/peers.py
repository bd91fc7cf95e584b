"""The servers that are compared: how each is had, started, and read from /proc."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVERS = HERE / "servers"
CACHE = HERE / ".cache"
SMTP_SERVER = "smtp-server@3.21.6"
GOPATH = Path("/usr/share/gocode")  # where Debian puts Go sources
GO_PACKAGES = ("go-smtp", "go-sasl")  # the first needs the second but doesn't depend on it
TICKS = os.sysconf("SC_CLK_TCK")
START_TIMEOUT = 15.0


class Unavailable(Exception):
    """A peer or a tool can't be had; the text says what to install."""


@dataclass(frozen=True)
class Peer:
    """A server that listens on 127.0.0.1; "{port}" in its command becomes the port."""

    name: str
    command: tuple[str, ...]


def tool(name: str, package: str) -> str:
    """The path of a program, looked for in the system's sbin too."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise Unavailable(f"no {name}: install {package}")
    return found


def smtp_blinker(name: str = "smtp_blinker", *flags: str) -> Peer:
    script = str(SERVERS / "smtp_blinker_server.py")
    return Peer(name, (sys.executable, script, "{port}", *flags))


def beside(checkout: Path) -> Peer:
    """This library as another checkout of it has it, which needs the same packages."""
    script = str(checkout / "benchmarks/servers/smtp_blinker_server.py")
    path = f"PYTHONPATH={checkout}"
    return Peer(checkout.name, ("env", path, sys.executable, script, "{port}"))


def with_tls(peer: Peer) -> Peer:
    """The same with a certificate, offering STARTTLS."""
    return Peer(peer.name, (*peer.command, "--tls", str(certificate("ec"))))


def certificate(kind: str) -> Path:
    """A self-signed certificate and its key, in one PEM file: "ec" (P-256) or "rsa:BITS"."""
    file = CACHE / f"{kind.replace(':', '-')}.pem"
    if not file.exists():
        curve = ["-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else []
        command = [tool("openssl", "openssl"), "req", "-x509", "-nodes", "-newkey", kind, *curve]
        key = CACHE / "key.pem"
        out = ["-subj", "/CN=localhost", "-days", "36500", "-keyout", str(key), "-out", str(file)]
        build([*command, *out])
        file.write_text(file.read_text() + key.read_text())
        key.unlink()
    return file


def with_listeners() -> Peer:
    return smtp_blinker("with listeners", "--listeners")


def with_a_log_line() -> Peer:
    return smtp_blinker("one line of logging", "--logging")


def ground() -> Peer:
    return Peer("bare gevent loop", (sys.executable, str(SERVERS / "ground.py"), "{port}"))


def aiosmtpd() -> Peer:
    if importlib.util.find_spec("aiosmtpd") is None:
        raise Unavailable("no aiosmtpd: pip install aiosmtpd")
    return Peer("aiosmtpd", (sys.executable, str(SERVERS / "aiosmtpd_server.py"), "{port}"))


def smtp_server() -> Peer:
    node, npm = tool("node", "nodejs"), tool("npm", "npm")
    package = CACHE / "node_modules" / "smtp-server" / "package.json"
    if not package.exists():
        build([npm, "install", "--no-audit", "--no-fund", "--prefix", str(CACHE), SMTP_SERVER])
    return Peer("smtp-server", (node, str(SERVERS / "smtp_server.js"), "{port}"))


def go_smtp() -> Peer:
    go = tool("go", "golang-go")
    for package in GO_PACKAGES:
        if not (GOPATH / "src/github.com/emersion" / package).exists():
            raise Unavailable(f"no {package}: install golang-github-emersion-{package}-dev")
    program = CACHE / "gosmtp"
    source = SERVERS / "gosmtp" / "main.go"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        places = {"GOPATH": str(GOPATH), "GOCACHE": str(CACHE / "go-build")}
        modules = {"GO111MODULE": "off", "GOFLAGS": ""}
        build([go, "build", "-o", str(program), str(source)], places | modules)
    return Peer("go-smtp", (str(program), "{port}"))


def smtp_sink() -> Peer:
    sink = tool("smtp-sink", "postfix")
    user = ("-u", "nobody") if os.geteuid() == 0 else ()  # it refuses to run as root
    return Peer("smtp-sink", (sink, *user, "-m", "10000", "127.0.0.1:{port}", "1024"))


def build(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, env=os.environ | (environment or {}), capture_output=True, text=True, cwd=CACHE
    )
    if done.returncode:
        raise Unavailable(f"{' '.join(command[:3])} failed: {done.stderr.strip()}")


def available() -> Iterator[Peer]:
    """Every server that can be had here, this library first, the floors last."""
    CACHE.mkdir(exist_ok=True)
    for make in (smtp_blinker, smtp_server, aiosmtpd, go_smtp, ground, smtp_sink):
        try:
            yield make()
        except Unavailable as reason:
            print(f"left out: {reason}", file=sys.stderr)


def available_with_tls() -> Iterator[Peer]:
    """Those of the servers that can be had with TLS: in the others the client has no STARTTLS."""
    CACHE.mkdir(exist_ok=True)
    for make in (smtp_blinker, smtp_server, go_smtp, ground):
        try:
            yield with_tls(make())
        except Unavailable as reason:
            print(f"left out: {reason}", file=sys.stderr)


def cpu(process: int) -> float:
    """Seconds of CPU that a process has used, user and system, all threads, in steps of a tick."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Server:
    """A peer's running process, which the program that started it closes."""

    def __init__(self, peer: Peer) -> None:
        """Start it and wait until it accepts; raises Unavailable if it never does."""
        self.name = peer.name
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        log = CACHE / f"{peer.name.replace(' ', '-')}.log"
        environment = os.environ | {
            "PYTHONPATH": str(HERE.parent),
            "NODE_PATH": str(CACHE / "node_modules"),
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [part.format(port=self.port) for part in peer.command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=CACHE,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.05)
        self.close()
        raise Unavailable(f"{peer.name} did not start: see .cache/{log.name}")

    def cpu(self) -> float:
        """Seconds of CPU so far, in steps of a tick (10 ms)."""
        return cpu(self.process.pid)

    def memory(self) -> int:
        """Bytes of memory the process has to itself, plus its share of what it shares."""
        for line in self.proc("smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no Pss in smaps_rollup")

    def proc(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
