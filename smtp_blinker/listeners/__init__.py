"""Listeners that come with the library. They use only its signals.

All of them have the same methods: ``attach(server)`` connects to one server, ``attach()`` to all
servers of the process, and ``detach()`` undoes every attach. Both may be called at any time and
repeatedly; a listener still gets each event once. An attached listener stays alive, so the
program needn't keep a reference to it.

* `log.EventLog` writes log lines, `log.JSONFormatter` makes them JSON.
* `tracking.ConnectionTracker` knows the open connections.
* `metrics.EventMetrics` counts for Prometheus (``pip install 'smtp_blinker[metrics]'``).
* `fleet.FleetEvents` publishes events to RabbitMQ or Redis (extra `amqp` or `redis`).

The modules share hardly any code, so you can copy one as the start of a listener of your own.
"""
