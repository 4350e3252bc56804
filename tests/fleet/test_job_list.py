"""The list of jobs in the store: what others write stays, and thousands of jobs do not hold the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

import pytest
from helpers.heartbeat import Heartbeat

from agora_analytics.fleet import job_list
from agora_analytics.fleet.job_list import JobList

pytestmark = pytest.mark.real_time

LONGEST = 0.04
"""Seconds for which the event loop may be held, by a slow machine."""


class Tables:
    """A queue without a store; `between` runs once between two reads of what it has of workers."""

    def __init__(self) -> None:
        self.tables: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self.added: set[str] = set()
        self.writes = 0
        self.between = lambda: None

    def now(self) -> float:
        return time.time()

    async def add(self, keys, run) -> None:
        self.added.update(keys)

    async def remove(self, keys) -> None:
        self.added.difference_update(keys)

    async def read(self, table: str) -> dict[str, str]:
        found = dict(self.tables[table])
        if table != job_list.JOBS:
            between, self.between = self.between, lambda: None
            between()
        return found

    async def read_one(self, table: str, key: str) -> str | None:
        return self.tables[table].get(key)

    async def write(self, table: str, entries, *, remove=()) -> None:
        self.writes += 1
        self.tables[table].update(entries)
        for key in remove:
            self.tables[table].pop(key, None)


@pytest.fixture
def tables(monkeypatch) -> Tables:
    """Tables that are tidied all the time."""
    monkeypatch.setattr(job_list, "_EVERY", 0.01)
    monkeypatch.setattr(job_list, "_TIDY_EVERY", 1)
    return Tables()


async def tidied(jobs: JobList, tables: Tables) -> None:
    """Tidy the tables at least once."""
    keeping = asyncio.create_task(jobs.keep_forever())
    before = tables.writes
    async with asyncio.timeout(20):
        while tables.writes < before + 3:  # noqa: ASYNC110 - it has no end to wait for
            await asyncio.sleep(0.01)
    keeping.cancel()


async def test_ten_thousand_jobs_are_added_and_kept_without_holding_the_event_loop(tables):
    keys = frozenset(f"a{number}.watch.web" for number in range(10_000))
    jobs = JobList(tables, [(tables, keys, None)], turn=60)
    async with Heartbeat() as heartbeat:
        await jobs.apply()
        assert tables.added == set(tables.tables[job_list.JOBS]) == keys
        tables.added.clear()
        await tidied(jobs, tables)
    assert tables.added == keys, "none was seen for a while"
    assert heartbeat.longest < LONGEST


async def test_a_worker_that_starts_and_is_drained_while_the_list_is_tidied_is_still_told(tables):
    jobs = JobList(tables, [(tables, frozenset({"a0.watch.web"}), None)], turn=60)
    await jobs.apply()
    tables.tables[job_list.DRAIN]["dead"] = ""

    def start_and_drain() -> None:
        tables.tables[job_list.WORKERS]["new"] = '{"seen":1e12}'
        tables.tables[job_list.DRAIN]["new"] = ""

    tables.between = start_and_drain
    await tidied(jobs, tables)
    assert set(tables.tables[job_list.DRAIN]) == {"new"}
