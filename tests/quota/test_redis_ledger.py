"""A ledger in a real Redis: processes that are lost, a store that is killed, frozen, emptied or replaced."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import secrets

import pytest
from helpers.ledger_changes import increment, read_count
from helpers.redis_server import MISSING, REDIS

from agora_analytics.quota import RedisLedger, shared_account
from agora_analytics.quota.shared_account import SharedAccount
from agora_analytics.quota.store_clock import StoreClock

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.process,
    pytest.mark.skipif(REDIS is None, reason=MISSING),
]


async def test_a_client_that_was_passed_is_used_and_stays_open(redis):
    from redis.asyncio import Redis

    async with Redis.from_url(redis.url, decode_responses=True) as client:
        async with RedisLedger(client, prefix=secrets.token_hex(4)) as ledger:
            assert await ledger.change("a", increment) == 1
            assert repr(ledger) == "RedisLedger('Redis')"
        assert await client.ping()


class UnusedStore:
    """A store that is never asked."""

    name = "unused"


async def test_an_account_that_nobody_uses_any_more_is_collected(monkeypatch):
    monkeypatch.setattr(shared_account, "_RENEW_EVERY", 0.01)
    account = SharedAccount(UnusedStore(), "a", StoreClock())
    account._renewed_at = math.inf
    heartbeat = account._heartbeat
    await asyncio.sleep(0.05)
    assert not heartbeat.done()
    del account
    gc.collect()
    await asyncio.wait_for(heartbeat, 5)


def test_a_clock_that_was_set_is_noticed_and_one_that_is_read_late_is_not(monkeypatch):
    now = 100.0
    monkeypatch.setattr("agora_analytics.quota.store_clock.elapsed", lambda: now)
    clock = StoreClock()
    assert not clock.observe(99.99, 100.0, 5_000.0)
    assert clock.now() == pytest.approx(5_000.005)
    assert clock.error() == pytest.approx(0.005)
    now = 200.0
    assert not clock.observe(198.0, 200.0, 5_099.5)  # a slow answer proves nothing
    assert clock.now() == pytest.approx(5_100.005)
    assert clock.observe(199.99, 200.0, 5_090.0)
    assert clock.now() == pytest.approx(5_090.005)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_forked_child_has_connections_and_a_lease_of_its_own(redis):
    prefix = secrets.token_hex(4)
    async with RedisLedger(redis.url, prefix=prefix) as ledger:
        assert await ledger.change("a", increment) == 1
        child = os.fork()
        if not child:
            asyncio.events._set_running_loop(None)
            asyncio.run(_count_as_child(ledger))
            os._exit(os.EX_OK)
        # Its loop, and what it waits for, go on meanwhile.
        for _ in range(20):
            await ledger.change("b", increment)
        assert await asyncio.to_thread(os.waitpid, child, 0) == (child, 0)
        assert await ledger.change("a", lambda state: (read_count(state), state.processes)) == (3, 1)
        assert await ledger.change("b", increment) == 21


async def _count_as_child(ledger: RedisLedger) -> None:
    await ledger.close()  # closes nothing of the parent's
    assert await ledger.change("a", lambda state: (increment(state), state.process_slot, state.processes)) == (2, 1, 2)
    gc.collect()
    assert await ledger.change("a", increment) == 3
    await ledger.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_forked_child_refuses_the_client_of_its_parent(redis):
    from redis.asyncio import Redis

    async with Redis.from_url(redis.url) as client, RedisLedger(client, prefix=secrets.token_hex(4)) as ledger:
        await ledger.change("a", increment)
        child = os.fork()
        if not child:
            asyncio.events._set_running_loop(None)
            try:
                asyncio.run(ledger.change("a", increment))
            except RuntimeError as error:
                os._exit(17 if "forked" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1]) == 17
        assert await ledger.change("a", increment) == 2
