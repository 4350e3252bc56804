"""The clients of a worker: kept while jobs use them, closed when none does, and new where credentials were refused."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from helpers.fleet_service import described, secrets

from agora_analytics import AnalyticsClient, MemoryCheckpoints
from agora_analytics.fleet.clients import ClientPool
from agora_analytics.quota import MemoryLedger

FIRST, SECOND = described(2, "http://127.0.0.1:1")
IDLE = 400
"""Seconds after which a client that nobody uses is closed."""


@pytest.fixture
def closed(monkeypatch) -> list[AnalyticsClient]:
    """The clients that were closed; each takes a second for that."""
    closed, whole = [], AnalyticsClient.close

    async def close(client):
        closed.append(client)
        await asyncio.sleep(1)
        await whole(client)

    monkeypatch.setattr(AnalyticsClient, "close", close)
    return closed


@pytest.fixture
async def pool(monkeypatch, closed):
    for name, value in secrets(2).items():
        monkeypatch.setenv(name, value)
    pool = ClientPool(MemoryLedger(), MemoryCheckpoints())
    tidying = asyncio.create_task(pool.close_idle_forever())
    yield pool
    assert not tidying.done()
    tidying.cancel()
    await pool.close()


async def begun(closed, count: int) -> None:
    while len(closed) < count:  # noqa: ASYNC110 - on virtual time
        await asyncio.sleep(0.1)


async def test_a_client_is_closed_when_nobody_has_used_it_for_a_while(pool, closed):
    async with pool.client(FIRST) as used, pool.client(SECOND) as idle:
        pass
    for _ in range(IDLE // 10):
        await asyncio.sleep(10)
        async with pool.client(FIRST) as again:
            assert again is used
    assert closed == [idle]


async def test_a_client_that_a_job_takes_while_another_one_is_closed_stays_open(pool, closed):
    async with pool.client(FIRST) as first, pool.client(SECOND) as second:
        pass
    await begun(closed, 1)
    async with pool.client(SECOND) as taken:
        assert (closed, taken) == ([first], second)
        await asyncio.sleep(5)
        assert closed == [first]


async def test_a_client_that_is_forgotten_while_another_one_is_closed_is_closed_once(pool, closed):
    async with pool.client(FIRST) as first, pool.client(SECOND) as second:
        pass
    await begun(closed, 1)
    await pool.forget(SECOND.name)
    await asyncio.sleep(60)
    assert closed == [first, second]


async def test_after_a_refusal_the_next_job_gets_new_credentials_while_others_use_the_client(pool, closed):
    async with AsyncExitStack() as waiting, pool.client(FIRST) as refused:
        await waiting.enter_async_context(pool.client(FIRST))
        await pool.forget(FIRST.name)
        async with pool.client(FIRST) as renewed:
            assert renewed is not refused
        assert not closed
    assert closed == [refused]


async def test_all_clients_are_closed_at_once_however_often_that_is_cancelled(pool, closed):
    for account in (FIRST, SECOND):
        async with pool.client(account):
            pass
    began = asyncio.get_running_loop().time()
    closing = asyncio.create_task(pool.close())
    for _ in range(3):
        await asyncio.sleep(0.1)
        closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert len(closed) == 2
    assert asyncio.get_running_loop().time() - began < 1.5
