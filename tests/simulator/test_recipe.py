"""The recipe of docs/guides/testing.md and the fixture, in a project that has no configuration for pytest."""

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

async def asks(simulator):
    async with simulator.client() as client:
        await client.calls.page(*client.calls.recent(3_600))
    return simulator.clock()
"""
REAL = """
def test_on_a_real_loop(agora_simulator):
    assert abs(asyncio.run(asks(agora_simulator)) - time.time()) < 100
"""
STRICT = """
@pytest.mark.asyncio
async def test_in_strict_mode(agora_simulator):
    assert abs(await asks(agora_simulator) - time.time()) < 100
"""
VIRTUAL = """
@pytest.mark.asyncio
async def test_on_the_loop_of_the_hook(agora_simulator):
    begun = await asks(agora_simulator)
    await asyncio.sleep(86_400)
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    assert 86_399 < await asks(agora_simulator) - begun < 86_500
"""


def passed(folder: Path, *options: str) -> str:
    """Run pytest in a folder, and return its last line."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTEST"))}
    clean |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    # No plugin is loaded but those named. pytest-asyncio warns where it is not configured, which is what is tried here.
    warnings = ("-W", "error", "-W", "default::pytest.PytestDeprecationWarning")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *warnings, *options]
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("options", [(), STRICTLY], ids=["without", "strict"])
def test_the_recipe_of_the_guide_is_a_test(tmp_path: Path, options: tuple[str, ...]):
    recipe = blocks_of(ROOT / "docs/guides/testing.md")[0]
    (tmp_path / "test_recipe.py").write_text(recipe)
    assert passed(tmp_path, *options).startswith("1 passed")


def test_the_fixture_serves_tests_of_every_kind(tmp_path: Path):
    (tmp_path / "test_real.py").write_text(MODULE + REAL + STRICT)
    assert passed(tmp_path, *STRICTLY).startswith("2 passed")
    (tmp_path / "test_real.py").unlink()
    (tmp_path / "test_virtual.py").write_text(MODULE + VIRTUAL)
    (tmp_path / "conftest.py").write_text(HOOK)
    assert passed(tmp_path, *STRICTLY).startswith("1 passed")
