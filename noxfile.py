"""Every check of the project: `nox` runs all but the benchmarks, `nox -s <name>` one of them."""

from __future__ import annotations

from itertools import chain

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "typing", "tests", "lowest", "examples"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)


def _group(name: str) -> list[str]:
    return nox.project.dependency_groups(PROJECT, name)


def _lowest() -> list[str]:
    """Pin every dependency and extra to its lower bound."""
    project = PROJECT["project"]
    bounds = {*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())}
    return sorted(bound.replace(">=", "==") for bound in bounds if not bound.startswith(project["name"]))


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format."""
    session.install(*_group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """The whole package by mypy, its public face by mypy and pyright."""
    session.install("-e", ".[cli,pandas,polars]", "pytest", *_group("typing"))
    session.run("mypy")
    session.run("pyright")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests under coverage, the slow ones too, on every supported Python that is found."""
    session.install("-e", ".[cli,export,pandas,polars]", *_group("tests"))
    session.run("coverage", "run", "-m", "pytest", "-m", "", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The tests that reach other libraries, with each of those at its lower bound, on the oldest Python."""
    # The tools of the tests come in whatever version goes with these.
    tools = {tool.partition(">=")[0] for tool in _group("tests")} - {bound.partition("==")[0] for bound in _lowest()}
    session.install("-e", ".", *_lowest(), *sorted(tools))
    folders = ("pure", "reference", "wire", "ledgers", "exports", "cli")
    session.run("pytest", "-q", *(session.posargs or [f"tests/{folder}" for folder in folders]))


@nox.session
def examples(session: nox.Session) -> None:
    """The examples, over the simulator."""
    session.install("-e", ".[cli,export]", *_group("tests"))
    session.run("pytest", "tests/test_project.py", "-k", "example")


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks; prints their table."""
    session.install("-e", ".[cli,export]", *_group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)
