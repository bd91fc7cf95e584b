"""Parses the date-time of RFC 3339 section 5.6."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_DATE_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]"
    r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


def parse_date_time(text: str) -> datetime:
    """*text* as an aware `datetime` in UTC; digits after the microseconds are ignored.

    Raises ValueError for text that isn't a date-time, or isn't in the years 1 to 9999.
    """
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        raise ValueError("not a date-time of RFC 3339")
    year, month, day, hour, minute, second = (int(found[number]) for number in range(1, 7))
    microsecond = int(f"{found[7] or 0:0<6}"[:6])
    offset = timedelta(hours=int(found[9] or 0), minutes=int(found[10] or 0))
    if int(found[10] or 0) > 59:
        raise ValueError("the offset has minutes above 59")
    zone = timezone(-offset if found[8] == "-" else offset)
    leap = second == 60
    try:
        moment = datetime(
            year, month, day, hour, minute, 59 if leap else second, microsecond, tzinfo=zone
        ).astimezone(UTC)
        if leap:
            # RFC 3339 section 5.7: a leap second is the last second of a day in UTC. Python's
            # datetime doesn't support it.
            if (moment.hour, moment.minute) != (23, 59):
                raise ValueError("no leap second is at that time")
            moment += timedelta(seconds=1)
    except OverflowError:
        raise ValueError("outside of the years 1 to 9999") from None
    return moment
