"""Checks of the project: `nox` runs all but the benchmarks, `nox -s <name>` runs one."""

from __future__ import annotations

from itertools import chain

import nox
from packaging.requirements import Requirement

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "typing", "tests", "lowest", "examples", "docs"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)


def _group(name: str) -> list[str]:
    return nox.project.dependency_groups(PROJECT, name)


def _lowest() -> dict[str, str]:
    """Return the lower bound of every dependency and extra, by its name."""
    project = PROJECT["project"]
    bounds = map(Requirement, chain(project["dependencies"], *project["optional-dependencies"].values()))
    return {
        _name(bound): clause.version
        for bound in bounds
        for clause in bound.specifier
        if clause.operator == ">=" and bound.name != project["name"]
    }


def _name(requirement: Requirement) -> str:
    extras = ",".join(sorted(requirement.extras))
    return f"{requirement.name}[{extras}]" if extras else requirement.name


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format with ruff, and that the dashboards are as generated."""
    session.install(*_group("lint"), *_group("dashboards"), "attrs")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("python", "deploy/grafana/generate.py", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the package with mypy, and the public API with mypy and pyright."""
    session.install("-e", ".[cli,ops,otel,pandas,polars,fleet,obstore,postgres,redis]", "pytest", *_group("typing"))
    session.run("mypy")
    session.run("pyright")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests with coverage, the slow ones too, on every supported Python that is installed."""
    session.install("-e", ".[cli,export,ops,otel,pandas,polars]", *_group("tests"))
    session.run("coverage", "run", "-m", "pytest", "-m", "", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """Run the tests with each library at its lower bound, on the oldest Python."""
    pinned = _lowest()
    # Test tools are not pinned: pip picks versions that fit.
    tools = {_name(Requirement(tool)) for tool in _group("tests")} - pinned.keys()
    session.install("-e", ".", *(f"{name}=={version}" for name, version in sorted(pinned.items())), *sorted(tools))
    session.run("pytest", "-q", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """Run the examples against the simulator."""
    session.install("-e", ".[cli,export,ops]", *_group("tests"))
    session.run("pytest", "tests/project/test_project.py", "-k", "example")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site into `site`, strictly, and test it."""
    session.install("-e", ".[cli]", *_group("docs"), *_group("tests"))
    session.run("python", "docs/builder/build.py", *session.posargs)
    session.run("pytest", "tests/project/test_site.py", "-m", "")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks and print their table."""
    session.install("-e", ".[cli,export,ops,otel]", *_group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)
