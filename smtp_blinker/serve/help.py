"""Shows the options in groups in `--help`, and environment variables in error messages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Option(click.Option):
    """An option in one group of `--help`.

    It has an effect only with the option *needs* and without the option *never_with*.
    """

    def __init__(
        self,
        *declarations: Any,
        group: str,
        needs: str | None = None,
        never_with: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(*declarations, **keywords)
        self.group = group
        self.needs = needs
        self.never_with = never_with

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """The value of the environment variable, for a repeatable option a tuple of its values.

        Spaces separate them, and quotes as in a shell keep the spaces of a value.
        """
        text = self.resolve_envvar_value(ctx) if self.multiple else None
        if text is None:
            return super().value_from_envvar(ctx)
        try:
            return tuple(shlex.split(text))
        except ValueError as exc:  # a quotation mark without its partner
            hint = f"'{max(self.opts, key=len)}' (from {variable_name(ctx, self)})"
            raise click.BadParameter(f"{exc} in {text!r}", ctx, param_hint=hint) from None

    def get_error_hint(self, ctx: click.Context | None) -> str:
        name = None if ctx is None else variable(ctx, self)
        option = max(self.opts, key=len)
        return f"'{option}'" if name is None else f"'{option}' (from {name})"


def option(group: str, *declarations: str, **keywords: Any) -> Callable[[Decorated], Decorated]:
    """A decorator that adds an option to a command, like `click.option`, in *group* of its help."""
    shown = {"show_default": True, "show_envvar": True} | keywords
    return click.option(*declarations, cls=Option, group=group, **shown)


def variable_name(context: click.Context, parameter: click.Parameter) -> str:
    """The name of the environment variable for *parameter*."""
    if parameter.envvar is not None:
        return str(parameter.envvar)
    assert parameter.name is not None
    return f"{context.auto_envvar_prefix}_{parameter.name.upper()}"


def variable(context: click.Context, parameter: click.Parameter) -> str | None:
    """The environment variable from which *parameter* has its value, or None."""
    name = parameter.name
    if name is None or context.get_parameter_source(name) is not ParameterSource.ENVIRONMENT:
        return None
    return variable_name(context, parameter)


def with_variables(context: click.Context, message: str) -> str:
    """*message* with the environment variable after each option that has its value from one.

    Only after the first mention of an option: later ones may be in a command to copy.
    """
    for parameter in context.command.params:
        name = variable(context, parameter)
        if name is not None:
            option = max(parameter.opts, key=len)
            message = re.sub(rf"{option}(?![\w-])", f"{option} (from {name})", message, count=1)
    return message


def without_effect(context: click.Context) -> str | None:
    """Why an option that the user gave would have no effect; None if all have one."""
    used = {f"--{name}".replace("_", "-") for name, value in context.params.items() if value}
    for parameter in context.command.params:
        name = max(parameter.opts, key=len)
        assert parameter.name is not None
        is_default = context.get_parameter_source(parameter.name) is ParameterSource.DEFAULT
        if is_default or name not in used or not isinstance(parameter, Option):
            continue
        if parameter.needs is not None and parameter.needs not in used:
            return f"{name} has no effect without {parameter.needs}"
        if parameter.never_with in used:
            return f"{name} has no effect with {parameter.never_with}"
    return None


class GroupedHelp(click.Group):
    """A command whose `--help` has a heading for each group of options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(parameter, "group", "Other"), []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)
        self.format_commands(ctx, formatter)
