"""The command line: every option with its group, its default and its help."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from smtp_blinker import __version__
from smtp_blinker.users import set_password

from .help import GroupedHelp, option, with_variables, without_effect
from .program import serve
from .settings import Settings, Unusable
from .values import (
    UNIX,
    Positive,
    parse_addresses,
    parse_domain,
    parse_http,
    parse_http_auth,
    parse_http_path,
    parse_inboxes,
    parse_name,
    parse_optional_size,
    parse_rates,
    parse_relay,
    parse_size,
    parse_trust,
)

ENVIRONMENT = "SMTP_BLINKER"
COUNT = click.IntRange(1)


def each(parse: Callable[[str], str]) -> Callable[..., tuple[str, ...]]:
    """A callback that checks each value of an option."""
    return lambda context, parameter, values: tuple(map(parse, values))


def checked(parse: Callable[[Any], Any]) -> Callable[..., Any]:
    """A callback that checks the value, or all values together, of an option."""
    return lambda context, parameter, value: parse(value)


@click.group(
    cls=GroupedHelp,
    invoke_without_command=True,
    context_settings={
        "auto_envvar_prefix": ENVIRONMENT,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@option(
    "Listening",
    "--listen",
    "-l",
    metavar="ADDRESS",
    multiple=True,
    callback=checked(parse_addresses),
    default=["127.0.0.1:2525"],
    help="HOST:PORT or [IPV6]:PORT; smtps://HOST:PORT for TLS from the start; lmtp://HOST:PORT "
    "for LMTP; lmtp:///PATH for a UNIX socket. Repeatable.",
)
@option(
    "Listening",
    "--name",
    default=socket.gethostname,
    callback=checked(parse_name),
    show_default="host name",
    help="This server's name.",
)
@option(
    "Listening",
    "--workers",
    type=COUNT,
    default=1,
    help="Number of processes that receive mail; needs the extra gunicorn. --max-clients and "
    "--max-clients-per-ip apply to each process.",
)
@option(
    "Mail",
    "--maildir",
    "-m",
    default="./Maildir",
    help="Folder for the mail; created if missing.",
)
@option(
    "Mail",
    "--deliver",
    metavar="URL",
    help="Pass the mail on instead: to an HTTP endpoint, https://HOST/PATH; to another mail "
    "server, smtp://HOST, smtps:// or lmtp://; to a queue, "
    "amqp://USER:PASSWORD@HOST/?routing_key=mail (RabbitMQ) or redis://HOST/?stream=mail "
    "(amqps:// and rediss:// for TLS).",
)
@option(
    "Mail",
    "--webhook-secret",
    needs="--deliver",
    metavar="TEXT",
    help="With --deliver https://: sign each request with this secret. Safer in the environment "
    "than in a command: SMTP_BLINKER_WEBHOOK_SECRET.",
)
@option(
    "Mail",
    "--deliver-timeout",
    needs="--deliver",
    metavar="SECONDS",
    type=Positive(300),
    help="With --deliver: how long the destination may take for a message before the client gets "
    "451 (or, with --spool, 250).  [30; 60 for a mail server]",
)
@option(
    "Mail",
    "--spool",
    needs="--deliver",
    metavar="DIR",
    help="With --deliver: keep mail in this folder while the destination is unavailable, and pass "
    "it on later.",
)
@option(
    "Mail",
    "--contents",
    needs="--deliver",
    metavar="URL",
    help="With --deliver to a queue: where to store contents of more than 128 KiB: a folder that "
    "all nodes mount, or s3://BUCKET/PREFIX/.",
)
@option(
    "Mail",
    "--domain",
    "-d",
    multiple=True,
    callback=each(parse_domain),
    help="Accept mail only for this domain and for postmaster. Without it, accept mail for any "
    "recipient. Repeatable.",
)
@option(
    "Mail",
    "--inbox",
    never_with="--deliver",
    metavar="NAME=PATTERN",
    multiple=True,
    callback=checked(parse_inboxes),
    help="Another inbox, for the recipients ADDRESS or @DOMAIN, or for mail that a user sends, "
    "user:NAME. Repeatable, also with the same NAME.",
)
@option(
    "Mail",
    "--lenient",
    is_flag=True,
    help="Accept faulty mail from old devices: bare CR and LF, addresses without angle brackets, "
    "names with spaces in EHLO, DSN parameters.",
)
@option(
    "Mail",
    "--keep-days",
    never_with="--deliver",
    needs="--http",
    type=Positive(),
    help="Delete messages that are older than this number of days, read or unread. Needs the web "
    "page.  [keep all]",
)
@option(
    "Mail",
    "--keep-messages",
    never_with="--deliver",
    needs="--http",
    type=COUNT,
    help="Delete the oldest messages if there are more than this number. Needs the web page.  "
    "[keep all]",
)
@option(
    "Mail",
    "--keep-size",
    never_with="--deliver",
    needs="--http",
    callback=checked(parse_optional_size),
    metavar="SIZE",
    help="Delete the oldest messages if all together are larger than this. Needs the web page.  "
    "[keep all]",
)
@option(
    "Testing programs that send mail",
    "--faults",
    needs="--http",
    is_flag=True,
    help="Let the web page and its API cause faults: refuse, delay, disconnect.",
)
@option(
    "Testing programs that send mail",
    "--fault",
    metavar="TEXT",
    multiple=True,
    help="A fault from the start, such as 'refuse recipient=ann@example.com code=451 chance=0.5', "
    "'delay seconds=5 at=CONTENT' or 'drop at=DATA times=1'. Repeatable; in the environment, put "
    "each fault in quotes.",
)
@option("TLS", "--cert", help="PEM file with the TLS certificate and its chain.")
@option("TLS", "--key", help="PEM file with its private key.", show_default="in the --cert file")
@option(
    "TLS",
    "--self-signed",
    is_flag=True,
    help="Create a certificate for this run, for localhost and --name, to try TLS.",
)
@option(
    "TLS",
    "--self-signed-cert",
    needs="--self-signed",
    metavar="FILE",
    default="./smtp-blinker.pem",
    help="Where to write this certificate, so that clients can trust it. The key isn't written.",
)
@option("AUTH", "--users", help="Offer AUTH to the users in this file; `adduser` writes it.")
@option("AUTH", "--require-auth", is_flag=True, help="Accept mail only after AUTH, also by LMTP.")
@option(
    "AUTH",
    "--accept-any-auth",
    is_flag=True,
    help="Accept any name with any password, also without TLS, to catch the mail of a program.",
)
@option(
    "Limits",
    "--size",
    callback=checked(parse_size),
    metavar="SIZE",
    default="25M",
    help="Largest message, in bytes or with K, M or G; 0 for no limit.",
)
@option(
    "Limits",
    "--max-clients",
    type=COUNT,
    default=1000,
    help="Maximum number of connections at a time, for each listen address.",
)
@option(
    "Limits",
    "--max-clients-per-ip",
    type=COUNT,
    help="Maximum number of connections at a time from one address.  [no limit]",
)
@option(
    "Limits",
    "--max-recipients",
    type=COUNT,
    default=1000,
    help="Maximum number of recipients of one message.",
)
@option(
    "Limits",
    "--rate",
    metavar="[WHAT=]RATE",
    multiple=True,
    callback=checked(parse_rates),
    help="Limit what one network may send, for example 100/minute. WHAT is messages (the "
    "default), recipients or connections. This option and those below don't apply to loopback. "
    "Repeatable.",
)
@option(
    "Limits",
    "--max-auth-failures-per-account",
    needs="--users",
    type=COUNT,
    help="Refuse AUTH for an account or a network after this many failures in 15 minutes.  [no "
    "limit]",
)
@option(
    "Limits",
    "--counters",
    metavar="URL",
    help="redis://HOST or unix:///PATH of a Redis; needs the extra redis. Limits count over all "
    "servers with the same URL.  [this process]",
)
@option(
    "Limits",
    "--dnsbl",
    metavar="ZONE",
    multiple=True,
    help="Refuse clients listed in this DNS blocklist; needs the extra dns. Repeatable.",
)
@option(
    "Limits",
    "--sender-auth",
    is_flag=True,
    help="Check senders by SPF, DKIM, ARC and DMARC, and add an Authentication-Results field; "
    "needs the extra sender-auth.",
)
@option(
    "Limits",
    "--enforce-dmarc",
    needs="--sender-auth",
    is_flag=True,
    help="With --sender-auth: refuse messages that fail DMARC if the policy of the author's "
    "domain is reject.",
)
@option(
    "Limits",
    "--greylist",
    is_flag=True,
    help="Refuse a sender that is new to a recipient for the first 5 minutes.",
)
@option(
    "Limits",
    "--rspamd",
    metavar="URL",
    help="Let the rspamd at this URL check each message (http://HOST:11333).",
)
@option(
    "Limits",
    "--clamav",
    metavar="ADDRESS",
    help="Refuse messages in which clamd finds a virus; its address is tcp://HOST:3310 or "
    "unix:/PATH.",
)
@option(
    "Proxies and gateways",
    "--trusted-proxy",
    multiple=True,
    callback=each(parse_trust),
    help=f"Address or network of a proxy, or {UNIX} for the clients of UNIX sockets. It must send "
    "a PROXY header, and no other client can connect there. Repeatable.",
)
@option(
    "Proxies and gateways",
    "--xclient",
    multiple=True,
    callback=each(parse_trust),
    help=f"Address or network that may use XCLIENT, or {UNIX}. Repeatable.",
)
@option(
    "Proxies and gateways",
    "--xforward",
    multiple=True,
    callback=each(parse_trust),
    help=f"Address or network that may use XFORWARD, or {UNIX}. Repeatable.",
)
@option(
    "Web page",
    "--http",
    metavar="ADDRESS",
    callback=checked(parse_http),
    default="127.0.0.1:8025",
    help="HOST:PORT of the web page with its API and /metrics; off for no page.",
)
@option(
    "Web page",
    "--http-auth",
    needs="--http",
    metavar="NAME:PASSWORD",
    callback=checked(parse_http_auth),
    help="Require this name and password on the web page. Safer in the environment than in a "
    "command.",
)
@option(
    "Web page",
    "--http-host",
    needs="--http",
    multiple=True,
    help="Another host name of the page; localhost, --name and any IP address always work. "
    "Repeatable.",
)
@option(
    "Log",
    "--events",
    metavar="URL",
    help="Publish all events as JSON, to RabbitMQ (amqp://…) or a stream of Redis (redis://…).",
)
@option(
    "Web page",
    "--http-path",
    needs="--http",
    metavar="PATH",
    callback=checked(parse_http_path),
    default="/",
    help="The path at which a proxy publishes the page, such as /mail/.",
)
@option(
    "Web page",
    "--release-to",
    needs="--http",
    metavar="URL",
    callback=checked(parse_relay),
    help="Let a reader of the page release messages to this relay only: smtp://HOST, smtps:// or "
    "lmtp://.",
)
@option("Log", "--log-format", type=click.Choice(["text", "json"]), default="text")
@option(
    "Log", "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info"
)
@click.version_option(__version__, prog_name="smtp-blinker", message="%(prog)s %(version)s")
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Receive mail by SMTP, SMTPS and LMTP and store each message in a Maildir.

    SIGTERM and SIGINT stop the server after the messages in progress. SIGHUP reads the certificate
    and the users again and disconnects no client.
    """
    if context.invoked_subcommand is None:
        asked = context.get_parameter_source("http") is not ParameterSource.DEFAULT
        try:
            if why := without_effect(context):
                raise Unusable(why)
            serve(Settings(http_asked=asked, **options))
        except Unusable as exc:
            raise Unusable(with_variables(context, exc.message)) from exc


@command.command()
@click.argument("name")
@option(
    "Options", "--users", envvar=f"{ENVIRONMENT}_USERS", help="The users file; created if missing."
)
@option("Options", "--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.pass_context
def adduser(context: click.Context, name: str, users: str | None, password_stdin: bool) -> None:
    """Let NAME log in, or change NAME's password."""
    assert context.parent is not None
    path = users or context.parent.params["users"]
    if path is None:
        raise click.UsageError("say which file to write with --users FILE")
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        # The prompt must turn the terminal's echo on again when Ctrl-C ends it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    try:
        set_password(path, name, password)
    except (OSError, ValueError) as exc:
        raise Unusable(f"{path} was not changed: {exc}") from exc
    click.echo(f"{name} can log in; a running server reads the file at SIGHUP")
