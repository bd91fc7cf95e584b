"""The signature of `SMTPServer`: each option and hook with its type, default and line of help.

They are defined once, as the fields of `Options` and `Hooks`. Type checkers read the signature
from `Keywords`; `describe` sets it for `help` and `inspect`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, get_args, get_type_hints

from .hooks import HookDecorators, Hooks
from .listener import Listener
from .options import Options

if TYPE_CHECKING:

    @dataclass(frozen=True, kw_only=True)
    class Keywords(Hooks, Options):  # type: ignore[misc]  # only its constructor's signature is used
        """Hooks and options together."""
else:
    Keywords = Options

P = ParamSpec("P")


def takes(
    keywords: Callable[P, object],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, Listener, P], None]]:
    """Tell type checkers that the decorated `__init__` takes a listener and *keywords*."""
    return lambda init: init


def describe(server: type) -> None:
    """Set the signature and the docstring of the class *server*, with a line per keyword."""
    parameters = [
        inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        inspect.Parameter("listener", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Listener),
    ]
    lines = []
    for name, kind, default, line in _keywords():
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
            )
        )
        lines.append(f":param {name}: {line}")
    init: Any = server.__init__  # type: ignore[misc]  # of exactly this class
    init.__signature__ = inspect.Signature(parameters, return_annotation=None)
    server.__doc__ = "\n".join([inspect.cleandoc(server.__doc__ or ""), "", *lines])


def _keywords() -> Iterator[tuple[str, Any, Any, str]]:
    """The name, type, default and line of help of each hook and option."""
    hooks = get_type_hints(Hooks)
    for name, parameter in inspect.signature(Hooks).parameters.items():
        line = " ".join((getattr(HookDecorators, name).__doc__ or "").split())
        yield name, hooks[name], parameter.default, line
    options = get_type_hints(Options, include_extras=True)
    for name, parameter in inspect.signature(Options).parameters.items():
        kind, line = get_args(options[name])  # of Annotated
        yield name, kind, parameter.default, line
