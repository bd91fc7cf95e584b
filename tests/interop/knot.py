"""Knot DNS with zones of a test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.message
import dns.query
from support import HOST, environment, free_port, program, wait_until


@contextmanager
def running_knot(folder: Path, zones: Mapping[str, str | None]) -> Iterator[tuple[str, int]]:
    """Knot's address. *zones*: the records by zone; None for one that it can't load, of which it
    says SERVFAIL."""
    knotd = program("knotd", "knot")
    port = free_port()
    for zone, records in zones.items():
        if records is not None:
            head = f"$ORIGIN {zone}.\n$TTL 60\n@ SOA ns. h. 1 60 60 60 60\n@ NS ns.\n"
            (folder / f"{zone}.zone").write_text(head + records)
    (folder / "knot.conf").write_text(
        f"server:\n  listen: {HOST}@{port}\n  rundir: {folder}\n"
        f"database:\n  storage: {folder}\n"
        f"template:\n  - id: default\n    storage: {folder}\n    journal-content: none\n"
        "zone:\n" + "".join(f"  - domain: {zone}\n" for zone in zones)
    )
    process = subprocess.Popen(
        [knotd, "-c", str(folder / "knot.conf")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    loaded = next(zone for zone, records in zones.items() if records is not None)

    def answers() -> bool:
        query = dns.message.make_query(f"{loaded}.", "SOA")
        try:
            return bool(dns.query.udp(query, HOST, port=port, timeout=1).answer)
        except (OSError, dns.exception.DNSException):
            return False

    try:
        wait_until(answers, "knotd answers")
        yield HOST, port
    finally:
        process.kill()
        process.wait()
