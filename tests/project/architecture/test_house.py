"""Rules of the house that import-linter cannot say."""

from __future__ import annotations

import ast
import importlib
import os
import re
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from paytrust.infra.statements import Fragment
from paytrust.plugins.registry import Registry
from paytrust.services import Services

ROOT = Path(__file__).parents[3]
ROOMS = {
    "secrets",
    "idempotency",
    "tenants",
    "keys",
    "accounts",
    "books",
    "invoices",
    "installments",
    "payments",
    "webhooks",
    "reconciliation",
}
FILES = {"__init__", "model", "tables", "store", "service", "routes", "jobs"}
FOLDERS = {"api", "commands", "contract", "embedded", "infra", "plugins", "security"}
ENDINGS = (".py", ".md", ".toml", ".txt", ".sql", ".yml", ".html")
MOCKS = {
    "unittest.mock",
    "mock",
    "pytest_mock",
    "respx",
    "pytest_httpx",
    "responses",
    "httpretty",
    "vcr",
    "flexmock",
}


def sources(*folders):
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if ".venv" not in path.parts
    )


@cache
def imports(path):
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def test_every_folder_is_a_room_or_a_layer_that_is_named_here():
    folders = {path.parent.name for path in (ROOT / "paytrust").glob("*/*.py")}
    assert folders == ROOMS | FOLDERS


@pytest.mark.parametrize(
    "package",
    [
        "paytrust",
        *sorted(f"plugins/{p.name}/{p.name.replace('-', '_')}" for p in (ROOT / "plugins").iterdir()),
    ],
)
def test_no_modules_import_each_other_in_a_circle(package):
    """
    Imports inside functions and under TYPE_CHECKING count too: a reader has to follow them all the same.
    """
    base = (ROOT / package).parent
    names = {
        ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources(package)
    }
    graph = {}
    for name, path in names.items():
        found = {other for other in imports(path) if other in names}
        # `from package import module` names both; what is meant is the module.
        graph[name] = {
            other
            for other in found
            if other != name and not any(each.startswith(f"{other}.") for each in found)
        }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_a_room_has_only_the_files_a_room_may_have():
    """A file that outgrew its room's rule is a package of the same name."""
    for room in ROOMS:
        names = {path.stem for path in (ROOT / "paytrust" / room).iterdir() if path.name != "__pycache__"}
        assert names <= FILES, f"{room}: {names - FILES}"


def test_no_file_has_more_than_500_lines():
    long = {path for path in sources("paytrust") if len(path.read_text().splitlines()) > 500}
    assert not {str(path.relative_to(ROOT)) for path in long}


def borrowed(path):
    """What a file imports of another room's store or tables, as (room, module, name)."""
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        for module in modules:
            found = re.fullmatch(r"paytrust\.(\w+)\.(store|tables)(?:\.(\w+))?", module)
            if found and not path.is_relative_to(ROOT / "paytrust" / found[1]):
                yield found.groups()


def test_only_fragments_leave_a_rooms_store_and_only_for_stores():
    """A store puts the fragments of lower rooms into a statement of its own (docs/adr/0029)."""
    for path in sources("paytrust", "plugins", "examples"):
        for room, module, name in borrowed(path):
            store = importlib.import_module(f"paytrust.{room}.store")
            fragment = module == "store" and isinstance(getattr(store, name or "", None), Fragment)
            assert fragment, f"{path.relative_to(ROOT)} imports {name} of {room}/{module}"
            assert path.name == "store.py", path.relative_to(ROOT)


def layers():
    """Each module of the house and how high it lies."""
    house = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    return {
        name.strip(): height
        for height, layer in enumerate(reversed(house["layers"]))
        for name in layer.split("|")
    }


def test_no_object_of_a_room_is_given_one_of_a_room_above_it(settings):
    """
    Imports point downward, and so do calls: what a room could call through a Protocol has to be handed to it.
    """
    height = layers()

    def room_of(thing):
        parts = type(thing).__module__.split(".")
        return parts[1] if parts[0] == "paytrust" and parts[1] in ROOMS else None

    def held(thing):
        for value in vars(thing).values() if hasattr(thing, "__dict__") else ():
            yield from value.values() if isinstance(value, dict) else [value]

    waiting = [thing for thing in held(Services(settings, Registry())) if room_of(thing)]
    seen = {}
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        for other in [other for other in held(thing) if room_of(other)]:
            assert height[room_of(other)] <= height[room_of(thing)], f"{thing} holds {other}"
            waiting.append(other)
    assert {room_of(thing) for thing in seen.values()} >= {
        "payments",
        "reconciliation",
        "webhooks",
        "accounts",
    }


def test_no_test_imports_a_mocking_library():
    for path in sources("tests", "plugins", "examples"):
        used = {
            name
            for name in imports(path)
            if name in MOCKS or name.startswith(tuple(f"{mock}." for mock in MOCKS))
        }
        assert not used, f"{path.relative_to(ROOT)} imports {used}"


def test_plugins_import_nothing_of_the_core_but_what_is_exported():
    for path in sources(
        *(f"plugins/{p.name}/{p.name.replace('-', '_')}" for p in (ROOT / "plugins").glob("paytrust-*"))
    ):
        deep = {
            name
            for name in imports(path)
            if name.startswith("paytrust.") and not name.removeprefix("paytrust.")[0].isupper()
        }
        exported = {f"paytrust.{name}" for name in _exported()}
        assert deep <= exported, f"{path.relative_to(ROOT)} imports {deep - exported}"


def _exported():
    import paytrust

    return paytrust.__all__


def test_the_core_knows_no_plugin_by_name():
    for path in sources("paytrust"):
        if path.name == "cli.py":  # tells how to install the bundled ones
            continue
        strings = {
            n.value
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Constant) and isinstance(n.value, str)
        }
        named = strings & {"xendit", "paytrust_midtrans", "paytrust_sandbox"}
        assert not named, f"{path.relative_to(ROOT)} names {named}"


@pytest.mark.parametrize("folder", ["paytrust", "plugins"])
def test_no_file_is_called_utils_or_the_like(folder):
    assert not [
        p
        for p in sources(folder)
        if p.stem in {"utils", "util", "helpers", "helper", "common", "misc", "managers", "manager"}
    ]


def test_money_never_meets_a_float():
    for path in [
        *sources("paytrust/invoices", "paytrust/payments", "paytrust/books", "paytrust/accounts"),
        ROOT / "paytrust/money.py",
    ]:
        tree = ast.parse(path.read_text())
        floats = [
            n
            for n in ast.walk(tree)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "float"
        ]
        divisions = [n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div)]
        assert not floats + divisions, f"{path.relative_to(ROOT)}:{(floats + divisions)[0].lineno}"


def test_no_transaction_is_open_across_the_network():
    """
    Inside `async with ...transaction(...)`, and in functions that take a transaction, no gateway verb is
    awaited.
    """
    verbs = {"create_payment", "find_payments", "expire_payment"}
    for path in sources("paytrust"):
        for node in ast.walk(ast.parse(path.read_text())):
            opens = isinstance(node, ast.AsyncWith) and any(
                "transaction(" in ast.unparse(item) for item in node.items
            )
            takes = isinstance(node, ast.AsyncFunctionDef) and any(arg.arg == "tx" for arg in node.args.args)
            if opens or takes:
                called = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)} & verbs
                assert not called, f"{path.relative_to(ROOT)}:{node.lineno} calls {called}"


def test_no_file_names_a_path_of_a_machine_or_a_host_of_a_registry():
    forbidden = re.compile(r"/(?:work|root|home)/[a-z]|index-url|pypi\.org/simple|registry\.npmjs")
    skipped = {".venv", ".tools", ".git", ".data", "node_modules"}
    for folder, folders, names in os.walk(ROOT):
        folders[:] = set(folders) - skipped
        for path in (Path(folder, name) for name in names if name == "Makefile" or name.endswith(ENDINGS)):
            if path != Path(__file__) and path.is_file():
                found = [
                    line
                    for line in path.read_text(errors="replace").splitlines()
                    if forbidden.search(line) and "emit-index-url" not in line
                ]
                assert not found, f"{path.relative_to(ROOT)}: {found[0]}"
