"""The structure of the package: layers, one file for each outside library, lazy imports, and public names.

CONTRIBUTING.md calls a layer a floor, and the file that may import an outside library its door.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.paths import PACKAGE, ROOT

import agora_analytics

ROOT_PACKAGE = "agora_analytics"


class Import(NamedTuple):
    """One imported module, and where it is imported."""

    file: str
    line: int
    module: str


def is_module(dotted: str) -> bool:
    path = ROOT.joinpath(*dotted.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports_of(path: Path) -> Iterator[Import]:
    """Yield every import of a file, also those inside functions and those for type checkers."""
    file = path.relative_to(PACKAGE).as_posix()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (Import(file, node.lineno, name if is_module(name) else str(node.module)) for name in names)


@cache
def imports() -> list[Import]:
    """Return every import of the package."""
    return [found for path in sorted(PACKAGE.rglob("*.py")) for found in imports_of(path)]


LAZY = {"quota", "streams", "endpoints", "export", "fleet", "dlt", "ops"}
"""Packages that load their modules on first use: an import from one may load more than is visible."""


def floors() -> dict[str, int]:
    """Return the floors by path, from the table in CONTRIBUTING.md."""
    rows = re.findall(r"^\| (\d) [\w ]+ \| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    return {path: int(floor) for floor, paths in rows for path in re.findall(r"`([\w/]+)`", paths)}


FLOORS = floors()


def floor_of(file: str) -> int:
    """Return the floor of the longest path that matches; the root package is just below the programs."""
    if file == "__init__.py":
        return 6
    matching = [path for path in FLOORS if file == f"{path}.py" or (path.endswith("/") and file.startswith(path))]
    return FLOORS[max(matching, key=len)]


def file_of(module: str) -> str:
    """Return the file of a module: `quota/__init__.py` for `agora_analytics.quota`."""
    path = ROOT.joinpath(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).relative_to(PACKAGE).as_posix()


def own_imports() -> list[Import]:
    return [found for found in imports() if found.module.split(".")[0] == ROOT_PACKAGE]


def is_door(file: str) -> bool:
    return file.endswith("__init__.py")


def test_the_table_of_floors_covers_every_part_of_the_package():
    parts = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {name.split("/")[0] for name in FLOORS} == parts - {"__init__", "__pycache__"}
    assert [name for name in FLOORS if not (PACKAGE / name).is_dir() and not (PACKAGE / f"{name}.py").is_file()] == []
    assert floor_of("errors.py") == 0
    assert floor_of("quota/bucket.py") == 1
    assert floor_of("quota/quota.py") == 2


def test_imports_only_go_down():
    up = [
        found
        for found in own_imports()
        if not is_door(found.file) and floor_of(file_of(found.module)) > floor_of(found.file)
    ]
    assert up == []


def test_there_is_no_import_circle():
    """Imports for type checkers count; a lazy package imports nothing by itself."""
    imported: dict[str, set[str]] = {}
    for found in own_imports():
        if found.file not in {"__init__.py", *(f"{name}/__init__.py" for name in LAZY)}:
            imported.setdefault(found.file, set()).add(file_of(found.module))

    def reachable(file: str) -> set[str]:
        seen: set[str] = set()
        pending = [file]
        while pending:
            new = imported.get(pending.pop(), set()) - seen
            seen |= new
            pending += new
        return seen

    assert sorted(file for file in imported if file in reachable(file)) == []


def test_no_module_imports_from_the_root_package_or_a_lazy_one():
    doors = {ROOT_PACKAGE, *(f"{ROOT_PACKAGE}.{name}" for name in LAZY)}
    inside = [found for found in own_imports() if not is_door(found.file) and floor_of(found.file) < 8]
    assert [found for found in inside if found.module in doors] == []


def test_the_simulator_shares_values_with_the_client_and_no_logic():
    shared = {
        file_of(found.module)
        for found in own_imports()
        if found.file.startswith("simulator/") and found.module.split(".")[1:2] not in (["simulator"], [])
    }
    assert {file for file in shared if floor_of(file) > 0} == {"protocols.py"}


@pytest.mark.parametrize("module", ["asyncio", "time", "os", "socket", "threading", "logging", "secrets", "uuid"])
def test_the_pure_floors_import_no_event_loop_clock_or_system_module(module):
    assert [found for found in imports() if floor_of(found.file) < 2 and found.module.split(".")[0] == module] == []


def test_the_pure_floors_never_read_a_clock():
    pure = [path for path in PACKAGE.rglob("*.py") if floor_of(path.relative_to(PACKAGE).as_posix()) < 2]
    assert len(pure) > 12
    calls = {
        (path.name, node.func.attr)
        for path in pure
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert ("spans.py", "timestamp") in calls
    assert {name for name, method in calls if method in {"now", "utcnow", "today", "time", "monotonic"}} == set()


# Each outside library and the files that may import it.
DOORS = {
    # In the client for a type; the page is a server.
    "aiohttp": {
        "_core/transport.py",
        "client.py",
        "ops/alerts/webhook.py",
        "ops/push/receiver.py",
        "ops/web/",
        "simulator/server.py",
    },
    # The simulator decodes JSON itself: it shares no logic with the client, so that the two can disagree.
    "msgspec": {"_core/decoding/json.py", "simulator/service/params.py", "simulator/service/service.py"},
    "cattrs": {"_core/decoding/lenient.py"},
    "aiolimiter": {"quota/limiter.py"},
    # Elsewhere for the types of a client, a pool and a store that users may pass.
    "redis": {"_core/redis.py", "quota/redis_ledger.py", "streams/redis_checkpoints.py"},
    "psycopg": {"_core/postgres.py"},
    "psycopg_pool": {
        "quota/postgres_ledger.py",
        "streams/postgres_checkpoints.py",
        "streams/postgres_sink.py",
    },
    "docket": {"fleet/queue.py"},
    "obstore": {"streams/object_checkpoints.py"},
    "typer": {"cli/"},
    "rich": {"cli/output.py"},
    "pytest": {"simulator/fixtures.py"},
    # In the source to say what is missing.
    "pyarrow": {"dlt/source.py", "export/arrow.py", "export/dataframes.py"},
    "dlt": {"dlt/source.py"},
    "duckdb": {"export/formats/duckdb.py"},
    "zstandard": {"export/formats/zstd.py"},
    "fsspec": {"export/sinks/remote.py"},
    "polars": {"export/dataframes.py"},
    "pandas": {"export/dataframes.py"},
    "attrs": {""},
    "opentelemetry": {"ops/tracing/"},
    "prometheus_client": {"ops/metrics/"},
    # A dependency of aiohttp.
    "yarl": {"_core/addresses.py", "_core/transport.py", "ops/alerts/webhook.py", "ops/push/receiver.py"},
}


def test_each_outside_library_has_one_door():
    outside = [
        found
        for found in imports()
        if found.module.split(".")[0] not in sys.stdlib_module_names | {ROOT_PACKAGE, "__future__"}
    ]
    assert outside
    unexpected = [
        found
        for found in outside
        if not any(found.file.startswith(door) for door in DOORS.get(found.module.split(".")[0], ()))
    ]
    assert unexpected == []


EXPORTS = ["pyarrow", "duckdb", "zstandard", "fsspec", "polars", "pandas"]
OPTIONAL = [
    *EXPORTS,
    "cattrs",
    "typer",
    "click",
    "rich",
    "hypothesis",
    "pytest",
    "redis",
    "psycopg",
    "obstore",
    "docket",
    "dlt",
    "prometheus_client",
    "opentelemetry",
]


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    # Coverage would load modules of its own.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    return set(result.stdout.split())


@pytest.mark.process
def test_importing_the_root_package_loads_no_optional_library():
    loaded = loaded_by("from agora_analytics import *")
    assert {"aiohttp", "attrs", "msgspec"} <= loaded
    assert "aiohttp" not in loaded_by("import agora_analytics")
    assert loaded & {*OPTIONAL, "sqlite3", "importlib.metadata"} == set()


@pytest.mark.process
def test_importing_the_root_package_loads_neither_simulator_nor_command_line():
    unwanted = "{m for m in sys.modules if m.startswith(('agora_analytics.simulator', 'agora_analytics.cli'))}"
    assert "agora_analytics" in loaded_by(f"import agora_analytics, sys\nassert not {unwanted}")


@pytest.mark.process
def test_importing_the_client_loads_no_part_that_not_every_program_uses():
    parts = [
        "endpoints.calls",
        "endpoints.insights",
        "endpoints.realtime",
        "catalogue",
        "quota.file_ledger",
        "quota.snapshot",
    ]
    unneeded = {f"agora_analytics.{name}" for name in [*parts, "streams", "export", "_core.decoding.lenient"]} | {
        "html",
        "cattrs",
    }
    client = "from agora_analytics import AnalyticsClient"
    assert loaded_by(f"{client}\nimport sys\nassert not {unneeded} & sys.modules.keys()")


def test_an_unknown_name_in_the_root_package_raises_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'agora_analytics' has no attribute 'Analytics'"):
        _ = agora_analytics.Analytics  # type: ignore[attr-defined]
    assert re.match(r"\d+\.\d+", agora_analytics.__version__)


def test_sql_statements_have_no_numbered_parameters():
    """Python 3.12.0 to 3.12.3 warn when `?1` gets its value from a sequence."""
    assert [path.name for path in PACKAGE.rglob("*.py") if re.search(r"(?<!\[)\?\d", path.read_text())] == []


# Public names.

PUBLIC = sorted(
    ".".join(["agora_analytics", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if "cli" not in path.parts and (path.name == "__init__.py" or not path.name.startswith("_"))
)


def order(name: str) -> tuple[int, str]:
    """Return a key that sorts constants first, then classes, then the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def members(module: object) -> Iterator[tuple[str, object]]:
    """Yield the classes and functions that a module exports in `__all__`, or those that it defines."""
    exported = getattr(module, "__all__", None)
    for name, value in inspect.getmembers(module):
        if name in exported if exported is not None else not name.startswith("_"):
            defined_here = getattr(value, "__module__", None) == module.__name__
            if (exported is not None or defined_here) and (inspect.isclass(value) or inspect.isfunction(value)):
                yield name, value


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_lists_only_existing_names_and_in_order(name):
    module = importlib.import_module(name)
    listed = list(getattr(module, "__all__", []))
    assert listed == sorted(listed, key=order)
    assert [entry for entry in listed if not hasattr(module, entry)] == []
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring(name):
    module = importlib.import_module(name)
    undocumented = [] if (module.__doc__ or "").strip() else [name]
    for label, value in members(module):
        undocumented += [] if (value.__doc__ or "").strip() else [label]
        if inspect.isclass(value):
            undocumented += [
                f"{label}.{key}"
                for key, item in vars(value).items()
                if not key.startswith("_")
                and (inspect.isfunction(item) or isinstance(item, property | classmethod | staticmethod))
                and not (item.__doc__ or "").strip()
            ]
    assert undocumented == []


def test_every_public_name_is_in_the_typing_test():
    checked = "".join(path.read_text() for path in (ROOT / "tests/typing").glob("*.py"))
    assert [name for name in agora_analytics.__all__ if not re.search(rf"\b{name}\b", checked)] == []
