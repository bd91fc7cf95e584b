"""The loop of a process of the page: a request in, its answer out, until the page is gone."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import Final

from . import frames
from .errors import in_one_line
from .frames import Frame
from .limits import NICE, confine, limit_seconds

#: What serves a request, by its name; raises FileNotFoundError when the message is gone.
Functions = dict[str, Callable[[Frame], Frame]]

SOCKET: Final = 0


def main(role: str, memory: str, seconds: str, *arguments: str) -> None:
    """Serve the page on the socket that is standard input.

    A process may map *memory* octets. A request may use *seconds* of CPU time.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the page's to handle
    os.closerange(SOCKET + 3, 4096)  # what the page's process let its children have
    functions: Functions
    if role == "index":
        from .index import Index

        functions = Index(*arguments).functions
    else:
        from .requests import FUNCTIONS as functions
    confine(int(memory), 0 if role == "index" else NICE)
    with socket.socket(fileno=SOCKET) as connection:
        try:
            serve(connection, functions, int(seconds))
        except OSError:
            pass  # the page is gone


def serve(connection: socket.socket, functions: Functions, seconds: int) -> None:
    """Answer requests until the page closes its socket; raises the OSError of a broken one."""
    while (request := frames.receive(connection)) is not None:
        limit_seconds(seconds)
        answer = answered(functions, request)
        if request.file is not None:
            os.close(request.file)
        frames.send(connection, answer)


def answered(functions: Functions, request: Frame) -> Frame:
    """The answer to *request*, whatever happens."""
    try:
        return functions[request.fields["do"]](request)
    except FileNotFoundError:
        return Frame({"gone": True})
    except OSError as exc:
        return Frame({"errno": exc.errno, "fault": in_one_line(exc)})
    except Exception as exc:
        return Frame({"fault": in_one_line(exc)})
