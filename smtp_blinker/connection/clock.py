"""The clock of all deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

#: The clock of `time.monotonic`, in seconds. It isn't that function itself, because freezegun
#: and similar tools replace it: deadlines would never pass while a test has stopped the time.
monotonic: Final[Callable[[], float]] = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
