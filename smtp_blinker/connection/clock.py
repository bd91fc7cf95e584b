"""The clock of all deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

#: Seconds of the clock that `time.monotonic` tells. It isn't that function, which freezegun and
#: its like replace: where a program's test has stopped the time no deadline would ever come.
monotonic: Final[Callable[[], float]] = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
