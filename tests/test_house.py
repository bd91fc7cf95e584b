"""The floors: imports only point down, and the core needs nothing but gevent and blinker."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import smtp_blinker

PACKAGE = Path(smtp_blinker.__file__).parent

#: The drawing. A module imports from its own floor or those below, never in a circle; a new
#: module of the core needs a line here.
FLOORS = {
    # Values: no I/O, and but for each other no imports of the library's own.
    "signals": 0,
    "reply": 0,
    "session": 0,
    "options": 0,
    "hooks": 0,
    "listener": 0,
    # Octets and text in, values out.
    "paths": 1,
    "content": 1,
    "proxy": 1,
    "xclient": 1,
    "hook_timer": 1,
    "data_result": 1,
    # The protocol's parts: each knows one thing.
    "protocol": 2,
    "commands": 2,
    "auth": 2,
    "conduct": 2,
    "report": 2,
    "tls": 2,
    "resolver": 2,
    "offers": 2,
    "transport": 2,
    # What blocks.
    "stream": 3,
    "connection": 3,
    # What starts and stops.
    "server": 4,
    "threads": 4,
    "ctrl_c": 4,
    "__init__": 5,
}
#: Beside the core: built on top of it, and not imported by it.
ON_TOP = {
    "users": {"session"},
    "sharing": {"server", "signals"},
    "gunicorn": {"reply", "server", "session", "sharing", "signals"},
    "pytest_plugin": {"testing"},
}
#: Folders of their own, all built on top, and what of the core they may import; what isn't
#: listed here may import the public names.
FOLDERS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
SHARES = {
    "listeners": {"signals"},
    "stores": {"reply", "session", "stream", "signals"},
    # Its faults end connections by force, so it knows them.
    "testing": {"connection", "options", "reply", "server", "session", "signals", "stream"},
}
PUBLIC = {"__init__", "reply", "server", "session", "signals", "stream", "listeners", "stores"}
#: Modules that see no socket, no greenlet and no clock to wait on.
PURE = {
    "reply", "session", "options", "hooks", "paths", "content", "proxy", "xclient", "protocol",
    "commands", "auth", "conduct", "tls", "data_result", "offers",
}  # fmt: skip
THIRD_PARTY = {"gevent", "greenlet", "blinker"}


def top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node but those that only a type checker sees."""
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            nodes += node.orelse
        else:
            nodes += ast.iter_child_nodes(node)


def imports(path: Path) -> tuple[set[str], set[str]]:
    """(modules of the library, other packages) that *path* imports when it runs."""
    package = ["smtp_blinker", *path.relative_to(PACKAGE).parent.parts]
    own: set[str] = set()
    others: set[str] = set()

    def add(name: str) -> None:
        if name.split(".")[0] == "smtp_blinker":
            own.add(".".join(name.split(".")[1:]) or "__init__")
        elif name != "__future__":
            others.add(name.split(".")[0])

    for node in top_level(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = ".".join(package[: len(package) - node.level + 1])
                module = f"{base}.{node.module}" if node.module else base
            else:
                module = node.module or ""
            for alias in node.names:
                # "from . import reply" names a module, "from .reply import Reply" doesn't.
                inner = Path(*module.split(".")[1:], f"{alias.name}.py")
                is_module = module.startswith("smtp_blinker") and (PACKAGE / inner).exists()
                add(f"{module}.{alias.name}" if is_module else module)
    return own, others


CORE = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in ON_TOP)
GRAPH = {name: imports(PACKAGE / f"{name}.py") for name in CORE}
ABOVE = sorted(path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py"))


def test_every_module_has_a_floor_and_every_floor_a_module():
    assert set(CORE) == set(FLOORS)


@pytest.mark.parametrize("name", CORE)
def test_imports_point_down(name):
    own, _ = GRAPH[name]
    upwards = {other for other in own if FLOORS.get(other, 99) > FLOORS[name]}
    assert upwards == set()


def test_nothing_imports_in_a_circle():
    done: set[str] = set()
    under_way: list[str] = []

    def visit(name: str) -> None:
        assert name not in under_way, " -> ".join([*under_way, name])
        if name in done:
            return
        under_way.append(name)
        for other in sorted(GRAPH[name][0]):
            visit(other)
        under_way.pop()
        done.add(name)

    for name in CORE:
        visit(name)


@pytest.mark.parametrize("name", CORE)
def test_core_imports_nothing_but_the_standard_library_gevent_and_blinker(name):
    assert GRAPH[name][1] - sys.stdlib_module_names <= THIRD_PARTY


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_know_no_greenlets_and_no_sockets(name):
    others = GRAPH[name][1]
    assert not others & {"gevent", "greenlet", "blinker", "select", "selectors", "threading"}
    if name != "options":  # which asks for the host's name
        assert "socket" not in others


def test_signals_import_nothing_of_the_librarys_own():
    assert GRAPH["signals"][0] == set()
    assert GRAPH["reply"][0] == set()
    assert GRAPH["proxy"][0] == set()
    assert GRAPH["content"][0] <= {"reply"}


def test_only_the_connection_and_the_server_send_signals_through_the_reporter():
    senders = {name for name, (own, _) in GRAPH.items() if "signals" in own}
    assert senders <= {"report", "connection", "server"}


def test_connection_does_not_import_the_server():
    assert "server" not in GRAPH["connection"][0]


@pytest.mark.parametrize("path", ABOVE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_built_on_top_imports_its_share_of_the_core_only(path):
    folder = path.relative_to(PACKAGE).parts[0]
    own, _ = imports(path)
    assert {name.split(".")[0] for name in own} - {folder} <= SHARES.get(folder, PUBLIC)


@pytest.mark.parametrize("name", sorted(ON_TOP))
def test_helpers_import_their_share_of_the_core_only(name):
    assert imports(PACKAGE / f"{name}.py")[0] <= ON_TOP[name]


@pytest.mark.parametrize("name", CORE)
def test_core_imports_nothing_that_is_built_on_it(name):
    assert not {other.split(".")[0] for other in GRAPH[name][0]} & {*FOLDERS, *ON_TOP}


def test_importing_the_library_patches_nothing_and_loads_nothing_on_top():
    code = (
        "import sys, socket; before = socket.socket; import smtp_blinker;"
        "from gevent import monkey;"
        "assert socket.socket is before and not monkey.is_module_patched('socket');"
        "print(*sorted(name for name in sys.modules if name.startswith('smtp_blinker.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
        timeout=60,
    )
    loaded = {name.split(".")[1] for name in done.stdout.split()}
    assert not loaded & {*FOLDERS, *ON_TOP}


# What an extra installs


#: The modules that each extra is for.
EXTRAS = {
    "gunicorn": "smtp_blinker.gunicorn",
    "metrics": "smtp_blinker.listeners.metrics",
    "pytest": "smtp_blinker.pytest_plugin, trustme",
    "web": "smtp_blinker.web",
}
#: Imports as if of all distributions those in its first argument only were installed.
IMPORT_WITH_THESE_ONLY = """
import sys
from importlib.metadata import packages_distributions

installed = set(sys.argv[1].split())
distributions = packages_distributions()


class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        owners = distributions.get(name.partition(".")[0], ())
        if owners and not installed.intersection(map(str.lower, owners)):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NotInstalled())
"""


def brought_by(requirements: list[str]) -> set[str]:
    """The names of the distributions that pip would install for *requirements*, in lower case."""
    found: dict[str, set[str]] = {}
    todo = [(Requirement(text), "") for text in requirements]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = requirement.name.lower()
        wanted = {"", *requirement.extras} - found.get(name, set())
        found.setdefault(name, set()).update(wanted)
        todo += [(Requirement(text), one) for one in wanted for text in requires(name) or ()]
    return set(found) | {name.replace("-", "_") for name in found}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_all_that_its_modules_import(extra):
    setup = ast.parse((Path(__file__).parent.parent / "setup.py").read_text())
    [extras] = [
        ast.literal_eval(node.value)
        for node in setup.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "extras"
    ]
    brought = brought_by(["gevent", "blinker", *extras[extra]]) | {"smtp_blinker"}
    code = f"{IMPORT_WITH_THESE_ONLY}\nimport {EXTRAS[extra]}"
    done = subprocess.run(
        [sys.executable, "-c", code, " ".join(brought)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
