"""Help starts fast: it loads no client, no stream and no simulator."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from helpers.paths import ROOT

pytestmark = pytest.mark.process

LOADED = """
import sys
from agora_analytics.cli.app import main

code = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""
SLOW = ("aiohttp", "cattrs", "pyarrow", "sqlite3", "agora_analytics.simulator", "agora_analytics.streams")


@pytest.mark.slow_except("start1")
@pytest.mark.parametrize("start", [["-m", "agora_analytics"], ["-m", "agora_analytics.cli"]])
def test_version_is_printed_without_a_command(start):
    done = subprocess.run([sys.executable, *start, "--version"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == f"agora-analytics {version('agora-analytics')}\n"


@pytest.mark.slow_except("")
@pytest.mark.parametrize(
    "words", [(), ("calls",), ("calls", "search"), ("watch",), ("export",), ("demo",), ("simulate",)], ids=" ".join
)
def test_help_loads_no_client_no_stream_and_no_simulator(words):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean,
        check=True,
    )
    assert "Usage" in done.stdout
    assert {*SLOW, "agora_analytics.client"} & set(done.stderr.split()) == set()
