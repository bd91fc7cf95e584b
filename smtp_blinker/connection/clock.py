"""The clock of all deadlines."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from typing import Final


def _own_monotonic() -> Callable[[], float]:
    spec = find_spec("time")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    clock: Callable[[], float] = module.monotonic
    return clock


#: The clock of `time.monotonic`, in seconds. It isn't that function object itself, because
#: freezegun and similar tools replace it wherever a module has it: deadlines would never pass
#: while a test has stopped the time. It is the one of a second instance of the module `time`,
#: which takes half the time of ``time.clock_gettime(time.CLOCK_MONOTONIC)``.
monotonic: Final = _own_monotonic()
