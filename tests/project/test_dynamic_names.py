"""No stored or received name selects an attribute: renaming would break it, and it could reach any attribute."""

from __future__ import annotations

import ast
from collections import Counter

from helpers.paths import PACKAGE

REASONS = {
    "_core/lazy.py": "names that a package exports",
    "_core/wire.py": "fields of an error, from names in the code",
    "_core/validation/values.py": "fields that a model validates",
    "spans.py": "fields of a span",
    "cli/settings.py": "options that a command needs, from names in the code",
    "export/dataframes.py": "fields of a model",
    "export/selection.py": "fields of a selection",
    "export/write/writer_main.py": "commands, checked against a list",
    "models/points.py": "the value of a point, from the catalogue",
    "quota/service_clock.py": "fields that survive a restart, from a list",
    "simulator/world/concurrency.py": "six dimensions, validated first",
}
"""Files that get or set attributes by a variable name, and the source of these names."""


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
