"""A close that is cancelled, in whatever step it is: nothing stays open, and no task is left."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable

import pytest
from helpers.ledger_changes import increment

from agora_analytics.quota import FileLedger, PostgresLedger, RedisLedger
from agora_analytics.streams import PostgresCheckpoints, RedisCheckpoints

pytestmark = pytest.mark.real_time

STEPS = 10
"""Of a close whose tasks are all in their first step; what follows takes no other way."""


async def check_closes(opened: Callable[[], Awaitable[RedisLedger | PostgresLedger]]) -> None:
    for steps in range(1, STEPS):
        closing = asyncio.ensure_future((await opened()).close())
        for _ in range(steps):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing], timeout=20)
        assert asyncio.all_tasks() == {asyncio.current_task()}, f"cancelled after {steps} steps"
        gc.collect()  # which warns of a connection that is open


async def test_nothing_of_a_ledger_in_redis_stays_open(redis, table):
    async def opened() -> RedisLedger:
        ledger = RedisLedger(redis.url, prefix=table)
        await ledger.change("a", increment)
        return ledger

    await check_closes(opened)


async def test_nothing_of_a_ledger_in_postgres_stays_open(postgres, table):
    async def opened() -> PostgresLedger:
        ledger = PostgresLedger(postgres.url, table=table)
        await asyncio.gather(ledger.change("a", increment), ledger.change("b", increment))
        return ledger

    await check_closes(opened)


async def test_a_file_ledger_ends_its_thread(path):
    for steps in (1, 2, 3):
        ledger = FileLedger(path)
        await ledger.change("a", increment)
        (thread,) = [thread for thread in threading.enumerate() if thread.name.startswith("agora_analytics ledger")]
        closing = asyncio.ensure_future(ledger.close())
        for _ in range(steps):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing], timeout=20)
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive(), f"cancelled after {steps} steps"


async def test_nothing_of_checkpoints_stays_open(redis, postgres, table):
    async def in_redis() -> RedisCheckpoints:
        store = RedisCheckpoints(redis.url, prefix=table)
        await store.acquire("name")
        return store

    async def in_postgres() -> PostgresCheckpoints:
        store = PostgresCheckpoints(postgres.url, table=table)
        await store.acquire("name")
        return store

    await check_closes(in_redis)
    await check_closes(in_postgres)
