"""The project's requirements, continuous integration, changelog and examples."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import sys
import tomllib

import pytest
from helpers.paths import ROOT
from helpers.unlimited_rates import without_rate_limits

from agora_analytics import Plan
from agora_analytics.simulator import APP_ID, CUSTOMER_ID, CUSTOMER_SECRET, Service, World
from agora_analytics.simulator.server import serve

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_requirements_file_repeats_the_dependency_group():
    lines = (ROOT / "tests/requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == PROJECT["dependency-groups"]["tests"]


def test_ci_runs_the_command_of_the_readme():
    readme = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"^(.*python -m pytest)$", readme, re.MULTILINE)
    assert "tests/requirements.txt" in command
    (pattern,) = re.findall(r"^command=\$\(grep -E '(.*)' README\.md\)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert re.findall(pattern, readme, re.MULTILINE) == [command]


def test_ci_also_runs_the_slow_tests_that_the_command_leaves_out():
    assert "-m 'not slow'" in PROJECT["tool"]["pytest"]["ini_options"]["addopts"]
    assert "$command -m 'slow or hypothesis'" in (ROOT / ".ci/run").read_text()


def test_every_dependency_has_only_a_lower_bound_and_ci_tests_with_it():
    extras = PROJECT["project"]["optional-dependencies"]
    bounds = {*PROJECT["project"]["dependencies"], *(bound for group in extras.values() for bound in group)}
    loose = {bound for bound in bounds if not re.fullmatch(r"[\w-]+(\[\w+\])?>=\d[\d.]*", bound)}
    # A minor version of docket may change what is stored in Redis, under workers of both.
    assert loose == {*extras["export"], "pydocket>=0.27,<0.28"}
    assert "--session lowest" in (ROOT / ".ci/run").read_text()


def test_every_public_name_is_in_the_changelog():
    import agora_analytics

    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert [name for name in agora_analytics.__all__ if not re.search(rf"`{name}\b", changelog)] == []


def unexpected_lines(stderr: str) -> list[str]:
    """Return the lines of stderr, without warnings about slow callbacks: those depend on the load of the machine."""
    return [line for line in stderr.splitlines() if not re.fullmatch(r"Executing <.*> took \d+\.\d+ seconds", line)]


async def run_example(example, folder, **settings):
    """Run an example against the simulator; return its exit code, stdout and stderr."""
    async with serve(Service(World(seed=3), without_rate_limits(Plan.of("enterprise")))) as url:
        environment = os.environ | {
            "AGORA_CUSTOMER_ID": CUSTOMER_ID,
            "AGORA_CUSTOMER_SECRET": CUSTOMER_SECRET,
            "AGORA_APP_ID": APP_ID,
            "AGORA_PLAN": "enterprise",
            "AGORA_BASE_URL": url,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "DAYS": "1",
            "REQUESTS": "30",
            "FOLDER": str(folder),
            **settings,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error",
            str(ROOT / "tests/helpers/unlimited_rates.py"),
            str(ROOT / "examples" / example),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


@pytest.mark.slow_except("search_calls.py", "follow_calls.py")
@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
@pytest.mark.process
@pytest.mark.real_time
async def test_an_example_runs_against_the_simulator(example, tmp_path):
    """Without rate limits: no example is about them, and waiting for permits would take 16 s."""
    for library in ("fastapi", "httpx") if example.startswith("fastapi") else ():
        pytest.importorskip(library, reason=f"{example} needs {library}, which is not installed here")
    code, stdout, stderr = await run_example(example, tmp_path)
    assert (code, unexpected_lines(stderr)) == (0, [])
    assert len(stdout.splitlines()) >= 3


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.real_time
async def test_an_example_with_too_few_requests_says_which_variable_to_change(tmp_path):
    code, stdout, stderr = await run_example("worst_country.py", tmp_path, REQUESTS="3")
    assert code == 1
    assert re.search(r"pending=[1-9]", stdout)
    assert "skipped or is pending. If calls are pending, raise REQUESTS or lower DAYS" in stderr


def test_an_example_explains_its_variables():
    text = (ROOT / "examples/worst_country.py").read_text()
    documented = ast.get_docstring(ast.parse(text))
    assert [name for name in re.findall(r'environ\.get\("(\w+)"', text) if name not in documented] == []
