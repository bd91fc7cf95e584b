"""A process of the page. It starts when it is needed, and starts again after it has ended.

Whatever a message does to this process, the process that receives mail only waits, in a thread, for
a limited time.
"""

from __future__ import annotations

import _socket
import logging
import os
import select
import signal
import sys
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gevent import monkey

from ..pools import Workers
from .reader import frames
from .reader.frames import Frame
from .reader.limits import MEMORY

if TYPE_CHECKING:
    import socket

log = logging.getLogger(__name__)

#: The limits of a request: seconds of CPU time, and of elapsed time.
CPU_SECONDS: Final = 5
SECONDS: Final = 30.0
#: The most requests that wait for a process; further ones are refused.
MAX_WAITING: Final = 200

_FOLDER: Final = str(Path(__file__).parent / "reader")
#: The environment of a process that reads hostile mail: only what Python needs.
_ENVIRONMENT: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")

# The originals, even in a monkey-patched process, because threads call them.
_poll: Final = monkey.get_original("select", "poll")
_posix_spawn: Final = monkey.get_original("os", "posix_spawn")
_waitpid: Final = monkey.get_original("os", "waitpid")


class Busy(Exception):
    """Too many requests wait for the process."""


class Failed(Exception):
    """The process failed: it ended, took too long, or reported an error."""


class Child:
    """The process that runs ``reader`` in the *role* "index" or "reader", with *arguments*.

    It serves one request at a time. A request may use *cpu_seconds* of CPU time, *seconds* of
    wall-clock time and *memory* octets. A request that exceeds a limit ends the process, and only
    this request fails. A forked copy of our process starts a child of its own. Any number of
    threads and greenlets may send requests.
    """

    def __init__(
        self,
        role: str,
        *arguments: str,
        cpu_seconds: int = CPU_SECONDS,
        seconds: float = SECONDS,
        memory: int = MEMORY,
    ) -> None:
        self.role = role
        self.seconds = seconds
        self._command = [role, str(memory), str(cpu_seconds), *arguments]
        self._turn = Workers(1)
        self._waiting = 0
        self._process: _Process | None = None

    def ask(self, do: str, body: bytes = b"", file: int | None = None, **fields: Any) -> Frame:
        """Send a request; returns the answer.

        Raises FileNotFoundError if the message doesn't exist any more, the OSError that the process
        met, `Busy` and `Failed`.
        """
        if self._waiting >= MAX_WAITING:
            raise Busy
        # A copy: the caller may be killed and close its own while the request waits.
        file = None if file is None else os.dup(file)
        self._waiting += 1
        try:
            answer = self._turn.run(self._ask, Frame({"do": do, **fields}, body, file))
        finally:
            self._waiting -= 1
        if "gone" in answer.fields:
            raise FileNotFoundError
        if "errno" in answer.fields:
            raise OSError(answer.fields["errno"], os.strerror(answer.fields["errno"] or 0))
        if "fault" in answer.fields:
            raise Failed(answer.fields["fault"])
        return answer

    def close(self) -> None:
        """End the process; the next request starts another one."""
        self._turn.run(self._end)

    @property
    def pid(self) -> int | None:
        """The process id, or None without a process."""
        return None if self._process is None else self._process.pid

    # In the thread

    def _ask(self, request: Frame) -> Frame:
        if self._process is not None and not self._process.is_ours_and_idle():
            self._end()
        try:
            if self._process is None:
                self._process = _Process(self._command)
            answer = self._process.ask(request, time.monotonic() + self.seconds)
            if answer.fields.get("fault", "").startswith("MemoryError"):
                # Its free memory may be fragmented. End it here: if it ended itself, the next
                # request could be lost.
                self._end()
            return answer
        except (OSError, ValueError) as exc:
            self._end()
            what = "took too long" if isinstance(exc, TimeoutError) else f"ended ({exc})"
            raise Failed(f"the {self.role} {what} at {request.fields['do']!a}") from exc
        finally:
            if request.file is not None:
                os.close(request.file)

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


class _Process:
    """One process, and our end of its socket."""

    def __init__(self, command: list[str]) -> None:
        ours, theirs = _socket.socketpair()
        self._socket: socket.socket = ours  # type: ignore[assignment]
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.pid: int = _posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-X", "utf8", _FOLDER, *command],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_DUP2, null, 1),
                ],
                setpgroup=0,  # Ctrl-C in a terminal must not reach it
                setsigmask=(),
                setsigdef=(signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP),
            )
        finally:
            theirs.close()
            os.close(null)
        self._owner = os.getpid()
        self.end = weakref.finalize(self, _end, ours, self.pid, self._owner)

    def is_ours_and_idle(self) -> bool:
        """False in a forked process, after its end, and if it sends something unrequested."""
        if os.getpid() != self._owner:
            return False
        poll = _poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    def ask(self, request: Frame, deadline: float) -> Frame:
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        frames.send(self._socket, request)
        answer = frames.receive(self._socket, deadline)
        if answer is None:
            raise frames.Broken("it ended")
        return answer


def _end(ours: _socket.socket, pid: int, owner: int) -> None:
    ours.close()
    if os.getpid() != owner:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):  # the program waits for its children itself
        _waitpid(pid, 0)
