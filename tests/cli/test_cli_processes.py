"""The command as a process: pipes, signals, terminals, and its entry in the process list."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

from agora_analytics.simulator import CUSTOMER_SECRET

pytestmark = pytest.mark.process

COMMAND = (sys.executable, "-m", "agora_analytics.cli")


@pytest.fixture
def start(environment):
    """Return a function that starts the command as a process; those still running at the end are killed."""
    started: list[subprocess.Popen[bytes]] = []
    # A shell ignores Ctrl-C in background jobs, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start_process(*arguments: str, command: tuple[str, ...] = COMMAND, **variables: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*command, *arguments],
            env=os.environ | dict(environment) | {"PYTHONPATH": str(ROOT)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start_process
    signal.signal(signal.SIGINT, before)
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_pipe_that_is_closed_early_ends_the_command_silently(start):
    process = start("calls", "search", "--last", "20h", "--json")
    assert process.stdout.readline().startswith(b"{")
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == b""


def test_ctrl_c_prints_no_traceback_and_the_secret_is_in_no_process_list(start):
    process = start("demo", "--windows", "50", "--json")
    assert process.stdout.readline()
    shown = Path(f"/proc/{process.pid}/cmdline")
    assert not shown.exists() or CUSTOMER_SECRET.encode() not in shown.read_bytes()
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait(60) == 130
    assert process.stderr.read() == b""


@pytest.mark.slow
def test_the_simulator_runs_until_ctrl_c_and_prints_its_counts(start):
    process = start("simulate", "--port", "0", "--plan", "premium", "--hostile")
    settings = dict(process.stdout.readline().decode().removeprefix("export ").strip().split("=") for _ in range(5))
    plans = start("plans", "premium", **settings)
    assert plans.wait(60) == 0
    found = start("insights", "usage", "--last", "2d", "--json", **settings)
    assert found.stdout.read().count(b"\n") >= 2
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert b"0 refused" in process.stderr.read()


@pytest.mark.slow_except("locale0")
@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}])
def test_a_terminal_without_unicode_is_no_error(start, locale):
    process = start("realtime", "usage", "--last", "5m", **locale)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert b"userCount" in out


def test_without_the_extra_the_error_says_how_to_install_it(start):
    code = "import sys; sys.modules['typer'] = None; from agora_analytics.cli import run; run()"
    process = start("plans", command=(sys.executable, "-c", code))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "agora-analytics[cli]" in err.decode()
    assert "Traceback" not in err.decode()
