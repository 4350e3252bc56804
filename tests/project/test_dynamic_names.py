"""No name that was read or received picks an attribute: such a name would change with the code, and reach all of it."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import agora_analytics

PACKAGE = Path(agora_analytics.__file__).parent

REASONS = {
    "_core/lazy.py": "names that a package exports",
    "_core/wire.py": "what a refusal is told more of, by our own names",
    "_core/validation/values.py": "fields that a model itself checks",
    "spans.py": "fields of a span",
    "cli/settings.py": "options that a command needs, by our own names",
    "export/dataframes.py": "fields of a model",
    "export/selection.py": "fields of a selection",
    "export/write/subprocess_writer.py": "commands of its own list, checked before",
    "models/points.py": "the one value of a point, by the catalogue's name",
    "quota/service_clock.py": "fields that outlast a restart, listed beside",
    "simulator/world/concurrency.py": "six dimensions, told apart before",
}
"""Files that get an attribute by a name that stands elsewhere, and whose names these are."""


def chosen(tree: ast.AST) -> int:
    """How many attributes are got or set by a name that does not stand there."""
    return sum(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"getattr", "setattr", "methodcaller"}
        and not all(isinstance(one, ast.Constant) for one in node.args[1:2])
        for node in ast.walk(tree)
    )


def test_attributes_are_chosen_by_name_only_where_the_names_are_our_own():
    found = Counter[str]()
    for path in PACKAGE.rglob("*.py"):
        found[path.relative_to(PACKAGE).as_posix()] += chosen(ast.parse(path.read_text()))
    assert {name for name, many in found.items() if many} == set(REASONS)


def test_what_is_looked_for_is_found():
    assert chosen(ast.parse('getattr(self, f"_{step}")(1); getattr(x, verb); getattr(x, "a", None)')) == 2
