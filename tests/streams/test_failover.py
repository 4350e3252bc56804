"""Two pollers of one stream in two processes: one polls, and the other goes on when it is killed, frozen or ends."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from helpers.failover_process import LAST
from helpers.paths import HELPERS, ROOT
from helpers.redis_server import RedisServer

pytestmark = [pytest.mark.real_time, pytest.mark.process]

LEASE = 2.0
WINDOWS = 150
Start = Callable[..., "Poller"]


class Poller:
    """A poller in a process of its own, and what it has printed."""

    def __init__(self, url: str, prefix: str, lease: float, pause: float, count: int) -> None:
        self.lines: list[str] = []
        self.expected = list(range(LAST - 20 * count, LAST, 20))
        self.process = subprocess.Popen(
            [sys.executable, str(HELPERS / "failover_process.py"), url, prefix, *map(str, (lease, pause, count))],
            env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS.parent}"},
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def windows(self) -> list[int]:
        return [int(line) for line in self.lines if line.isdigit()]

    def read_until(self, wanted: Callable[[], bool]) -> None:
        while not wanted() and (line := self.process.stdout.readline()):
            self.lines.append(line.strip())
        assert wanted(), self.lines

    def read_windows(self, number: int) -> None:
        self.read_until(lambda: len(self.windows) >= number)

    def read_line(self, text: str) -> None:
        self.read_until(lambda: text in self.lines)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(params=["redis", "postgres"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    url, prefix, started = request.getfixturevalue(request.param).url, f"x{secrets.token_hex(4)}", []

    def poller(lease: float = LEASE, pause: float = 0.02, count: int = WINDOWS) -> Poller:
        started.append(Poller(url, prefix, lease, pause, count))
        return started[-1]

    yield poller
    for one in started:
        one.end()


def twice(*pollers: Poller) -> list[int]:
    """Return the windows that were delivered twice, having checked that all were delivered."""
    counts = Counter(ts for poller in pollers for ts in poller.windows)
    assert sorted(counts) == pollers[0].expected
    return sorted(ts for ts, count in counts.items() if count > 1)


@pytest.mark.slow
def test_the_one_that_stands_by_goes_on_after_a_kill(start):
    first = start(pause=0.2)  # it must not be done before the second one is there, however busy the machine is
    first.read_windows(5)
    second = start()
    second.read_line("in_use")
    first.read_windows(10)
    first.process.kill()
    first.lines += first.process.stdout.read().split()
    second.read_line("done")
    assert len(twice(first, second)) <= 1


@pytest.mark.slow
def test_the_one_that_was_frozen_stands_by_when_it_goes_on(start):
    first = start(pause=0.2)
    first.read_windows(5)
    second = start()
    second.read_line("in_use")
    first.process.send_signal(signal.SIGSTOP)
    second.read_line("done")
    first.process.send_signal(signal.SIGCONT)
    first.read_line("done")
    assert "taken_over" in first.lines
    repeated = twice(first, second)
    assert len(repeated) <= 1
    assert second.windows == sorted(second.windows)


@pytest.mark.slow
def test_the_one_that_polls_goes_on_when_the_store_is_back_and_nothing_comes_twice(tmp_path):
    with RedisServer(tmp_path) as server:
        pollers = [Poller(server.url, "x", LEASE, pause=0.05, count=70) for _ in range(2)]
        try:
            for poller in pollers:
                poller.read_until(lambda: poller.lines)  # noqa: B023 - called at once
            server.kill()
            time.sleep(LEASE + 0.5)
            server.start()
            for poller in pollers:
                poller.read_line("done")
        finally:
            for poller in pollers:
                poller.end()
    assert twice(*pollers) == []
    assert [] in [poller.windows for poller in pollers]
    assert not any("taken_over" in poller.lines for poller in pollers)


@pytest.mark.slow_except("redis")
def test_without_a_lease_each_takes_over_at_once_and_repeats_one_window_at_most(start):
    first = start(lease=0, pause=0.2, count=50)
    first.read_windows(3)
    second = start(lease=0, pause=0, count=50)
    second.read_line("done")
    assert "in_use" not in second.lines
    first.read_line("done")
    takeovers = [*first.lines, *second.lines].count("taken_over")
    assert takeovers
    assert len(twice(first, second)) <= takeovers
