"""Listeners that come with the library. They use its signals and nothing else of it.

Each is a class that is used in the same way: ``attach(server)`` connects it to one server,
``attach()`` to all of the process, ``detach()`` undoes every attach. Both may be called at any
time and any number of times: a listener gets each event once. While it is attached it is
held, so the program needs to keep no reference to it.

* `log.EventLog` writes log lines, `log.JSONFormatter` makes them JSON.
* `tracking.ConnectionTracker` knows the connections that are open now.
* `metrics.EventMetrics` counts for Prometheus (``pip install 'smtp_blinker[metrics]'``).
* `fleet.FleetEvents` publishes them to RabbitMQ or Redis (extra `amqp` or `redis`).

The modules don't share code, so that each can be copied as the start of a listener of your own.
"""
