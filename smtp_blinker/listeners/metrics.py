"""Counts events for Prometheus. Needs ``pip install 'smtp_blinker[metrics]'``.

EventMetrics().attach(server)
prometheus_client.start_http_server(9000)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from blinker import ANY

from ..signals import (
    AuthEvent,
    ConnectEvent,
    DisconnectEvent,
    ErrorEvent,
    MessageEvent,
    RefusedEvent,
    SecureEvent,
    VerdictEvent,
    auth,
    connect,
    disconnect,
    error,
    message,
    refused,
    secure,
    verdict,
)

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as exc:
    raise ImportError(
        "smtp_blinker.listeners.metrics needs prometheus_client:"
        " pip install 'smtp_blinker[metrics]'"
    ) from exc

#: The most values of a label; further ones are counted together as "other". The library has far
#: fewer, but a program may have many classes of exceptions.
MAX_LABEL_VALUES: Final = 100
#: The same for pairs of verb and code: there are about thirty verbs with a few codes each.
MAX_VERBS_AND_CODES: Final = 500

# Mechanisms with a label value of their own. Clients may name any others: these are "other".
_AUTH_METHODS: Final = frozenset(
    {
        "ANONYMOUS",
        "CRAM-MD5",
        "DIGEST-MD5",
        "EXTERNAL",
        "GSSAPI",
        "LOGIN",
        "NTLM",
        "OAUTHBEARER",
        "PLAIN",
        "SCRAM-SHA-1",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256-PLUS",
        "XCLIENT",
        "XOAUTH2",
    }
)
# Series that exist from the start, with 0. Prometheus computes no increase for a series that begins
# with 1: it would miss the first error and the first message, and ratios would be undefined.
_FIRST_ERRORS: Final = (
    *("HookError", "HookTimeout", "ListenerError"),
    *("CountersAway", "PolicyFailure", "StoreAway", "SpoolFailed"),
)
_FIRST_REASONS: Final = (
    *("quit", "eof", "reset", "timeout", "shutdown"),
    *("refused", "abuse", "tls", "proxy", "error"),
)
_FIRST_PROTOCOLS: Final = ("TLSv1.2", "TLSv1.3")
_OUTCOMES: Final = ("accepted", "refused", "failed")
_FIRST_REFUSALS: Final = (("RCPT", 451), ("RCPT", 550))
_SIZE_BUCKETS: Final = tuple(1024 * 4**n for n in range(9))  # 1 KiB to 64 MiB
_SECONDS_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class _Children(dict[tuple[object, ...], Counter]):
    """The children of *counter* by their label values: a cache, because `Counter.labels` costs
    more than everything else about an event."""

    def __init__(self, counter: Counter, most: int = MAX_LABEL_VALUES) -> None:
        self._counter = counter
        self._most = most

    def __missing__(self, values: tuple[object, ...]) -> Counter:
        if len(self) >= self._most:
            return self._counter.labels(*("other" for _ in values))
        child = self[values] = self._counter.labels(*values)
        return child


class EventMetrics:
    """Counters and histograms of one server, or of all servers of the process.

    ===============================  =========  ================================================
    ``smtp_connections_total``                  clients that were ready to proceed
    ``smtp_connections_open``                   those of them that are connected now
    ``smtp_disconnects_total``       reason     connections that ended, each one accepted
    ``smtp_errors_total``            code       errors
    ``smtp_messages_total``          code       messages by the code of their reply
    ``smtp_refused_total``           verb,      refused commands by the code of their reply; verb is
                                     code       ``none`` for a client refused before its greeting,
                                                and where no known verb was sent
    ``smtp_verdicts_total``          policy,    verdicts of policies, by the policy's name;
                                     verdict    ``failure`` is one that could not judge
    ``smtp_message_size_bytes``                 histogram of their content's octets
    ``smtp_message_seconds``                    histogram of the time from 354 to the reply
    ``smtp_received_bytes_total``               octets from clients, counted as a client leaves
    ``smtp_sent_bytes_total``                   octets to clients, counted as a client leaves
    ``smtp_auth_total``              method,    AUTH exchanges; outcome is success or failure
                                     outcome
    ``smtp_tls_total``               protocol   TLS handshakes that succeeded
    ===============================  =========  ================================================

    The default *registry* is prometheus_client's. A registry can have one `EventMetrics` (a second
    one raises ValueError); attach it to any number of servers.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        self._connections = counter("smtp_connections", "Clients that were ready to proceed")
        self._connected = Gauge(
            "smtp_connections_open",
            "Clients that were ready to proceed and are connected now",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._disconnects = _Children(
            counter("smtp_disconnects", "Connections that ended, by reason", "reason")
        )
        self._errors = _Children(counter("smtp_errors", "Errors, by code", "code"))
        self._messages = _Children(
            counter("smtp_messages", "Messages answered, by reply code", "code")
        )
        self._refused = _Children(
            counter("smtp_refused", "Refused commands, by verb and reply code", "verb", "code"),
            MAX_VERBS_AND_CODES,
        )
        self._verdicts = _Children(
            counter("smtp_verdicts", "Verdicts of policies", "policy", "verdict")
        )
        self._size = Histogram(
            "smtp_message_size_bytes",
            "Octets of content per message",
            buckets=_SIZE_BUCKETS,
            registry=registry,
        )
        self._seconds = Histogram(
            "smtp_message_seconds",
            "Seconds from the 354 reply to the answer, per message",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self._received = counter("smtp_received_bytes", "Octets received from clients")
        self._sent = counter("smtp_sent_bytes", "Octets sent to clients")
        self._auth = _Children(
            counter("smtp_auth", "AUTH exchanges, by mechanism and outcome", "method", "outcome")
        )
        self._tls = _Children(
            counter("smtp_tls", "TLS handshakes that succeeded, by version", "protocol")
        )
        firsts: tuple[tuple[_Children, tuple[object, ...]], ...] = (
            (self._messages, (250,)),
            (self._errors, _FIRST_ERRORS),
            (self._disconnects, _FIRST_REASONS),
            (self._tls, _FIRST_PROTOCOLS),
        )
        for children, values in firsts:
            for value in values:
                children[(value,)]  # the look-up creates it
        for refusal in _FIRST_REFUSALS:
            self._refused[refusal]
        # A set of ids, because `connect` may come twice for a connection (XFORWARD), and
        # `disconnect` also comes for connections without `connect`.
        self._open: set[str] = set()
        self._receivers: tuple[tuple[Any, Callable[..., None]], ...] = (
            (connect, self._on_connect),
            (secure, self._on_secure),
            (auth, self._on_auth),
            (message, self._on_message),
            (refused, self._on_refused),
            (verdict, self._on_verdict),
            (error, self._on_error),
            (disconnect, self._on_disconnect),
        )

    def attach(self, server: object = None) -> EventMetrics:
        """Listen to *server*, or to every server of the process. Returns the listener."""
        for signal, receiver in self._receivers:
            signal.connect(receiver, ANY if server is None else server, weak=False)
        return self

    def detach(self) -> None:
        """Stop listening to all servers. The counters stay; open connections are forgotten."""
        for signal, receiver in self._receivers:
            signal.disconnect(receiver)
        self._open.clear()
        self._connected.set(0)

    def _on_connect(self, server: object, event: ConnectEvent, **extra: object) -> None:
        if event.id not in self._open:
            self._open.add(event.id)
            self._connections.inc()
            self._connected.inc()

    def _on_secure(self, server: object, event: SecureEvent, **extra: object) -> None:
        self._tls[(event.protocol,)].inc()

    def _on_auth(self, server: object, event: AuthEvent, **extra: object) -> None:
        method = event.method if event.method in _AUTH_METHODS else "other"
        self._auth[method, "success" if event.success else "failure"].inc()

    def _on_message(self, server: object, event: MessageEvent, **extra: object) -> None:
        self._messages[(event.code,)].inc()
        self._size.observe(event.size)
        self._seconds.observe(event.seconds)

    def _on_refused(self, server: object, event: RefusedEvent, **extra: object) -> None:
        self._refused[event.command or "none", event.code].inc()

    def _on_verdict(self, server: object, event: VerdictEvent, **extra: object) -> None:
        self._verdicts[event.policy, event.verdict].inc()

    def _on_error(self, server: object, event: ErrorEvent, **extra: object) -> None:
        self._errors[(event.code,)].inc()

    def _on_disconnect(self, server: object, event: DisconnectEvent, **extra: object) -> None:
        self._disconnects[(event.reason,)].inc()
        self._received.inc(event.bytes_in)
        self._sent.inc(event.bytes_out)
        if event.id in self._open:
            self._open.remove(event.id)
            self._connected.dec()


class Spool(Protocol):
    """The attributes of a `SpoolStore` that `SpoolMetrics` reads."""

    @property
    def path(self) -> str: ...
    @property
    def messages(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def age(self) -> float: ...


class StoreMetrics:
    """Counts the deliveries of stores to another system, including each retry from a spool.

    =============================  ========  =================================================
    ``smtp_store_messages_total``  store,    messages: outcome is ``accepted`` if the other
                                   outcome   side has confirmed, ``refused`` if permanently
                                             or for a recipient, else ``failed``
    ``smtp_store_seconds``         store     histogram of the time until that outcome
    ``smtp_store_away``            store     1 while the last three or more failed, else 0
    =============================  ========  =================================================

    *stores* maps values of the label to instances of `AMQPStore`, `RedisStreamStore`,
    `WebhookStore` and `RelayStore`. For a `SpoolStore` or `RecipientStore` pass the stores inside
    it. *registry* can have one `StoreMetrics` (a second one raises ValueError). Raises TypeError
    for another store.
    """

    def __init__(self, stores: Mapping[str, Any], registry: CollectorRegistry = REGISTRY) -> None:
        for name, store in stores.items():
            if not hasattr(store, "circuit"):
                raise TypeError(
                    f"{name} is a {type(store).__name__}; only stores that deliver to another "
                    "system are counted: pass the store inside it"
                )
        messages = Counter(
            "smtp_store_messages",
            "Messages that were handed over, by outcome",
            ["store", "outcome"],
            registry=registry,
        )
        seconds = Histogram(
            "smtp_store_seconds",
            "Seconds until the other side has confirmed, refused or failed",
            ["store"],
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        away = Gauge(
            "smtp_store_away",
            "Whether the last hand-overs, three or more, failed",
            ["store"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        for name, store in stores.items():
            outcomes = {one: messages.labels(name, one) for one in _OUTCOMES}
            _watch(store.circuit, outcomes, seconds.labels(name), away.labels(name))


def _watch(circuit: Any, outcomes: Mapping[str, Counter], seconds: Histogram, away: Gauge) -> None:
    def watcher(outcome: str, took: float) -> None:
        outcomes[outcome].inc()
        seconds.observe(took)
        away.set(circuit.is_failing)

    circuit.watchers.append(watcher)


class FleetMetrics:
    """The counter ``smtp_events_dropped_total``: events that `FleetEvents` dropped because its
    broker was away for too long.

    It counts those of *events*, or, without, those that the program reports with `dropped`.
    *registry* can have one `FleetMetrics` (a second one raises ValueError).
    """

    def __init__(self, events: Any = None, *, registry: CollectorRegistry = REGISTRY) -> None:
        text = "Events that were not published, because the broker was away"
        self._counter = Counter("smtp_events_dropped", text, registry=registry)
        if events is not None:
            events.watchers.append(self.dropped)

    def dropped(self, number: int) -> None:
        """Count *number* dropped events."""
        self._counter.inc(number)


class SpoolMetrics(Collector):
    """Messages that wait in spools, read when Prometheus fetches the metrics.

    =======================  =====  ==============================================
    ``smtp_spool_messages``  spool  messages that wait
    ``smtp_spool_bytes``     spool  the size of their files in bytes
    ``smtp_spool_seconds``   spool  the age of the oldest of them; 0 without any
    =======================  =====  ==============================================

    The label is the folder. *registry* can have one `SpoolMetrics` (a second one raises
    ValueError).
    """

    def __init__(self, *spools: Spool, registry: CollectorRegistry = REGISTRY) -> None:
        self._spools = spools
        registry.register(self)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The names of the metrics, for the registry."""
        return self.collect()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The names and values of the metrics, for the registry."""
        for name, text, values in (
            ("messages", "Messages that wait", [one.messages for one in self._spools]),
            ("bytes", "Octets of the files that wait", [one.bytes for one in self._spools]),
            ("seconds", "Age of the oldest message that waits", [one.age for one in self._spools]),
        ):
            family = GaugeMetricFamily(f"smtp_spool_{name}", text, labels=["spool"])
            for spool, value in zip(self._spools, values, strict=True):
                family.add_metric([spool.path], value)
            yield family
