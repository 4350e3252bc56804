"""The recipe of docs/guides/testing.md and the fixture work in a project without a configuration for pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.pages import ROOT, blocks_of

pytestmark = pytest.mark.process

STRICTLY = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=strict")
HOOK = """
from agora_analytics.simulator import VirtualLoop

def pytest_asyncio_loop_factories():
    return {"virtual": VirtualLoop}
"""
MODULE = """
import asyncio, time
import pytest
from agora_analytics.simulator import VirtualLoop
from agora_analytics.simulator.fixtures import agora_simulator

async def request_calls(simulator):
    async with simulator.client() as client:
        await client.calls.page(*client.calls.recent(3_600))
    return simulator.clock()
"""
REAL = """
def test_on_a_real_loop(agora_simulator):
    assert abs(asyncio.run(request_calls(agora_simulator)) - time.time()) < 100
"""
STRICT = """
@pytest.mark.asyncio
async def test_in_strict_mode(agora_simulator):
    assert abs(await request_calls(agora_simulator) - time.time()) < 100
"""
VIRTUAL = """
@pytest.mark.asyncio
async def test_on_the_loop_of_the_hook(agora_simulator):
    start = await request_calls(agora_simulator)
    await asyncio.sleep(86_400)
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    assert 86_399 < await request_calls(agora_simulator) - start < 86_500
"""


def run_pytest(folder: Path, *options: str) -> str:
    """Run pytest in a folder; return the last line of its output. All tests must pass."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTEST"))}
    environment |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    # Only plugins in `options` are loaded. pytest-asyncio warns if it is not configured, as it is not here.
    warnings = ("-W", "error", "-W", "default::pytest.PytestDeprecationWarning")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *warnings, *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow_except("without")
@pytest.mark.parametrize("options", [(), STRICTLY], ids=["without", "strict"])
def test_the_recipe_of_the_guide_is_a_test(tmp_path: Path, options: tuple[str, ...]):
    recipe = blocks_of(ROOT / "docs/guides/testing.md")[0]
    (tmp_path / "test_recipe.py").write_text(recipe)
    assert run_pytest(tmp_path, *options).startswith("1 passed")


@pytest.mark.slow
def test_the_fixture_serves_tests_of_every_kind(tmp_path: Path):
    (tmp_path / "test_real.py").write_text(MODULE + REAL + STRICT)
    assert run_pytest(tmp_path, *STRICTLY).startswith("2 passed")
    (tmp_path / "test_real.py").unlink()
    (tmp_path / "test_virtual.py").write_text(MODULE + VIRTUAL)
    (tmp_path / "conftest.py").write_text(HOOK)
    assert run_pytest(tmp_path, *STRICTLY).startswith("1 passed")
