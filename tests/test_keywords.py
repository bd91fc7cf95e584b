"""SMTPServer's signature: what editors, `help` and the documentation show of its keywords."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from smtp_blinker import SMTPServer
from smtp_blinker.hooks import ARGUMENTS, HookDecorators, Hooks
from smtp_blinker.options import Options

OPTIONS_PAGE = Path(__file__).parent.parent / "docs" / "options.md"
SIGNATURE = inspect.signature(SMTPServer)
KEYWORDS = {
    name: parameter
    for name, parameter in SIGNATURE.parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}


def described(page: Path) -> set[str]:
    """The names that the tables of *page* with the headings "option" and "hook" have rows for."""
    names: set[str] = set()
    table = ""
    for line in page.read_text().splitlines():
        if not line.startswith("|"):
            table = ""
        elif not table:
            table = line.split("|")[1].strip()
        elif table in ("option", "hook"):
            names |= set(re.findall(r"^\| `(\w+)`", line))
    return names


def test_the_signature_has_the_listener_and_keywords_only() -> None:
    assert [name for name in SIGNATURE.parameters if name not in KEYWORDS] == ["listener"]
    assert SIGNATURE.parameters["listener"].default is inspect.Parameter.empty


def test_the_signature_has_every_hook_and_option_with_its_type_and_default() -> None:
    kinds = get_type_hints(Hooks) | get_type_hints(Options)
    assert list(KEYWORDS) == list(kinds)
    for name, parameter in KEYWORDS.items():
        assert parameter.annotation == kinds[name], name
        assert parameter.annotation is not Any, name
    for option in fields(Options):
        if option.default is not MISSING:
            assert KEYWORDS[option.name].default == option.default, option.name
    assert all(KEYWORDS[name].default is None for name in ARGUMENTS)


def test_the_page_has_the_keywords_of_the_signature() -> None:
    assert described(OPTIONS_PAGE) == set(KEYWORDS)


def test_each_hook_has_its_arguments_and_its_decorator() -> None:
    assert list(ARGUMENTS) == [hook.name for hook in fields(Hooks)]
    decorators = {name for name in vars(HookDecorators) if name.startswith("on_")}
    assert decorators == set(ARGUMENTS)


@pytest.mark.parametrize("name", KEYWORDS)
def test_help_has_a_line_for_each_keyword(name: str) -> None:
    shown = pydoc.render_doc(SMTPServer, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    [line] = re.findall(rf"^ \|  :param {name}: (.*)$", shown, re.M)
    assert len(line) > 10
    # Before any method.
    assert shown.index(line) < shown.index("Methods defined here")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("sizes", "size"),
        ("max_client_per_ip", "max_clients_per_ip"),
        ("max_client", "max_clients"),
        ("on_dat", "on_data"),
        ("onrcpt_to", "on_rcpt_to"),
        ("hook_time_out", "hook_timeout"),
    ],
)
def test_an_unknown_keyword_is_a_type_error_that_names_the_nearest(wrong: str, near: str) -> None:
    keywords: Mapping[str, Any] = {wrong: None}
    with pytest.raises(TypeError, match=f"no option '{wrong}'; did you mean {near}\\?"):
        SMTPServer(None, **keywords)


def test_an_unknown_keyword_that_is_near_to_none_is_named() -> None:
    with pytest.raises(TypeError, match="zzz"):
        SMTPServer(None, zzz=5)  # type: ignore[call-arg]


def test_a_subclass_may_have_a_constructor_of_its_own() -> None:
    class Server(SMTPServer):
        def __init__(self, domain: str, **keywords: Any) -> None:
            super().__init__(None, name=f"mx.{domain}", **keywords)

    assert list(inspect.signature(Server).parameters) == ["domain", "keywords"]
    assert Server("example.com", size=5).options.name == "mx.example.com"
    assert Server.__doc__ is None
