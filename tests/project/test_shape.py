"""The shape of the package: names of files and classes, and the size of files and functions."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.paths import PACKAGE, ROOT

MAX_FILE = 400
MAX_FUNCTION = 25
REASON = f"longer than {MAX_FUNCTION} lines"
"""The end of the comment that justifies a longer function."""


class Function(NamedTuple):
    """A function: its location, the lines from its first statement to its last, and its source."""

    place: str
    lines: int
    text: str


def functions(path: Path) -> Iterator[Function]:
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[ast.get_docstring(node) is not None :][:1]
            end = node.end_lineno or node.lineno
            lines = text.splitlines()[node.lineno - 1 : end]
            size = end - first[0].lineno + 1 if first else 0
            yield Function(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}", size, "\n".join(lines))


def test_files_inside_the_package_have_no_underscore():
    inside = [path for path in PACKAGE.rglob("*.py") if not path.stem.startswith("__")]
    assert [str(path.relative_to(PACKAGE)) for path in inside if path.stem.startswith("_")] == []
    folders = {path.parent for path in inside}
    assert [str(path.relative_to(PACKAGE)) for path in folders if path.name.startswith("_")] == ["_core"]
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_no_class_name_is_used_twice():
    classes = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(str(path.relative_to(PACKAGE)))
    assert {name: places for name, places in classes.items() if len(places) > 1} == {}


def test_no_two_test_files_have_one_name():
    """The folders of tests are no packages, so that pytest would refuse the second."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)) > 100


@pytest.mark.parametrize("folder", ["agora_analytics", "tests", "benchmarks", "examples"])
def test_no_file_is_longer_than_400_lines(folder):
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert lengths
    assert {str(path): lines for path, lines in lengths.items() if lines > MAX_FILE} == {}


def test_a_function_of_more_than_25_lines_gives_a_reason():
    found = [function for path in sorted(PACKAGE.rglob("*.py")) for function in functions(path)]
    assert len(found) > 1_000
    long = [function for function in found if function.lines > MAX_FUNCTION]
    assert [function.place for function in long if REASON not in function.text] == []
    assert [function.place for function in found if function not in long and REASON in function.text] == []


def exports(package: Path) -> list[str]:
    for node in ast.parse((package / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def test_no_package_exports_a_function_with_the_name_of_one_of_its_modules():
    """Importing the module would replace the function."""
    clashes = {
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for package in (path.parent for path in PACKAGE.rglob("__init__.py"))
        for path in package.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (package / f"{node.name}.py").exists()
        and node.name in exports(package)
    }
    assert clashes == set()
