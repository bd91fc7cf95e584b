#!/usr/bin/env python
"""Receive mail into a Maildir. With nothing configured: 127.0.0.1:2525, for anyone, ./Maildir.

Everything is checked, and every address bound, before the first client is served: what can't be
used is told in one line on standard error, and the exit status is 2.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import resource
import shlex
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, NoReturn

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until `serve` can let messages end first, Ctrl-C ends the program at once and says nothing.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    import click
    from click.core import ParameterSource
except ImportError:
    here = Path(__file__).resolve().parent.parent
    what = f"{here}[serve]" if (here / "setup.py").exists() else "smtp_blinker[serve]"
    print(f"serve.py: click is missing; {sys.executable} -m pip install '{what}'", file=sys.stderr)
    sys.exit(2)
import gevent
from gevent.event import Event
from gevent.pywsgi import WSGIServer

# From a checkout the program runs without being installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from smtp_blinker import Reject, SMTPServer
from smtp_blinker.connection.tls import make_context
from smtp_blinker.listeners.log import EventLog, JSONFormatter
from smtp_blinker.session import Address, Session
from smtp_blinker.smtp.paths import parse_path
from smtp_blinker.smtp.xclient import is_host_name
from smtp_blinker.stores import MaildirStore
from smtp_blinker.users import UserFile, set_password

log = logging.getLogger("smtp_blinker.serve")

ENVIRONMENT = "SMTP_BLINKER"
DEFAULT_HTTP = "127.0.0.1:8025"
#: Where a server that listens everywhere is reached from here.
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
#: In the place of a network: whoever connects by a UNIX socket.
UNIX = "unix"
PROTOCOLS = {"smtp": "SMTP", "smtps": "SMTPS", "lmtp": "LMTP"}


class Unusable(click.ClickException):
    """Something that the program was told to use can't be used: one line and exit status 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"serve.py: {self.message}", file=file, err=True)


@dataclass(frozen=True, slots=True)
class Listen:
    """One address to listen on."""

    scheme: str
    #: What `SMTPServer` takes: host and port, or "unix:/path".
    address: tuple[str, int] | str

    def __str__(self) -> str:
        if isinstance(self.address, str):
            return self.address
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_listen(text: str) -> Listen:
    """``[SCHEME://]HOST:PORT`` with smtp, smtps or lmtp as the scheme, or ``lmtp:///PATH``.

    Raises `click.BadParameter` for anything else.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "smtp", text
    if scheme not in PROTOCOLS:
        raise click.BadParameter(f"{scheme}:// is none of smtp://, smtps://, lmtp://")
    if scheme == "lmtp" and rest.startswith("/"):
        return Listen(scheme, f"unix:{rest}")
    host, colon, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise click.BadParameter(f"an IPv6 address stands in brackets: [{host}]:{port}")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{text!r} is neither [SCHEME://]HOST:PORT nor lmtp:///PATH")
    return Listen(scheme, (host, int(port)))


def parse_addresses(texts: Sequence[str]) -> tuple[Listen, ...]:
    """One address at least; raises `click.BadParameter` for none (an empty variable)."""
    if not texts:
        raise click.BadParameter("it is empty: where shall mail come in?")
    return tuple(map(parse_listen, texts))


def parse_http(text: str) -> Listen | None:
    """``HOST:PORT``, or None for "off"; raises `click.BadParameter` for anything else."""
    if text == "off":
        return None
    if "://" in text or ":" not in text:
        raise click.BadParameter(f"{text!r} is not HOST:PORT")
    return parse_listen(text)


def parse_name(text: str) -> str:
    """A host name, of which a client may be told; raises `click.BadParameter` for others."""
    if not is_host_name(text):
        raise click.BadParameter(f"{text!r} is no host name; an international one is said as xn--…")
    return text


def parse_domain(text: str) -> str:
    """A domain as it is compared; raises `click.BadParameter` for what is none."""
    try:
        address, rest = parse_path(f"TO:<postmaster@{text}>", False, True, False)
    except Reject:
        address, rest = "", ""
    if not address or rest:
        raise click.BadParameter(
            f"{text!r} is no domain such as example.com; in the environment spaces separate several"
        )
    return address.partition("@")[2].lower()


def parse_trust(text: str) -> str:
    """An address or network, or UNIX; raises `click.BadParameter` for what is none."""
    if text != UNIX:
        try:
            ip_network(text, strict=False)
        except ValueError as exc:
            raise click.BadParameter(f"{exc}; for UNIX sockets say {UNIX}") from None
    return text


def parse_http_auth(text: str | None) -> tuple[str, str] | None:
    """``NAME:PASSWORD``; raises `click.BadParameter` for anything else, not showing it."""
    if text is None:
        return None
    name, _, password = text.partition(":")
    if not name or not password:
        raise click.BadParameter("it is NAME:PASSWORD, and neither is empty")
    return name, password


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of the command line, under their names there."""

    listen: tuple[Listen, ...]
    maildir: str
    name: str
    domain: tuple[str, ...]
    cert: str | None
    key: str | None
    self_signed: bool
    users: str | None
    require_auth: bool
    size: int
    max_clients: int
    max_clients_per_ip: int | None
    workers: int
    max_recipients: int
    trusted_proxy: tuple[str, ...]
    xclient: tuple[str, ...]
    xforward: tuple[str, ...]
    http: Listen | None
    #: Said by the user, so that it must be had; by default it may be missing.
    http_asked: bool
    http_auth: tuple[str, str] | None
    http_host: tuple[str, ...]
    log_format: str
    log_level: str


option = functools.partial(click.option, show_default=True, show_envvar=True)


def each(parse: Callable[[str], str]) -> Callable[..., tuple[str, ...]]:
    """A callback that checks each value of an option."""
    return lambda context, parameter, values: tuple(map(parse, values))


@click.group(
    invoke_without_command=True,
    context_settings={
        "auto_envvar_prefix": ENVIRONMENT,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@option(
    "--listen",
    "-l",
    metavar="ADDRESS",
    multiple=True,
    callback=lambda context, parameter, values: parse_addresses(values),
    default=["127.0.0.1:2525"],
    help="HOST:PORT or [IPV6]:PORT; with smtps:// before it TLS begins at once, with lmtp:// it "
    "is LMTP; lmtp:///PATH is a UNIX socket. Repeatable.",
)
@option("--maildir", "-m", default="./Maildir", help="Where the mail goes; made if missing.")
@option(
    "--name",
    default=socket.gethostname,
    callback=lambda context, parameter, value: parse_name(value),
    show_default="host name",
    help="This server's name.",
)
@option(
    "--domain",
    "-d",
    multiple=True,
    callback=each(parse_domain),
    help="Accept mail for this domain (repeatable) and postmaster only; without it, for anyone.",
)
@option("--cert", help="TLS certificate with its chain, PEM.")
@option("--key", help="Its private key, PEM.", show_default="in the --cert file")
@option("--self-signed", is_flag=True, help="Make a certificate on the spot, to try TLS.")
@option("--users", help="Offer AUTH to those in this file; `adduser` writes it.")
@option("--require-auth", is_flag=True, help="Accept mail only after AUTH, by LMTP too.")
@option(
    "--size", type=click.IntRange(0), default=25 * 2**20, help="Largest message in bytes, 0: any."
)
@option(
    "--max-clients",
    type=click.IntRange(1),
    default=1000,
    help="Connections at once, of each listen address.",
)
@option(
    "--max-clients-per-ip", type=click.IntRange(1), help="The same from one address.  [no limit]"
)
@option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    help="Processes, with the extra gunicorn and without the web page; --max-clients and "
    "--max-clients-per-ip count in each of them.",
)
@option("--max-recipients", type=click.IntRange(1), default=1000, help="Of one message.")
@option(
    "--trusted-proxy",
    multiple=True,
    callback=each(parse_trust),
    help=f"Address or network of a proxy whose PROXY header is demanded and believed, or {UNIX} "
    "for UNIX sockets; nobody else may connect there. Repeatable.",
)
@option(
    "--xclient",
    multiple=True,
    callback=each(parse_trust),
    help=f"Address or network that may use XCLIENT, or {UNIX}. Repeatable.",
)
@option(
    "--xforward",
    multiple=True,
    callback=each(parse_trust),
    help=f"Address or network that may use XFORWARD, or {UNIX}. Repeatable.",
)
@option(
    "--http",
    metavar="ADDRESS",
    callback=lambda context, parameter, value: parse_http(value),
    default=DEFAULT_HTTP,
    help="HOST:PORT of the web page with its API and /metrics, or off.",
)
@option(
    "--http-auth",
    metavar="NAME:PASSWORD",
    callback=lambda context, parameter, value: parse_http_auth(value),
    help="Demand them there; better said in the environment, where fewer can read it.",
)
@option(
    "--http-host",
    multiple=True,
    help="Host name it is reached by, besides localhost, --name and any address. Repeatable.",
)
@option("--log-format", type=click.Choice(["text", "json"]), default="text")
@option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Receive mail by SMTP, SMTPS and LMTP and store each message in a Maildir.

    SIGTERM and SIGINT let what is being received end, then stop. SIGHUP reads the certificate
    and the users anew without dropping a client.
    """
    if context.invoked_subcommand is None:
        asked = context.get_parameter_source("http") is not ParameterSource.DEFAULT
        serve(Settings(http_asked=asked, **options))


@main.command()
@click.argument("name")
@option("--users", envvar=f"{ENVIRONMENT}_USERS", help="The users file; made if missing.")
@option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.pass_context
def adduser(context: click.Context, name: str, users: str | None, password_stdin: bool) -> None:
    """Let NAME log in, or change NAME's password."""
    assert context.parent is not None
    path = users or context.parent.params["users"]
    if path is None:
        raise click.UsageError("say which file to write with --users FILE")
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        # The prompt must show again what is typed when Ctrl-C ends it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    try:
        set_password(path, name, password)
    except (OSError, ValueError) as exc:
        raise Unusable(f"{path} was not changed: {exc}") from exc
    click.echo(f"{name} can log in; a server that is running learns of it by SIGHUP")


def serve(settings: Settings) -> None:
    """Run the server until a signal ends it; raises `Unusable` before it has begun anything."""
    raise_file_limit()
    if settings.workers > 1:
        serve_with_workers(settings)
    users = open_users(settings)
    tls = open_certificate(settings)
    servers = make_servers(settings, users, tls)
    # Before anybody can see that it has begun.
    stopping = Event()
    gevent.signal_handler(signal.SIGTERM, stopping.set)
    gevent.signal_handler(signal.SIGINT, stop_or_die, stopping)
    gevent.signal_handler(signal.SIGHUP, reload, settings, users, servers)
    bind(settings, servers)
    page = open_page(settings, servers, lambda: store.check_folders())
    store = open_store(settings, servers)  # the last of them: it makes the folder
    start_logging(settings)
    for server in servers:
        server.on_data(store)
        server.start()
    if not isinstance(page, str):
        page.start()
    announce(settings, [server.server_port or 0 for server in servers], page)
    stopping.wait()
    # Meanwhile the page says that this server isn't ready any more.
    gevent.joinall([gevent.spawn(server.stop) for server in servers], raise_error=True)
    if not isinstance(page, str):
        page.stop(timeout=1)


def serve_with_workers(settings: Settings) -> NoReturn:
    """The same in many processes: gunicorn's arbiter has the sockets and hears the signals.

    They mean what they mean without it: SIGINT lets messages end, and SIGHUP makes every process
    read the users and the certificate; here too, for the workers that begin later.
    """
    try:
        from smtp_blinker.gunicorn import SMTPWorker, run
    except ImportError as exc:
        raise Unusable(f"--workers: {exc}") from exc
    if settings.http_asked and settings.http is not None:
        raise Unusable("the web page is about one process: give --http off or --workers 1")
    users = open_users(settings)
    tls = open_certificate(settings)
    # What can't be had is told as ever, in one line.
    trial = make_servers(settings, users, tls)
    bind(settings, trial)
    close(trial)
    store = open_store(settings)
    servers = make_servers(settings, users, tls, listening=False)
    for server in servers:
        server.on_data(store)
    read_again = functools.partial(reload, settings, users, servers)

    class ServeWorker(SMTPWorker):
        def init_signals(self) -> None:
            super().init_signals()
            gevent.signal_handler(signal.SIGHUP, read_again)

        def handle_quit(self, sig: int, frame: Any) -> None:
            # A terminal's SIGINT reaches all processes; it is the arbiter's to say what it means.
            if sig != signal.SIGINT:
                super().handle_quit(sig, frame)

    def hang_up(arbiter: Any) -> None:
        read_again()
        arbiter.kill_workers(signal.SIGHUP)

    def ready(arbiter: Any) -> None:
        arbiter.handle_int = arbiter.handle_term
        arbiter.handle_hup = functools.partial(hang_up, arbiter)
        names = [listener.getsockname() for listener in arbiter.LISTENERS]
        ports = [name[1] if isinstance(name, tuple) else 0 for name in names]
        announce(settings, ports, "it is about one process" if settings.http is not None else "")

    start_logging(settings)
    run(
        lambda: servers,
        [listen.address for listen in settings.listen],
        settings.workers,
        worker_class=ServeWorker,
        loglevel="warning",
        when_ready=ready,
    )


def start_logging(settings: Settings) -> None:
    json = settings.log_format == "json"
    handler = logging.StreamHandler()
    handler.setFormatter(
        JSONFormatter() if json else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    # In JSON a traceback stays within the line; in text it could forge others.
    EventLog(tracebacks=json).attach()


def raise_file_limit() -> None:
    """Two descriptors for each client and more are needed; 1024 is a common soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems don't take "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open_store(settings: Settings, servers: Sequence[SMTPServer] = ()) -> MaildirStore:
    if not settings.maildir:
        close(servers)
        raise Unusable("--maildir is empty: where shall the mail go?")
    try:
        store = MaildirStore(settings.maildir, settings.name)
        store.check()
    except OSError as exc:
        close(servers)
        raise Unusable(
            f"can't write to the Maildir {settings.maildir}: {exc.strerror}; "
            "make it writable or choose another with --maildir"
        ) from exc
    return store


def open_users(settings: Settings) -> UserFile | None:
    if settings.users is None:
        if settings.require_auth:
            raise Unusable("--require-auth needs --users: who may log in?")
        return None
    try:
        return UserFile(settings.users)
    except FileNotFoundError as exc:
        program = f"{shlex.quote(sys.executable)} {shlex.quote(sys.argv[0])}"
        command = f"{program} adduser NAME --users {shlex.quote(settings.users)}"
        raise Unusable(f"there is no {settings.users}; make it with: {command}") from exc
    except OSError as exc:
        raise Unusable(f"can't read {settings.users}: {exc.strerror}; see --users") from exc
    except ValueError as exc:
        raise Unusable(f"{exc}; mend the line or write it with adduser") from exc


def open_certificate(settings: Settings) -> ssl.SSLContext | None:
    if settings.self_signed:
        if settings.cert is not None or settings.key is not None:
            raise Unusable("give either --cert and --key or --self-signed, not both")
        return self_signed_context(settings.name)
    if settings.cert is None:
        if settings.key is not None:
            raise Unusable("--key needs --cert, the certificate that belongs to it")
        for listen in settings.listen:
            if listen.scheme == "smtps":
                raise Unusable(f"smtps://{listen} needs --cert and --key, or --self-signed")
        return None
    try:
        return make_context(settings.cert, settings.key)
    except OSError as exc:
        raise Unusable(f"{certificate_problem(exc)}; see --cert and --key") from exc


def certificate_problem(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLError):
        return f"certificate and key can't be used: {exc.strerror}"
    return f"can't read {exc.filename}: {exc.strerror}"


def self_signed_context(name: str) -> ssl.SSLContext:
    """A context with a new certificate for localhost and *name*, that lives as long as this run."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise Unusable(
            "--self-signed needs the package cryptography; pip install 'smtp_blinker[serve]'"
        ) from None
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "smtp_blinker, for trying")])
    names = {"localhost"}
    with suppress(UnicodeError):  # not every host's name could stand in the DNS
        names.add(name.encode("idna").decode("ascii"))
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(names)]
    alternatives += [x509.IPAddress(ip_address(text)) for text in ("127.0.0.1", "::1")]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    # OpenSSL takes a key from a file only; this one is 0600 and gone when it was read.
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        return make_context(file.name)


def make_servers(
    settings: Settings,
    users: UserFile | None,
    tls: ssl.SSLContext | None,
    listening: bool = True,
) -> list[SMTPServer]:
    """A server for each address, to be given its store before it starts.

    Not *listening* they are for sockets that gunicorn has.
    """
    try:
        servers = [
            SMTPServer(
                listen.address if listening else None,
                name=settings.name,
                size=settings.size,
                secure=listen.scheme == "smtps",
                lmtp=listen.scheme == "lmtp",
                ssl_context=tls,
                auth_optional=not settings.require_auth,
                max_clients=settings.max_clients,
                max_clients_per_ip=settings.max_clients_per_ip,
                max_recipients=settings.max_recipients,
                use_proxy=trust(settings.trusted_proxy, listen),
                use_xclient=trust(settings.xclient, listen),
                use_xforward=trust(settings.xforward, listen),
                logger=settings.log_level == "debug" or None,
                auth_methods=("SCRAM-SHA-256", "PLAIN", "LOGIN"),
                on_auth=users,
                on_rcpt_to=recipient_check(settings.domain),
            )
            for listen in settings.listen
        ]
    except (TypeError, ValueError) as exc:
        raise Unusable(str(exc)) from exc
    if users is not None:
        offer_scram(users, servers)
    return servers


def offer_scram(users: UserFile, servers: Sequence[SMTPServer]) -> None:
    """Offer SCRAM where no user is without keys: a client that can choose takes it."""
    for server in servers:
        server.hooks.set("on_scram", users.scram if users.all_have_scram else None)


def trust(names: Sequence[str], listen: Listen) -> bool | list[str]:
    """Whom to trust at *listen*. The peer of a UNIX socket has no address to go by."""
    if isinstance(listen.address, str):
        return UNIX in names
    return [name for name in names if name != UNIX] or False


def recipient_check(domains: Sequence[str]) -> Any:
    """An `on_rcpt_to` that refuses what is for none of *domains*; None when there are none."""
    if not domains:
        return None
    ours = frozenset(domains)

    def on_rcpt_to(address: Address, session: Session) -> None:
        _, at, domain = address.address.lower().rpartition("@")
        if not at and domain == "postmaster":
            return  # RFC 5321 section 4.5.1
        if not at or domain not in ours:
            raise Reject(550, "Relaying denied", "5.7.1")

    return on_rcpt_to


def bind(settings: Settings, servers: Sequence[SMTPServer]) -> None:
    """Have every address, or none; nobody is served yet."""
    for listen, server in zip(settings.listen, servers, strict=True):
        try:
            server.init_socket()
        except OSError as exc:
            close(servers)
            raise Unusable(bind_problem(listen, exc)) from exc


def close(servers: Sequence[SMTPServer]) -> None:
    """Give back what `bind` has got."""
    for server in servers:
        server.close()


def open_page(
    settings: Settings, servers: Sequence[SMTPServer], check: Callable[[], object]
) -> WSGIServer | str:
    """The web page, its address bound; or why there is none, "" if none is wanted.

    *check* raises the OSError that keeps mail from being stored.
    What was asked for must be had; without the page that is there by default mail is received
    as well.
    """
    if settings.http is None:
        return ""
    try:
        from smtp_blinker.web import PageServer, create_app
    except ImportError as exc:
        return no_page(settings, servers, f"{exc}; or give --http off", exc)
    app = create_app(
        servers,
        settings.maildir,
        credentials=settings.http_auth,
        hosts=(settings.name, *settings.http_host),
        check=check,
    )
    assert isinstance(settings.http.address, tuple)
    page = PageServer(settings.http.address, app)
    try:
        page.init_socket()
    except OSError as exc:
        return no_page(settings, servers, bind_problem(settings.http, exc, "--http"), exc)
    return page


def no_page(settings: Settings, servers: Sequence[SMTPServer], problem: str, exc: Exception) -> str:
    if settings.http_asked:
        close(servers)
        raise Unusable(problem) from exc
    return problem


def bind_problem(listen: Listen, exc: OSError, option: str = "--listen") -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"{listen} is in use; stop what listens there or choose another with {option}"
    if exc.errno in {errno.EACCES, errno.EPERM}:
        return (
            f"not allowed to listen on {listen}; run as root (ports below 1024) "
            f"or choose another with {option}"
        )
    # gevent has put the address behind the text of the system's.
    problem = os.strerror(exc.errno) if exc.errno else str(exc)
    return f"can't listen on {listen}: {problem}; choose another with {option}"


def stop_or_die(stopping: Event) -> None:
    """SIGINT: the first asks to drain, the second doesn't wait for it."""
    if stopping.is_set():
        os._exit(128 + signal.SIGINT)
    stopping.set()


def reload(settings: Settings, users: UserFile | None, servers: Sequence[SMTPServer]) -> None:
    """SIGHUP: the users and the certificate anew; what can't be read stays as it was."""
    if users is not None:
        try:
            users.reload()
            offer_scram(users, servers)
            log.info("%s users read from %s", len(users), users.path)
        except (OSError, ValueError) as exc:
            log.error("the users stay as they were: %s", exc)
    if settings.cert is not None:
        try:
            context = make_context(settings.cert, settings.key)
        except OSError as exc:
            log.error("the certificate stays as it was: %s", certificate_problem(exc))
            return
        for server in servers:
            server.update_secure_context(ssl_context=context)
        log.info("certificate read from %s", settings.cert)


def announce(settings: Settings, ports: Sequence[int], page: WSGIServer | str) -> None:
    """Say where to send mail, with a line to try it."""
    bound = []
    for listen, port in zip(settings.listen, ports, strict=True):
        if isinstance(listen.address, tuple):
            listen = Listen(listen.scheme, (listen.address[0], port))
        bound.append(listen)
        protocol = PROTOCOLS[listen.scheme]
        say(f"Listening on {listen} ({protocol}); mail goes to {settings.maildir}")
    encrypted = settings.self_signed or settings.cert is not None
    if settings.users is not None and not encrypted:
        say("Passwords are sent in clear: give --cert and --key, or --self-signed to try.")
    if not isinstance(page, str):
        announce_page(settings, page)
    elif page:
        say(f"No web page: {page}")
    if not settings.trusted_proxy:  # nobody but the proxy can send there
        say(f"Try: {trial(settings, bound[0], encrypted)}")


def say(line: str) -> None:
    """Print *line*; when nobody reads it, mail is received all the same."""
    try:
        print(line, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # or it would be tried again at the end


def announce_page(settings: Settings, page: WSGIServer) -> None:
    assert settings.http is not None
    host = str(settings.http.address[0])
    shown = LOOPBACK.get(host, host)
    say(f"Web page: http://{Listen('http', (shown, page.server_port or 0))}/")
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and settings.http_auth is None:
        say("Whoever reaches the page can read and delete the mail: give --http-auth.")


def trial(settings: Settings, listen: Listen, encrypted: bool) -> str:
    """A shell command that sends a message to *listen*, with nothing but Python."""
    kind = {"smtp": "SMTP", "smtps": "SMTP_SSL", "lmtp": "LMTP"}[listen.scheme]
    if isinstance(listen.address, str):
        arguments = repr(listen.address.removeprefix("unix:"))
    else:
        host, port = listen.address
        arguments = f"{LOOPBACK.get(host, host)!r}, {port}"
    steps = [f"import smtplib; s = smtplib.{kind}({arguments})"]
    if settings.require_auth:
        if encrypted and kind != "SMTP_SSL":
            steps.append("s.starttls()")
        steps.append("s.login('NAME', 'PASSWORD')")
    recipient = "postmaster" if settings.domain else "me@example.com"
    content = f"To: {recipient}\\nSubject: It works\\n\\nHello"
    steps.append(f"s.sendmail('you@example.com', '{recipient}', '{content}')")
    # Nothing in it means anything to a shell within double quotes.
    return f'{shlex.quote(sys.executable)} -c "{"; ".join(steps)}"'


if __name__ == "__main__":
    main()
