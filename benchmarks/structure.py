"""Figures of the code's structure: `python -m benchmarks.structure [TREE ...]` prints one column for each tree.

A tree is a checkout, this one by default. `git worktree add /tmp/before <commit>` makes one of an older commit.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import attrs

PACKAGE = "agora_analytics"

# Terms that an engineer of this field searches for, as regular expressions.
WORDS = {
    "rate limit": r"rate[ _-]?limit",
    "token bucket": r"token[ _-]bucket",
    "heartbeat": "heartbeat",
    "idempotent": "idempoten",
    "at least once": r"at[ -]least[ -]once",
    "exactly once": r"exactly[ -]once",
    "deduplicate": r"de-?dup",
    "serialize": "serializ",
    "failover": r"fail[ -]?over",
    "throttle": "throttl",
    "priority": "priorit",
    "staging": "staging",
    "fault injection": r"fault[ _-]?inject|inject\w* (a )?fault",
    "worker": "worker",
    "queue": "queue",
    "schema": "schema",
}

# Packages whose `__init__` loads what is behind it on first use: importing one loads nothing else.
LAZY = {"", "quota", "streams", "endpoints", "export"}

LONG = 25
"""Lines that a function may have without a comment that gives the reason."""

_DIRECTIVE = re.compile(r"#\s*(noqa|type:|pyright:|pragma:)")


@attrs.frozen
class Module:
    """One file of the package: its name inside the package, its text and its syntax tree."""

    name: str
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The folder at the top of the package; empty for a file beside these."""
        return self.name.partition("/")[0] if "/" in self.name else ""


def modules(package: Path) -> list[Module]:
    """Read every Python file below `package`."""
    found = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append(Module(path.relative_to(package).as_posix(), text, ast.parse(text)))
    return found


def sizes(files: list[Module]) -> Iterator[tuple[str, str]]:
    """Yield sizes of files and functions in lines; functions count from `def` to the last line, docstrings included."""
    lines = {module.name: len(module.text.splitlines()) for module in files}
    largest = max(lines, key=lambda name: lines[name])
    yield "files", f"{len(lines)}"
    yield "lines of the median file", f"{median(lines.values()):.0f}"
    yield "lines of the largest file", f"{lines[largest]} ({largest})"
    functions = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for module in files
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    yield "functions", f"{len(functions):,}"
    yield "lines of a function, 90th percentile", f"{sorted(functions)[len(functions) * 9 // 10]}"
    yield f"functions over {LONG} lines", f"{sum(length > LONG for length in functions)}"


def circles(files: list[Module]) -> Iterator[tuple[str, str]]:
    """Yield the files that import each other in circles of any length; imports for type checkers count."""
    names = {module.name for module in files}
    arrows = {module.name: set(_imports(module, names)) for module in files if not _is_lazy(module.name)}
    reach = {name: _reachable(name, arrows) for name in arrows}
    stuck = [name for name in arrows if name in reach[name]]
    rings = {frozenset(other for other in stuck if other in reach[name] and name in reach[other]) for name in stuck}
    yield "import circles, files in them", f"{len(rings)}, {len(stuck)}"


def _is_lazy(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return file == "__init__.py" and folder in LAZY


def _imports(module: Module, names: set[str]) -> Iterator[str]:
    """Yield the files of the package that a module imports anywhere in its text."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            parts = target.split(".")
            if parts[0] == PACKAGE:
                yield from _file_of(parts[1:], names)


def _file_of(parts: list[str], names: set[str]) -> Iterator[str]:
    """Yield the file of a dotted name, or of the module that defines it."""
    for length in (len(parts), len(parts) - 1):
        path = "/".join(parts[: max(length, 0)])
        for file in (f"{path}.py", f"{path}/__init__.py".lstrip("/")):
            if file in names:
                yield file
                return


def _reachable(start: str, arrows: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    pending = [start]
    while pending:
        new = arrows.get(pending.pop(), set()) - seen
        seen |= new
        pending += new
    return seen


def texts(files: list[Module]) -> Iterator[tuple[str, str]]:
    """Yield docstrings with an example, comments, and in how many files each term of the field occurs."""
    documented = [
        text
        for module in files
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and (text := ast.get_docstring(node))
    ]
    examples = sum(">>> " in text or "```python" in text for text in documented)
    yield "docstrings with an example", f"{examples} of {len(documented):,}"
    yield "lines of code for a comment", _ratio(files)
    for room in sorted({module.room for module in files if module.room}):
        yield f"  in {room}/", _ratio([module for module in files if module.room == room])
    counts = {word: sum(bool(re.search(like, m.text, re.IGNORECASE)) for m in files) for word, like in WORDS.items()}
    yield "terms of the field that occur", f"{sum(map(bool, counts.values()))} of {len(counts)}"
    for word, count in counts.items():
        yield f"  files with {word!r}", f"{count}"


def _ratio(files: list[Module]) -> str:
    comments, code = map(sum, zip(*(_comments(module.text) for module in files), strict=True))
    return f"{code / max(comments, 1):.0f}"


def _comments(text: str) -> tuple[int, int]:
    """Return the lines with a comment, instructions to tools left out, and the lines with code or a docstring."""
    comments: set[int] = set()
    code: set[int] = set()
    for token in tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__):
        if token.type == tokenize.COMMENT:
            if not _DIRECTIVE.match(token.string):
                comments.add(token.start[0])
        elif token.string.strip():
            code.update(range(token.start[0], token.end[0] + 1))
    return len(comments), len(code)


def exports(files: list[Module]) -> Iterator[tuple[str, str]]:
    """Yield the number of classes that each row of an export passes, by the names of their methods."""
    steps = [
        node.name
        for module in files
        if module.name.startswith("export/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        and {"begin", "add", "end"} <= {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    ]
    yield "classes with begin(), add() and end() in export/", f"{len(steps)}"


def ways(tree: Path) -> Iterator[tuple[str, str]]:
    """Yield the files from a call to the socket and back, in a process that imports `tree`."""
    script = Path(__file__).with_name("_ways.py")
    environment = os.environ | {"PYTHONPATH": str(tree)}
    for way, what in (("page", "a page of calls.search"), ("window", "a window of realtime.watch")):
        command = [sys.executable, "-P", str(script), way]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - ours
        if done.returncode:
            yield what, f"not measured: {done.stderr.strip().splitlines()[-1]}"
            continue
        seen = json.loads(done.stdout)
        yield f"{what}, to the socket", "{} files, {} changes".format(*seen["sent"])
        yield f"{what}, and back", "{} files, {} changes".format(*seen["whole"])


def examples(tree: Path) -> Iterator[tuple[str, str]]:
    """Yield how many blocks of README, CONTRIBUTING and docs run as tests, and the programs of `examples/`."""
    pages = [tree / "README.md", tree / "CONTRIBUTING.md", *(tree / "docs").rglob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages if page.is_file())
    for language, name in (("python", "Python"), ("sh", "shell")):
        marked, count = (len(re.findall(rf"{mark}^ *```{language}$", text, re.MULTILINE)) for mark in (_NOT_RUN, ""))
        yield f"{name} blocks of pages that run", f"{count - marked} of {count}"
    yield "programs and notebooks in examples/", f"{sum(1 for _ in (tree / 'examples').glob('*.[pi][yp]*'))}"


_NOT_RUN = r"^<!-- not run: .+ -->\n"


def report(tree: Path) -> dict[str, str]:
    """Measure one tree."""
    package = tree / PACKAGE
    if not package.is_dir():
        raise SystemExit(f"{tree} has no folder {PACKAGE}")
    files = modules(package)
    return dict([*sizes(files), *circles(files), *ways(tree), *exports(files), *examples(tree), *texts(files)])


def main() -> None:
    """Print one line for each figure, and one column for each tree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structure", description=__doc__)
    parser.add_argument("tree", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    trees = [tree.resolve() for tree in parser.parse_args().tree]
    columns = [report(tree) for tree in trees]
    lines = [("", *(tree.name for tree in trees))] if len(trees) > 1 else []
    lines += [
        (what, *(column.get(what, "") for column in columns)) for what in dict.fromkeys(k for c in columns for k in c)
    ]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
