"""The checked settings of the command line, and the error for a setting that can't be used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import click

from smtp_blinker.policies.limits import Of

from .name import program_name
from .values import Listen


class Unusable(click.ClickException):
    """A setting can't be used: one line on standard error, and exit status 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"{program_name()}: {self.message}", file=file, err=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of the command line, under the same names."""

    listen: tuple[Listen, ...]
    maildir: str
    #: Where mail goes instead of the Maildir: the URL of a queue, an endpoint or a next hop.
    deliver: str | None
    #: Seconds to deliver one message there; None for the default of the store.
    deliver_timeout: float | None
    webhook_secret: str | None
    spool: str | None
    contents: str | None
    events: str | None
    name: str
    domain: tuple[str, ...]
    #: Pairs of a name and its pattern of recipients or a user for `RecipientStore`.
    inbox: tuple[tuple[str, str], ...]
    lenient: bool
    keep_days: float | None
    keep_messages: int | None
    keep_size: int | None
    cert: str | None
    key: str | None
    self_signed: bool
    #: The file to which the self-signed certificate is written.
    self_signed_cert: str
    users: str | None
    require_auth: bool
    accept_any_auth: bool
    faults: bool
    #: The faults at the start, in the format of `Faults.add_text`.
    fault: tuple[str, ...]
    size: int
    max_clients: int
    max_clients_per_ip: int | None
    workers: int
    max_recipients: int
    #: Pairs of what is counted and the rate.
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
    #: Whether the user set --http; then a page that can't be served is an error.
    http_asked: bool
    http_auth: tuple[str, str] | None
    http_host: tuple[str, ...]
    http_path: str
    release_to: str | None
    log_format: str
    log_level: str

    @property
    def keeps_some(self) -> bool:
        """Whether old messages are deleted."""
        return (self.keep_days, self.keep_messages, self.keep_size) != (None, None, None)

    @property
    def deliver_options(self) -> dict[str, Any]:
        """The keywords for every store that delivers to another system."""
        return {} if self.deliver_timeout is None else {"timeout": self.deliver_timeout}

    @property
    def maildirs(self) -> dict[str, str]:
        """The folders of further inboxes within the Maildir, with names as in Maildir++."""
        return {name: os.path.join(self.maildir, f".{name}") for name, _ in self.inbox}

    @property
    def fails_on_demand(self) -> bool:
        return self.faults or bool(self.fault)
