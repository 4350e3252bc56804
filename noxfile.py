"""Checks of the project: `nox` runs all but the benchmarks, `nox -s <name>` runs one."""

from __future__ import annotations

import os
import re
import sys
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import nox
from packaging.requirements import Requirement

nox.options.default_venv_backend = "virtualenv"  # with its own pip: older ones take minutes to resolve all extras
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "typing", "tests", "lowest", "examples", "wheel", "docs"]

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
    """Check style and format with ruff, the workflows with zizmor, and that the dashboards are as generated."""
    session.install(*_group("lint"), *_group("dashboards"), "attrs")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("zizmor", "--offline", "--persona=pedantic", "--quiet", ".github")
    session.run("python", "deploy/grafana/generate.py", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the package and the builder of the site with mypy, and the public API with mypy and pyright."""
    extras = "cli,dlt,export,fleet,obstore,ops,otel,pandas,polars,postgres,redis"
    session.install("-e", f".[{extras}]", "pytest", *_group("typing"), *_group("docs"))
    session.run("mypy")
    session.run("mypy", "docs/builder")
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
    session.run("pytest", "tests/project/test_site.py", "tests/project/test_calculator.py", "-m", "")


@nox.session
def pictures(session: nox.Session) -> None:
    """Make the pictures of the pages again, with Chromium, from the running program."""
    session.install("-e", ".[cli,ops]", *_group("docs"))
    session.run("python", "docs/builder/pictures.py", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the distributions, check them, and use the wheel without the source tree; `-- FOLDER` keeps them there."""
    folder = Path(session.posargs[0] if session.posargs else session.create_tmp()).resolve()
    for old in folder.glob("agora_analytics-*"):
        old.unlink()
    session.install(*_group("build"))
    session.run("python", "-m", "build", "--outdir", str(folder))
    built = sorted(map(str, folder.glob("agora_analytics-*")))
    session.run("twine", "check", "--strict", *built)
    (path,) = folder.glob("*.whl")
    session.run("check-wheel-contents", str(path))
    with ZipFile(path) as archive:
        names = {name.partition(".dist-info/")[2] for name in archive.namelist()}
        page = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    if "sboms/agora-analytics.cdx.json" not in names:
        session.error("the wheel has no bill of materials")
    if "PROJECT_URL" in os.environ and re.search(r"\]\((?![a-z]+:|#)", page):
        session.error("the page of the package index has relative links")
    _try_wheel(session, path)


def _try_wheel(session: nox.Session, path: Path) -> None:
    """Import the wheel with nothing but what it requires, then run its demo and check a program that uses it."""
    home = Path(session.create_tmp(), "user")
    home.mkdir(exist_ok=True)
    bare = home / "bare"
    session.run("python", "-m", "venv", "--clear", str(bare))
    python = str(bare / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))
    program = Path("tests/typing/consumer.py").read_text(encoding="utf-8")
    (home / "consumer.py").write_text(program, encoding="utf-8")
    session.install(*_group("consumer"))
    with session.chdir(home):  # or Python would import the package from the tree
        session.run(python, "-m", "pip", "install", "--quiet", str(path), external=True)
        session.run(python, "-W", "error", "-c", "from agora_analytics import *", external=True)
        session.run("mypy", "--strict", "--python-executable", python, "consumer.py")
        session.run("pyright", "--pythonpath", python, "consumer.py")
        session.run("pyrefly", "check", "--preset", "strict", "--python-interpreter-path", python, "consumer.py")
        session.run(python, "-m", "pip", "install", "--quiet", f"{path}[cli,ops]", external=True)
        session.run(python, "-m", "agora_analytics", "demo", external=True)


@nox.session(venv_backend="none")
def release_check(session: nox.Session) -> None:
    """Check that a tag, the version, the changelog and the citation agree: `nox -s release_check -- v1.2.3`."""
    version = PROJECT["project"]["version"]
    if session.posargs != [f"v{version}"]:
        session.error(f"the tag is {' '.join(session.posargs)!r}, but pyproject.toml has the version {version}")
    changelog = Path("CHANGELOG.md").read_text(encoding="utf-8")
    dated = re.search(rf"^## \[{re.escape(version)}\] - (\d{{4}}-\d\d-\d\d)$", changelog, re.MULTILINE)
    if dated is None:
        session.error(f"CHANGELOG.md has no heading '## [{version}] - YYYY-MM-DD'")
    citation = Path("CITATION.cff").read_text(encoding="utf-8")
    for line in (f"version: {version}", f'date-released: "{dated[1]}"'):
        if line not in citation.splitlines():
            session.error(f"CITATION.cff has no line {line!r}")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks and print their table."""
    session.install("-e", ".[cli,export,ops,otel]", *_group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)
