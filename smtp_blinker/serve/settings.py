"""What the command line says, once it is checked, and the error for what can't be used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import click

from smtp_blinker.policies.limits import Of

from . import program_name
from .values import Listen


class Unusable(click.ClickException):
    """A setting can't be used: one line on standard error, and exit status 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"{program_name()}: {self.message}", file=file, err=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of the command line, under their names there."""

    listen: tuple[Listen, ...]
    maildir: str
    #: Where mail goes instead: the URL of a queue, an endpoint or a next hop.
    deliver: str | None
    #: Seconds for one message there; None for the store's own default.
    deliver_timeout: float | None
    webhook_secret: str | None
    spool: str | None
    contents: str | None
    events: str | None
    name: str
    domain: tuple[str, ...]
    #: Names, and what `RecipientStore` takes for the recipients or the user of each.
    inbox: tuple[tuple[str, str], ...]
    lenient: bool
    keep_days: float | None
    keep_messages: int | None
    keep_size: int | None
    cert: str | None
    key: str | None
    self_signed: bool
    #: Where its certificate is written.
    self_signed_cert: str
    users: str | None
    require_auth: bool
    accept_any_auth: bool
    faults: bool
    #: Those that there are from the beginning, as `Faults.add_text` takes them.
    fault: tuple[str, ...]
    size: int
    max_clients: int
    max_clients_per_ip: int | None
    workers: int
    max_recipients: int
    #: What is counted, and the rate.
    rate: tuple[tuple[Of, str], ...]
    max_auth_failures_per_account: int | None
    counters: str | None
    dnsbl: tuple[str, ...]
    sender_auth: bool
    enforce_dmarc: bool
    greylist: bool
    rspamd: str | None
    clamav: str | None
    trusted_proxy: tuple[str, ...]
    xclient: tuple[str, ...]
    xforward: tuple[str, ...]
    http: Listen | None
    #: Whether the user set it: then a page that can't be served is an error.
    http_asked: bool
    http_auth: tuple[str, str] | None
    http_host: tuple[str, ...]
    http_path: str
    release_to: str | None
    log_format: str
    log_level: str

    @property
    def keeps_some(self) -> bool:
        """Whether old messages are to be deleted."""
        return (self.keep_days, self.keep_messages, self.keep_size) != (None, None, None)

    @property
    def deliver_options(self) -> dict[str, Any]:
        """What every store takes that hands mail on."""
        return {} if self.deliver_timeout is None else {"timeout": self.deliver_timeout}

    @property
    def maildirs(self) -> dict[str, str]:
        """Where the further inboxes are: folders of the Maildir, as Maildir++ names them."""
        return {name: os.path.join(self.maildir, f".{name}") for name, _ in self.inbox}

    @property
    def fails_on_demand(self) -> bool:
        return self.faults or bool(self.fault)
