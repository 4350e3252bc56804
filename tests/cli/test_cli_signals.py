"""Signals: the first one stops a command, the second one ends the process at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.paths import ROOT

from agora_analytics import Checkpoint, FileCheckpoints
from agora_analytics.cli.runner import run_command

COMMAND = ("-m", "agora_analytics.cli")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
BOTH = pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)

Start = Callable[..., "subprocess.Popen[bytes]"]

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals"),
]


@pytest.fixture
def start(environment) -> Iterator[Start]:
    """Return a function that starts a Python process; those still running at the end are killed."""
    started = []

    def start_process(*arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | dict(environment) | {"PYTHONPATH": str(ROOT)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # so that reading a line leaves the rest for `communicate`
            # A shell ignores Ctrl-C in background jobs, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - one thread
        )
        started.append(process)
        return process

    yield start_process
    for process in started:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


def saved_checkpoint(tmp_path: Path) -> Checkpoint:
    return asyncio.run(FileCheckpoints(tmp_path / "agora-analytics" / "checkpoints").load("desk"))


@pytest.mark.slow_except("SIGTERM")
@BOTH
def test_a_signal_stops_a_watch_after_it_saved_its_checkpoint(start, run, tmp_path, number):
    process = start(*COMMAND, "watch", "userCount", "--checkpoint", "desk", "--json")
    first_lines = [process.stdout.readline() for _ in range(5)]
    process.send_signal(number)
    code, out, err = finish(process)
    assert (code, err) == (CODES[number], "")
    stamps = [json.loads(line)["ts"] for line in [*first_lines, *out.splitlines()]]
    assert stamps == list(range(stamps[0], stamps[-1] + 20, 20))
    (span,) = saved_checkpoint(tmp_path).done
    assert list(span) == [stamps[0], stamps[-1] + 20]
    again = run("watch", "userCount", "--windows", "1", "--checkpoint", "desk", "--json").lines
    assert again[0]["ts"] == stamps[-1] + 20


@pytest.mark.slow
def test_a_signal_stops_a_follow_after_it_saved_its_checkpoint(start, tmp_path):
    process = start(*COMMAND, "follow", "--last", "2h", "--checkpoint", "desk", "--json")
    first_lines = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert (code, err) == (CODES[signal.SIGTERM], "")
    events = [json.loads(line) for line in [*first_lines, *out.splitlines()]]
    checkpoint = saved_checkpoint(tmp_path)
    over = {event["call"]["call_id"]: event["call"]["destroyed_ts"] for event in events if event["event"] == "finished"}
    calls = {event["call"]["call_id"] for event in events}
    assert set(checkpoint.open) <= calls
    assert {call_id for call_id, entry in checkpoint.open.items() if "open" in entry} == calls - set(over)
    # Calls that ended long before the position are forgotten: no search finds them again.
    assert all(over[call_id] < checkpoint.done[-1].end for call_id in calls - set(checkpoint.open))


@pytest.mark.slow_except("follow")
@pytest.mark.parametrize("command", ["watch", "follow"])
def test_after_a_signal_the_requests_spent_are_printed(start, command):
    process = start(*COMMAND, command, "--last", "2h")
    assert process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 143
    assert err.splitlines()[-1].startswith("spent today: ")


@pytest.mark.slow
def test_without_a_signal_the_exit_code_is_0(start):
    assert finish(start(*COMMAND, "watch", "userCount", "--windows", "2", "--json"))[0] == 0


def test_the_second_signal_ends_a_watch_whose_service_does_not_answer(start):
    with socket.create_server(("127.0.0.1", 0)) as service:
        process = start(*COMMAND, "watch", "--json", AGORA_BASE_URL=f"http://127.0.0.1:{service.getsockname()[1]}")
        service.settimeout(60)
        connection, _ = service.accept()
        with connection:
            assert connection.recv(100).startswith(b"GET ")
            process.send_signal(signal.SIGTERM)
            # Another signal, because the same one right after the first counts as a duplicate.
            process.send_signal(signal.SIGINT)
            code, out, err = finish(process)
    assert code in CODES.values()
    assert (out, err) == ("", "")


def test_other_commands_are_cancelled(start):
    process = start(*COMMAND, "demo", "--windows", "50", "--json")
    assert process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert (code, err) == (CODES[signal.SIGTERM], "")


# Commands with their own work

WORK = """
import asyncio, signal, time
from agora_analytics.cli import app, run, runner, signals

def say(what):
    print(what, flush=True)

async def work():
    {work}

app.main = lambda: runner.run_command(work)
run()
"""


def with_work(*lines: str) -> tuple[str, str]:
    return "-c", WORK.format(work="\n    ".join(lines))


@BOTH
def test_the_first_signal_calls_stop_and_the_command_finishes(start, number):
    process = start(
        *with_work(
            "stopped = asyncio.Event()",
            "with signals.stop_on_signal(stopped.set):",
            "    say('started')",
            "    await stopped.wait()",
            "await asyncio.sleep(0)",
            "say('done')",
        )
    )
    assert process.stdout.readline() == b"started\n"
    process.send_signal(number)
    assert finish(process) == (CODES[number], "done\n", "")


def test_after_the_stoppable_part_a_signal_cancels_the_command(start):
    process = start(
        *with_work(
            "with signals.stop_on_signal(lambda: say('stopped')):",
            "    await asyncio.sleep(0)",
            "try:",
            "    say('started')",
            "    await asyncio.Event().wait()",
            "except asyncio.CancelledError:",
            "    say('cancelled')",
            "    raise",
        )
    )
    assert process.stdout.readline() == b"started\n"
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (CODES[signal.SIGTERM], "cancelled\n", "")


STUCK = {
    "that stops for ever": ("with signals.stop_on_signal(lambda: say('heard')):", "    {start}"),
    "that holds the loop": ("with signals.stop_on_signal(lambda: [say('heard'), time.sleep(600)]):", "    {start}"),
    "that is cancelled for ever": (
        "try:",
        "    {start}",
        "finally:",
        "    say('heard')",
        "    await asyncio.sleep(600)",
    ),
}


@pytest.mark.slow_except("that stops for ever")
@pytest.mark.parametrize("lines", STUCK.values(), ids=STUCK)
def test_the_second_signal_ends_a_command_at_once(start, lines):
    process = start(*with_work(*(line.format(start="say('started'); await asyncio.sleep(600)") for line in lines)))
    assert process.stdout.readline() == b"started\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"heard\n"
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (CODES[signal.SIGINT], "", "")


def test_a_duplicate_signal_counts_once(start):
    """As `timeout` sends it, to its child and then to its process group."""
    lines = ("with signals.stop_on_signal(lambda: over.set()):", "    say('started'); await over.wait(); say('saved')")
    process = start(*with_work("over = asyncio.Event()", *lines))
    assert process.stdout.readline() == b"started\n"
    process.send_signal(signal.SIGSTOP)  # so that both signals are pending when it continues
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    code, out, _ = finish(process)
    assert (code, out) == (CODES[signal.SIGTERM], "saved\n")


@pytest.mark.slow
def test_a_duplicate_signal_counts_once_though_the_command_has_ended(start):
    again = "threading.Timer(0.03, os.kill, (os.getpid(), signal.SIGTERM)).start()"
    # Seconds, as the machine may be busy; the pause is that of a process with much to clean up.
    longer = ("import os, threading", "signals._DUPLICATE = 2.0")
    option, code = with_work(*longer, again, "signal.raise_signal(signal.SIGTERM)")
    ending = "lambda: (runner.run_command(work), time.sleep(0.1))[0]"
    process = start(option, code.replace("lambda: runner.run_command(work)", ending))
    assert finish(process) == (CODES[signal.SIGTERM], "", "")


def test_an_ignored_signal_stays_ignored(start):
    ignoring = "signal.signal(signal.SIGINT, signal.SIG_IGN)\nasync def work"
    _, code = with_work("say('started')", "await asyncio.sleep(600)")
    process = start("-c", code.replace("async def work", ignoring))
    assert process.stdout.readline() == b"started\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (143, "", "")


def test_signal_handlers_are_restored():
    before = [signal.getsignal(number) for number in CODES]
    seen = []

    async def work() -> None:
        seen.extend(signal.getsignal(number) for number in CODES)

    assert run_command(work) == 0
    assert [signal.getsignal(number) for number in CODES] == before
    assert before == [signal.default_int_handler, signal.SIG_DFL]
    assert set(seen).isdisjoint(before)
