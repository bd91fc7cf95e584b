"""A fleet as a discrete-event simulation: connections, nodes, the stores' pools, brokers.

Each node's processor and each broker are queues with one server, first come, first served. Times
are seconds.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

Steps = Generator[Any, Any, Any]


@dataclass(frozen=True)
class Times:
    """Service times, as they were measured."""

    #: CPU of a node for one connection with one message, and of TLS for a connection.
    node: float
    tls: float
    #: What a broker that is busy needs for one message, and what one message takes when it is idle.
    broker: float
    confirm: float
    #: One message out of a spool, of many together, and one into it.
    drain: float
    spool: float
    #: A consumer, for one message whose handler does nothing.
    consumer: float


@dataclass(frozen=True)
class Setup:
    """What is simulated."""

    times: Times
    nodes: int = 100
    brokers: int = 1
    #: Connections a second, of the whole fleet, each with one message.
    rate: float = 10_000.0
    seconds: float = 10.0
    #: From a client to its node and back; a connection takes four of them.
    round_trip: float = 0.04
    #: What the nodes are configured with.
    max_clients: int = 1000
    pool: int = 32
    timeout: float = 30.0
    spool: bool = False
    #: When all brokers stand still, and for how long.
    stall_at: float = 0.0
    stall: float = 0.0
    tls: bool = True
    #: CPU of the process that all clients are in, for a connection; 0 where they are elsewhere.
    client: float = 0.0
    seed: int = 1


#: Round trips before the content is there.
ROUND_TRIPS = 4
#: Failures in a row after which a store refuses at once, and for how long.
FAILURES, PAUSE = 3, 5.0
#: Seconds before a spool tries again, and how many messages it hands over together.
SPOOL_DELAY, SPOOL_GROUP = 1.0, 64


class Queue:
    """One server, first come, first served: it is free again at a time that is known."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self.free_at = 0.0

    def take(self, seconds: float) -> float:
        """Seconds until work of so many is done."""
        self.free_at = max(self.free_at, self._env.now) + seconds
        return self.free_at - self._env.now


@dataclass
class Sample:
    """The fleet at one time."""

    at: float
    connections: int
    waiting: int
    spooled: int
    accepted: int
    refused: int
    queued: float


class Node:
    """What one node has in hand."""

    def __init__(self, env: simpy.Environment, setup: Setup, broker: Queue) -> None:
        self.cpu = Queue(env)
        self.broker = broker
        self.pool = simpy.Resource(env, setup.pool)
        self.live = 0
        #: Messages that wait for the broker, in this node's memory.
        self.waiting = 0
        self.failures = 0
        self.closed_until = 0.0
        self.spooled = 0
        self.draining = False


@dataclass
class Outcome:
    """What came of a simulation."""

    setup: Setup
    #: From the greeting's wish to 250, without round trips; one for each message accepted.
    latencies: list[float] = field(default_factory=list)
    arrived: int = 0
    accepted: int = 0
    #: 421 for too many clients, and 451.
    busy: int = 0
    away: int = 0
    confirmed: int = 0
    samples: list[Sample] = field(default_factory=list)
    most_connections: int = 0
    most_waiting: int = 0
    most_spooled: int = 0

    @property
    def accepted_rate(self) -> float:
        """Messages a second, without the first one, in which the fleet fills."""
        first = next(sample for sample in self.samples if sample.at >= 1)
        last = self.samples[-1]
        return (last.accepted - first.accepted) / (last.at - first.at)

    def percentile(self, part: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[int(len(ordered) * part)] if ordered else float("nan")


class Simulation:
    """One run."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._env = simpy.Environment()
        self._dice = random.Random(setup.seed)
        brokers = [Queue(self._env) for _ in range(setup.brokers)]
        self._brokers = brokers
        self._nodes = [
            Node(self._env, setup, brokers[n % len(brokers)]) for n in range(setup.nodes)
        ]
        cpu = setup.times.node + (setup.times.tls if setup.tls else 0.0)
        #: Of a connection's CPU: before the content, after it was read, after it is stored.
        self._cpu = 0.6 * cpu, 0.3 * cpu, 0.1 * cpu
        self._clients = Queue(self._env)
        self._found = Outcome(setup)

    def run(self) -> Outcome:
        self._env.process(self._arrivals())
        self._env.process(self._watch())
        if self._setup.stall:
            self._env.process(self._stall())
        self._env.run(until=self._setup.seconds)
        return self._found

    def _arrivals(self) -> Steps:
        while True:
            yield self._env.timeout(self._dice.expovariate(self._setup.rate))
            self._found.arrived += 1
            self._env.process(self._connection(self._dice.choice(self._nodes)))

    def _stall(self) -> Steps:
        yield self._env.timeout(self._setup.stall_at)
        for broker in self._brokers:
            broker.free_at = max(broker.free_at, self._env.now) + self._setup.stall

    def _connection(self, node: Node) -> Steps:
        setup, env, found = self._setup, self._env, self._found
        if node.live >= setup.max_clients:
            found.busy += 1
            return
        node.live += 1
        found.most_connections = max(found.most_connections, node.live)
        first, second, third = self._cpu
        start = env.now
        travel = ROUND_TRIPS * setup.round_trip
        if setup.client:
            yield env.timeout(self._clients.take(setup.client))
        yield env.timeout(node.cpu.take(first) + travel)
        if self._refuses(node):
            found.away += 1
        else:
            yield env.timeout(node.cpu.take(second))
            if (yield from self._store(node)):
                yield env.timeout(node.cpu.take(third))
                found.accepted += 1
                found.latencies.append(env.now - start - travel)
            else:
                found.away += 1
        node.live -= 1

    def _refuses(self, node: Node) -> bool:
        """At MAIL, since the store has failed."""
        if self._setup.spool or node.failures < FAILURES:
            return False
        if self._env.now < node.closed_until:
            return True
        node.closed_until = self._env.now + PAUSE
        return False

    def _store(self, node: Node) -> Steps:
        """Whether the client gets 250."""
        if self._setup.spool and node.spooled:
            yield from self._keep(node)
            return True
        node.waiting += 1
        self._found.most_waiting = max(self._found.most_waiting, node.waiting)
        confirmed = yield from self._publish(node)
        node.waiting -= 1
        if confirmed:
            node.failures = 0
            return True
        node.failures += 1
        node.closed_until = self._env.now + PAUSE
        if self._setup.spool:
            yield from self._keep(node)
            return True
        return False

    def _publish(self, node: Node) -> Steps:
        """Whether the broker confirms within the timeout, the wait for a connection included."""
        setup, env = self._setup, self._env
        deadline = env.now + setup.timeout
        with node.pool.request() as turn:
            if not turn.triggered:
                yield turn | env.timeout(setup.timeout)
                if not turn.triggered:
                    return False
            # Where the deadline comes first the broker has the message all the same.
            wait = node.broker.take(setup.times.broker) + setup.times.confirm
            self._found.confirmed += 1
            yield env.timeout(min(wait, deadline - env.now))
            return env.now < deadline

    def _keep(self, node: Node) -> Steps:
        node.spooled += 1
        self._found.most_spooled = max(self._found.most_spooled, node.spooled)
        if not node.draining:
            node.draining = True
            self._env.process(self._drain(node))
        yield self._env.timeout(self._setup.times.spool)

    def _drain(self, node: Node) -> Steps:
        """Hand over what is in the spool, one group after the other."""
        setup, env = self._setup, self._env
        while node.spooled:
            if node.broker.free_at > env.now + setup.timeout:
                yield env.timeout(setup.timeout + SPOOL_DELAY)
                continue
            group = min(node.spooled, SPOOL_GROUP)
            wait = node.broker.take(group * setup.times.broker)
            self._found.confirmed += group
            yield env.timeout(max(wait + setup.times.confirm, group * setup.times.drain))
            node.spooled -= group
        node.draining = False

    def _watch(self) -> Steps:
        found, queued, before, last = self._found, 0.0, 0, 0.0
        consumers = 1.3 * self._setup.rate
        while True:
            stalled = any(b.free_at > self._env.now + 1 for b in self._brokers)
            queued += found.confirmed - before
            if not stalled:
                queued = max(0.0, queued - consumers * (self._env.now - last))
            before, last = found.confirmed, self._env.now
            found.samples.append(
                Sample(
                    self._env.now,
                    sum(node.live for node in self._nodes),
                    sum(node.waiting for node in self._nodes),
                    sum(node.spooled for node in self._nodes),
                    found.accepted,
                    found.busy + found.away,
                    queued,
                )
            )
            yield self._env.timeout(0.5)
