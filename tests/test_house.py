"""The layers: a module imports only from its own or a lower one, and the core needs only gevent
and blinker."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from support import python

import smtp_blinker

PACKAGE = Path(smtp_blinker.__file__).parent

#: The layers of the core, from the lowest to the highest. A module imports from its own layer or a
#: lower one, never in a circle. A new module of the core needs a place here.
FLOORS = (
    # The protocol, in the terms of its RFCs: octets and text in, values out.
    {
        *(
            "smtp.reply",
            "smtp.lines",
            "smtp.content",
            "smtp.chunks",
            "smtp.names",
            "smtp.paths",
            "smtp.dates",
            "smtp.proxy",
        ),
        *("smtp.xclient", "smtp.verbs"),
    },
    {"smtp.protocol"},
    # Values: what a program sees, and what it may set.
    {
        *("signals", "trace", "session", "header", "stream", "parameters", "extensions", "pools"),
        *("certificates", "dialogue", "turns"),
    },
    {
        *("sasl.mechanism", "sasl.plain", "sasl.cram_md5", "sasl.oauth", "sasl.external"),
        *("sasl.saslprep", "sasl.scram", "sasl.exchange"),
        *("options", "deciders", "hooks", "listener", "keywords"),
    },
    # A function for each verb.
    {
        *("commands.limits", "commands.capabilities", "commands.context", "commands.forwarding"),
        *("commands.hello", "commands.transaction", "commands.verify", "commands.auth"),
        *("commands.table", "commands.dispatch"),
    },
    # The code that blocks.
    {
        *(
            "connection.clock",
            "connection.client_hello",
            "connection.tls",
            "connection.transport",
            "connection.resolver",
        ),
        *("connection.hook_timer", "connection.data_result", "connection.events"),
        *("connection.incoming", "connection.spool", "connection.handshakes", "connection.client"),
        *(
            "connection.chunks",
            "connection.delivery",
            "connection.opening",
            "connection.connection",
        ),
    },
    # Starting and stopping.
    {"threads", "ctrl_c", "server"},
    {"__init__"},
)
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}
#: Modules that use the core and that it doesn't import, and what they may import.
ON_TOP = {
    "users": {"sasl.scram", "pools", "session"},
    "faults": {"server", "session", "signals", "smtp.reply", "stream"},
    "sharing": {"server", "signals"},
    "held_signals": set(),
    "gunicorn": {"held_signals", "server", "session", "sharing", "signals", "smtp.reply"},
    "pytest_plugin": {"testing"},
    "__main__": {"serve"},
}
#: Folders of the core; their `__init__` has a docstring only.
CORE_FOLDERS = {"smtp", "sasl", "commands", "connection"}
#: Folders that use the core. `SHARES` says what of it they may import; the others may import
#: `PUBLIC`.
FOLDERS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - CORE_FOLDERS
PUBLIC = {
    *("__init__", "server", "session", "signals", "smtp.reply", "stream", "trace"),
    *("listeners", "stores"),
}
SHARES = {
    # Events of an outage are sent in pieces, between which others run.
    "listeners": {"signals", "stores", "turns"},
    # Some spool a whole message, as the server does for policies, and check results as it does.
    "stores": {
        *("connection.spool", "hooks", "pools", "session", "signals", "smtp.names", "smtp.reply"),
        *("smtp.proxy", "stream", "trace"),
    },
    "policies": {
        *("options", "pools", "session", "signals", "smtp.names", "smtp.reply", "trace", "turns"),
    },
    # Its faults end connections by force.
    "testing": {
        *("connection.connection", "extensions", "faults", "options", "server", "session"),
        *("signals", "smtp.reply", "stream"),
    },
    "web": {*PUBLIC, "dialogue", "faults", "pools", "smtp.paths"},
    # The program uses everything.
    "serve": {*FLOOR, *ON_TOP, *FOLDERS},
}
#: Folders and modules without sockets, greenlets and waits.
PURE = (
    *("smtp.", "sasl.", "commands.", "trace", "session", "header", "options", "deciders", "hooks"),
    *("parameters", "extensions", "stream"),
)
#: The most lines of a module, and of the body of a function of the core.
MAX_MODULE = 450
MAX_FUNCTION = 50
THIRD_PARTY = {"gevent", "greenlet", "blinker"}


def imports(path: Path) -> tuple[set[str], set[str]]:
    """(modules of the library, other packages) that *path* imports, also for types only."""
    package = ["smtp_blinker", *path.relative_to(PACKAGE).parent.parts]
    own: set[str] = set()
    others: set[str] = set()

    def add(name: str) -> None:
        if name.split(".")[0] == "smtp_blinker":
            own.add(".".join(name.split(".")[1:]) or "__init__")
        elif name != "__future__":
            others.add(name.split(".")[0])

    for node in ast.walk(ast.parse(path.read_text(), str(path))):
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


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


CORE = sorted(
    module_name(path)
    for folder in ("", *CORE_FOLDERS)
    for path in (PACKAGE / folder).glob("*.py")
    if path.stem not in ON_TOP and not (path.stem == "__init__" and path.parent != PACKAGE)
)
GRAPH = {name: imports(PACKAGE / f"{name.replace('.', '/')}.py") for name in CORE}
ABOVE = sorted(path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py"))
ALL = sorted(PACKAGE.rglob("*.py"))


def test_every_module_has_a_floor_and_every_floor_a_module() -> None:
    assert set(CORE) == set(FLOOR)


@pytest.mark.parametrize("name", CORE)
def test_imports_point_down(name: Any) -> None:
    own, _ = GRAPH[name]
    upwards = {other for other in own if FLOOR.get(other, 99) > FLOOR[name]}
    assert upwards == set()


def test_nothing_imports_in_a_circle() -> None:
    # In the whole package, imports in functions and for types included.
    graph = {module_name(path).removesuffix(".__init__"): imports(path)[0] for path in ALL}
    done: set[str] = set()
    under_way: list[str] = []

    def visit(name: str) -> None:
        assert name not in under_way, " -> ".join([*under_way, name])
        if name in done:
            return
        under_way.append(name)
        for other in sorted(graph[name]):
            visit(other)
        under_way.pop()
        done.add(name)

    for name in graph:
        visit(name)


@pytest.mark.parametrize("folder", sorted(CORE_FOLDERS))
def test_a_core_folder_hides_nothing_in_its_init(folder: Any) -> None:
    tree = ast.parse((PACKAGE / folder / "__init__.py").read_text())
    assert len(tree.body) == 1


@pytest.mark.parametrize("path", ALL, ids=module_name)
def test_a_module_has_a_length_that_a_reader_can_hold(path: Any) -> None:
    assert len(path.read_text().splitlines()) <= MAX_MODULE


def test_a_connection_s_life_is_short_to_read() -> None:
    assert len((PACKAGE / "connection/connection.py").read_text().splitlines()) < 350


@pytest.mark.parametrize("name", CORE)
def test_a_function_of_the_core_has_a_length_that_a_reader_can_hold(name: Any) -> None:
    tree = ast.parse((PACKAGE / f"{name.replace('.', '/')}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                first = node.body[min(1, len(node.body) - 1)]
            length = (node.end_lineno or 0) - first.lineno + 1
            assert length <= MAX_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("name", CORE)
def test_core_imports_nothing_but_the_standard_library_gevent_and_blinker(name: Any) -> None:
    assert GRAPH[name][1] - sys.stdlib_module_names - {"_typeshed"} <= THIRD_PARTY


@pytest.mark.parametrize("name", [name for name in CORE if name.startswith(PURE)])
def test_pure_modules_know_no_greenlets_and_no_sockets(name: Any) -> None:
    others = GRAPH[name][1]
    assert not others & {"gevent", "greenlet", "blinker", "select", "selectors", "threading"}
    if name != "options":  # which asks for the host's name
        assert "socket" not in others


def test_the_protocol_imports_nothing_else_of_the_library() -> None:
    for name in CORE:
        if name.startswith("smtp."):
            assert all(other.startswith("smtp.") for other in GRAPH[name][0]), name


def test_commands_import_no_connection_and_a_connection_no_server() -> None:
    for name in CORE:
        above = ("connection.", "server") if name.startswith("commands.") else ("server",)
        if name.startswith(("commands.", "connection.")):
            assert not any(other.startswith(above) for other in GRAPH[name][0]), name


@pytest.mark.parametrize("path", ABOVE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_built_on_top_imports_its_share_of_the_core_only(path: Any) -> None:
    folder = path.relative_to(PACKAGE).parts[0]
    own, _ = imports(path)
    share = SHARES.get(folder, PUBLIC)
    others = {name for name in own if name.split(".")[0] not in share & FOLDERS | {folder}}
    assert others <= share


@pytest.mark.parametrize("path", sorted((PACKAGE / "web/reader").glob("*.py")), ids=module_name)
def test_what_looks_into_messages_imports_its_own_folder_and_the_standard_library(
    path: Any,
) -> None:
    own, others = imports(path)
    assert all(name.startswith("web.reader") for name in own - {"trace"})
    assert others <= sys.stdlib_module_names


def test_trace_fields_can_be_read_without_anything_but_the_standard_library() -> None:
    # By the processes of the page.
    assert GRAPH["trace"][0] == {"smtp.names"}
    for name in ("trace", "smtp.names"):
        assert GRAPH[name][1] <= sys.stdlib_module_names
    assert GRAPH["smtp.names"][0] == set()


@pytest.mark.parametrize("name", sorted(ON_TOP))
def test_helpers_import_their_share_of_the_core_only(name: Any) -> None:
    assert imports(PACKAGE / f"{name}.py")[0] <= ON_TOP[name]


@pytest.mark.parametrize("name", CORE)
def test_core_imports_nothing_that_is_built_on_it(name: Any) -> None:
    assert not {other.split(".")[0] for other in GRAPH[name][0]} & {*FOLDERS, *ON_TOP}


def test_importing_the_library_patches_nothing_and_loads_nothing_on_top() -> None:
    code = (
        "import sys, socket; before = socket.socket; import smtp_blinker;"
        "from gevent import monkey;"
        "assert socket.socket is before and not monkey.is_module_patched('socket');"
        "print(*sorted(name for name in sys.modules if name.startswith('smtp_blinker.')))"
    )
    done = python("-c", code)
    loaded = {name.split(".")[1] for name in done.stdout.split()} - CORE_FOLDERS
    assert not loaded & {*FOLDERS, *ON_TOP}


# What an extra installs


#: The modules that each extra is for.
EXTRAS = {
    "dns": "smtp_blinker.policies.dnsbl",
    "gunicorn": "smtp_blinker.gunicorn",
    "amqp": "smtp_blinker.stores.amqp",
    "s3": "smtp_blinker.stores.s3",
    "metrics": "smtp_blinker.listeners.metrics",
    "pytest": "smtp_blinker.pytest_plugin, trustme",
    "sender-auth": "smtp_blinker.policies.sender.policy",
    "redis": "smtp_blinker.policies.redis_counters, smtp_blinker.stores.redis_stream",
    "web": "smtp_blinker.web",
}
#: Imports as if of all distributions those in its first argument only were installed.
IMPORT_WITH_THESE_ONLY = """
import sys
from importlib import metadata

installed = set(sys.argv[1].split())
distributions = metadata.packages_distributions()
real_version = metadata.version


def version(name):  # which dnspython asks for what it can use
    if name.lower() not in installed:
        raise metadata.PackageNotFoundError(name)
    return real_version(name)


metadata.version = version


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
def test_an_extra_brings_all_that_its_modules_import(extra: Any) -> None:
    setup = ast.parse((Path(__file__).parent.parent / "setup.py").read_text())
    [extras] = [
        ast.literal_eval(node.value)
        for node in setup.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "extras"
    ]
    brought = brought_by(["gevent", "blinker", *extras[extra]]) | {"smtp_blinker"}
    code = f"{IMPORT_WITH_THESE_ONLY}\nimport {EXTRAS[extra]}"
    done = python("-c", code, " ".join(brought))
    assert done.returncode == 0, done.stderr
