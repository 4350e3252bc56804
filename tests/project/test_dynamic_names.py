"""No stored or received name selects an attribute: it would break as the code changes, and could reach anything."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import agora_analytics

PACKAGE = Path(agora_analytics.__file__).parent

REASONS = {
    "_core/lazy.py": "names that a package exports",
    "_core/wire.py": "fields of an error, by our own names",
    "_core/validation/values.py": "fields that a model validates",
    "spans.py": "fields of a span",
    "cli/settings.py": "options that a command needs, by our own names",
    "export/dataframes.py": "fields of a model",
    "export/selection.py": "fields of a selection",
    "export/write/subprocess_writer.py": "commands, checked against a list",
    "models/points.py": "the one value of a point, by the catalogue's name",
    "quota/service_clock.py": "fields that are kept over a restart, from a list",
    "simulator/world/concurrency.py": "six dimensions, checked before",
}
"""Files that get or set attributes by a variable name, and where these names come from."""


def count_dynamic_names(tree: ast.AST) -> int:
    """Return how many attributes are read or set by a name that is no literal."""
    return sum(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"getattr", "setattr", "methodcaller"}
        and not all(isinstance(name, ast.Constant) for name in node.args[1:2])
        for node in ast.walk(tree)
    )


def test_only_the_listed_files_select_attributes_by_variable_names():
    counts = Counter[str]()
    for path in PACKAGE.rglob("*.py"):
        counts[path.relative_to(PACKAGE).as_posix()] += count_dynamic_names(ast.parse(path.read_text()))
    assert {name for name, count in counts.items() if count} == set(REASONS)


def test_variable_attribute_names_are_detected():
    assert count_dynamic_names(ast.parse('getattr(self, f"_{step}")(1); getattr(x, verb); getattr(x, "a", None)')) == 2
