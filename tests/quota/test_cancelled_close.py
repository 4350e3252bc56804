"""A close that is cancelled, in whatever step it is: nothing stays open, and no task is left."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from hashlib import sha256

import pytest
from helpers.ledger_changes import increment

from agora_analytics import MemoryLedger
from agora_analytics.quota import FileLedger, PostgresLedger, RedisLedger
from agora_analytics.simulator import CUSTOMER_ID, Simulation
from agora_analytics.streams import PostgresCheckpoints, RedisCheckpoints

pytestmark = pytest.mark.real_time

STEPS = 10
"""Turns of the event loop after which a close is cancelled, from one on; a few later it is done."""


async def check_closes(opened: Callable[[], Awaitable[RedisLedger | PostgresLedger]]) -> None:
    cancelled = 0
    for steps in range(1, STEPS):
        closing = asyncio.ensure_future((await opened()).close())
        for _ in range(steps):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing], timeout=20)
        assert closing.cancelled() or closing.exception() is None
        cancelled += closing.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}, f"cancelled after {steps} steps"
        gc.collect()  # which warns of a connection that is open
    assert cancelled > 2


async def test_nothing_of_a_ledger_in_redis_stays_open(redis, table):
    async def opened() -> RedisLedger:
        ledger = RedisLedger(redis.url, prefix=table)
        await ledger.change("a", increment)
        return ledger

    await check_closes(opened)


@pytest.mark.slow
async def test_nothing_of_a_ledger_in_postgres_stays_open(postgres, table):
    async def opened() -> PostgresLedger:
        ledger = PostgresLedger(postgres.url, table=table)
        await asyncio.gather(ledger.change("a", increment), ledger.change("b", increment))
        return ledger

    await check_closes(opened)


async def test_a_ledger_that_others_go_on_using_closes(redis, table):
    ledger = RedisLedger(redis.url, prefix=table)

    async def use() -> None:
        while True:
            await ledger.change("a", increment)

    using = asyncio.create_task(use())
    await asyncio.sleep(0.1)
    await asyncio.wait_for(ledger.close(), 20)
    using.cancel()
    await asyncio.wait([using])
    await ledger.close()


@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_a_client_stores_how_its_last_requests_ended(steps):
    ledger = MemoryLedger()
    client = Simulation().client(ledger=ledger)
    await client.calls.page(*client.calls.recent(600))
    closing = asyncio.ensure_future(client.close())
    for _ in range(steps):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing], timeout=20)
    account = sha256(CUSTOMER_ID.encode()).hexdigest()[:16]
    counter = await ledger.change(account, lambda state: state.counter("call_lists"))
    assert (len(counter.in_flight), sum(counter.used_per_day.values())) == (0, 1)


async def test_a_file_ledger_ends_its_thread(path):
    for steps in (1, 2, 3):
        ledger, before = FileLedger(path), threading.enumerate()
        await ledger.change("a", increment)
        (thread,) = set(threading.enumerate()).difference(before)
        closing = asyncio.ensure_future(ledger.close())
        for _ in range(steps):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing], timeout=20)
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive(), f"cancelled after {steps} steps"


@pytest.mark.slow
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
