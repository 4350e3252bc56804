"""Workers as processes over real Redis and PostgreSQL: killed, frozen, drained, and without the store for a while."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict

import psycopg
import pytest
from helpers.fleet_service import Accounts, described, listening, secrets
from helpers.paths import ROOT
from helpers.postgres_server import MISSING_POSTGRES, POSTGRES, PostgresServer
from helpers.redis_server import MISSING, REDIS, RedisServer

from agora_analytics.fleet import Fleet

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(REDIS is None, reason=MISSING),
    pytest.mark.skipif(POSTGRES is None, reason=MISSING_POSTGRES),
]

ACCOUNTS = 12
TAKEOVER = 10
"""Seconds within which others have the jobs of a worker that died."""


class Workers:
    """Three worker processes, and what they share."""

    def __init__(self, folder, url: str, redis: RedisServer, postgres: PostgresServer) -> None:
        self.redis, self.postgres, self.url = redis, postgres, url
        self.fleet = Fleet(*described(ACCOUNTS, url), store=redis.url)
        self._folder = folder
        self.processes: dict[str, subprocess.Popen] = {}

    def start(self, name: str) -> None:
        environment = {**os.environ, **secrets(ACCOUNTS), "FLEET_SINK_URL": self.postgres.url}
        environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "helpers.fleet_process", self.redis.url, self.url, str(ACCOUNTS), name, "20"],
            env=environment,
            stdout=subprocess.DEVNULL,
        )

    def signal(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    async def status_when(self, condition, seconds: float):
        until = time.monotonic() + seconds
        while not condition(status := await self.fleet.status()):
            assert time.monotonic() < until, status
            await asyncio.sleep(0.2)
        return status

    def end(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def windows(self) -> dict[str, list[int]]:
        """Return the start of each window of each job, as the sink has them."""
        found = defaultdict(list)
        with psycopg.connect(self.postgres.url) as connection:
            for stream, ts in connection.execute("select stream, ts from agora_windows order by stream, ts"):
                found[stream].append(int(ts.timestamp()))
        return found


@pytest.fixture
async def workers(tmp_path):
    accounts, redis, postgres = Accounts(ACCOUNTS), RedisServer(tmp_path), PostgresServer()
    redis.start()
    postgres.start()
    async with listening(accounts) as url:
        made = Workers(tmp_path, url, redis, postgres)
        made.accounts = accounts
        for name in ("one", "two", "three"):
            made.start(name)
        try:
            yield made
        finally:
            made.end()
            redis.kill()
            postgres.remove()


def all_held(status, by: int) -> bool:
    return not status.unheld and len([count for count in status.held.values() if count]) == by


async def test_every_window_comes_once_whatever_happens_to_workers(workers):
    # The first to start has all at first; with two jobs each, others have two of each to take over.
    await workers.status_when(lambda status: all_held(status, 3) and min(status.held.values()) > 1, 120)
    workers.signal("one", signal.SIGKILL)
    killed_at = time.monotonic()
    await workers.status_when(lambda status: "one" not in status.held and all_held(status, 2), 30)
    takeover = time.monotonic() - killed_at
    workers.signal("two", signal.SIGSTOP)
    await workers.status_when(lambda status: "two" not in status.held and all_held(status, 1), 30)
    workers.start("four")
    workers.signal("two", signal.SIGCONT)
    await workers.status_when(lambda status: all_held(status, 3), 60)
    workers.signal("three", signal.SIGTERM)
    assert await asyncio.to_thread(workers.processes["three"].wait, 20) == 0
    status = await workers.status_when(lambda status: all_held(status, 2), 30)
    assert sum(job.takeovers for job in status.jobs) >= 2
    await asyncio.sleep(25)  # a window more of each
    found = workers.windows()
    assert len(found) == ACCOUNTS
    assert all(starts == list(range(starts[0], starts[-1] + 20, 20)) for starts in found.values())
    assert min(map(len, found.values())) >= 3
    assert workers.accounts.refused == 0
    assert takeover < 3 * TAKEOVER, "on a machine that is busy"


async def test_a_fleet_goes_on_when_its_store_was_killed(workers):
    await workers.status_when(lambda status: all_held(status, 3), 60)
    workers.redis.kill()
    await asyncio.sleep(5)
    workers.redis.start()
    await workers.status_when(lambda status: all_held(status, 3), 90)
    await asyncio.sleep(45)
    found = workers.windows()
    assert len(found) == ACCOUNTS
    assert all(starts == list(range(starts[0], starts[-1] + 20, 20)) for starts in found.values())
    assert workers.accounts.refused == 0
