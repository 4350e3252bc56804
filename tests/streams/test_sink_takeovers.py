"""Every window once in a `PostgresSink`: processes that are frozen, replaced and killed, and a database that is."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from helpers.paths import HELPERS, ROOT
from helpers.postgres_server import PostgresServer
from helpers.sink_audit import SinkAudit
from helpers.sink_process import FIRST, LAST, USERS
from helpers.times import NOON

from agora_analytics import Checkpoint, CheckpointError, Span, Window
from agora_analytics.models import Point
from agora_analytics.streams import PostgresSink

pytestmark = [pytest.mark.real_time, pytest.mark.process]

Start = Callable[..., "subprocess.Popen[str]"]
ALL = list(range(FIRST, LAST, 20))


@pytest.fixture
def audit(postgres: PostgresServer) -> SinkAudit:
    made = SinkAudit(postgres, f"sink_{secrets.token_hex(4)}")
    made.start()
    return made


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes that write windows; each is killed after the test."""
    started = []

    def process(audit: SinkAudit, pause: float = 0.0) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, str(HELPERS / "sink_process.py"), audit.server.url, audit.prefix, str(pause)],
                env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS.parent}"},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield process
    for one in started:
        one.kill()
        one.wait()
        one.stdout.close()


def read(process: subprocess.Popen[str], lines: int) -> list[str]:
    return [process.stdout.readline().strip() for _ in range(lines)]


def end_of(process: subprocess.Popen[str]) -> str:
    """Return the last line that a process prints."""
    return process.stdout.read().split()[-1]


@pytest.mark.slow
def test_a_frozen_process_that_was_taken_over_writes_nothing_when_it_goes_on(start, audit):
    zombie = start(audit, 0.01)
    read(zombie, 40)
    zombie.send_signal(signal.SIGSTOP)
    assert end_of(start(audit)) == "done"
    assert audit.written() == ALL
    zombie.send_signal(signal.SIGCONT)
    assert end_of(zombie) == "taken_over"
    assert audit.written() == ALL


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_processes_that_are_killed_lose_and_repeat_no_window(start, audit, kills):
    for number in range(kills):
        process = start(audit)
        read(process, 1 + number % 3)
        process.kill()
        process.wait()
    assert end_of(start(audit)) == "done"
    assert audit.written() == ALL


@pytest.mark.slow
def test_processes_that_take_the_stream_from_each_other_write_each_window_once(start, audit):
    processes = []
    for _ in range(40):
        processes.append(start(audit, 1.0))
        assert read(processes[-1], 1)[0].isdigit()  # it has taken the stream over
    assert end_of(start(audit)) == "done"
    assert {end_of(process) for process in processes} == {"taken_over"}
    assert audit.written() == ALL


@pytest.mark.slow
async def test_workers_that_write_at_the_same_time_write_each_window_once(audit):
    """Each takes the stream over as soon as it has lost it, so that writes and takeovers meet in every order."""
    windows = list(range(NOON, NOON + 4_000, 20))

    async def work() -> None:
        while True:
            async with PostgresSink(audit.server.url, "prod", prefix=audit.prefix) as sink:
                done = sink.checkpoint.done[-1].end if sink.checkpoint else NOON
                try:
                    for ts in range(done, NOON + 4_000, 20):
                        window = Window(ts=ts, values={USERS: (Point.of(ts, 1, metric="userCount"),)})
                        await sink.write(window, Checkpoint(stream="watch", done=(Span(NOON, ts + 20),)))
                        if ts % 140 == 0:
                            break
                    else:
                        return
                except CheckpointError as error:
                    assert error.kind == "taken_over"  # noqa: PT017 - any other error fails the test

    await asyncio.gather(work(), work(), work())
    assert audit.written() == windows


@pytest.mark.slow
def test_a_database_that_is_killed_while_windows_are_written_has_each_once(start):
    server = PostgresServer()
    try:
        server.start()
        audit = SinkAudit(server, "sink")
        audit.start()
        process = start(audit, 0.01)
        read(process, 20)
        server.kill()
        server.start()
        assert end_of(process) == "done"
        assert audit.written() == ALL
    finally:
        server.remove()
