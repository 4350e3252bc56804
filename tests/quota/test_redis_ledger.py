"""A ledger in a real Redis: processes that are lost, a store that is killed, frozen, emptied or replaced."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import re
import secrets
import textwrap
from inspect import cleandoc

import pytest
from helpers.ledger_changes import increment, read_count
from helpers.redis_server import MISSING, REDIS, RedisServer

from agora_analytics import AnalyticsClient, LedgerError
from agora_analytics.quota import RedisLedger, shared_account
from agora_analytics.quota.shared_account import Exchange, SharedAccount
from agora_analytics.quota.store_clock import StoreClock
from agora_analytics.simulator import Simulation

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.process,
    pytest.mark.skipif(REDIS is None, reason=MISSING),
]


@pytest.fixture
def own_redis(tmp_path):
    """A Redis that a test may kill."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


async def test_processes_that_change_at_the_same_time_lose_no_count(redis):
    prefix = secrets.token_hex(4)
    ledgers = [RedisLedger(redis.url, prefix=prefix) for _ in range(6)]
    results = await asyncio.gather(*(ledger.change("a", increment) for ledger in ledgers for _ in range(50)))
    assert sorted(results) == list(range(1, 301))
    for ledger in ledgers:
        await ledger.close()


async def test_each_process_has_a_slot_of_its_own_and_knows_how_many_there_are(redis):
    prefix = secrets.token_hex(4)

    def numbers(state):
        return state.next_permit_id() % 4096, state.processes

    async with RedisLedger(redis.url, prefix=prefix) as first, RedisLedger(redis.url, prefix=prefix) as second:
        assert await first.change("a", numbers) == (0, 1)
        assert await second.change("a", numbers) == (1, 2)
        assert await first.change("a", numbers) == (0, 2)


async def test_a_lost_process_is_reclaimed_after_its_lease(redis, monkeypatch):
    monkeypatch.setattr(shared_account, "LEASE", 0.3)
    monkeypatch.setattr("agora_analytics.quota.redis_ledger.LEASE", 0.3)
    monkeypatch.setattr(shared_account, "_RENEW_EVERY", 0.1)
    prefix = secrets.token_hex(4)
    async with RedisLedger(redis.url, prefix=prefix) as ledger:
        lost = RedisLedger(redis.url, prefix=prefix)

        def take(state):
            state.counter("lists").in_flight[state.next_permit_id()] = lost.time() + 300

        await lost.change("a", take)
        lost._accounts["a"]._member = ""  # as if it had crashed: its lease is not ended
        await lost.close()
        async with asyncio.timeout(10):
            while await ledger.change("a", lambda state: len(state.counter("lists").in_flight)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await ledger.change("a", lambda state: len(state.counter("lists").completed)) == 1


async def test_a_store_that_is_down_fails_after_a_second_and_works_again_when_it_is_back(own_redis):
    async with RedisLedger(own_redis.url) as ledger:
        assert await ledger.change("a", increment) == 1
        await asyncio.sleep(1.1)  # the file is written every second
        own_redis.kill()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(LedgerError, match=r"127\.0\.0\.1:\d+/0 cannot be used.*Nothing was sent"):
            await ledger.change("a", increment)
        assert 0.9 < loop.time() - begun < 5
        own_redis.start()
        assert await ledger.change("a", increment) == 2


async def test_a_store_that_does_not_answer_fails_and_its_late_answer_is_not_taken_for_another(own_redis):
    async with RedisLedger(own_redis.url) as ledger:
        assert await ledger.change("a", increment) == 1
        own_redis.freeze()
        with pytest.raises(LedgerError, match="cannot be used"):
            await ledger.change("a", increment)
        own_redis.thaw()
        # The frozen change may have been made: it was reported as failed, so nobody relies on it.
        assert await ledger.change("a", increment) in {2, 3}
        assert await ledger.change("b", read_count) == 0


async def test_changes_that_a_store_lost_are_restored_by_who_knows_them(own_redis, caplog):
    async with RedisLedger(own_redis.url) as ledger:
        for _ in range(3):
            await ledger.change("a", increment)
        own_redis.kill()
        for file in own_redis.folder.rglob("*"):
            if file.is_file():
                file.unlink()
        own_redis.start()
        assert await ledger.change("a", increment) == 4
        assert "lost its last" in caplog.text


async def test_a_client_that_was_passed_is_used_and_stays_open(redis):
    from redis.asyncio import Redis

    async with Redis.from_url(redis.url, decode_responses=True) as client:
        async with RedisLedger(client, prefix=secrets.token_hex(4)) as ledger:
            assert await ledger.change("a", increment) == 1
            assert repr(ledger) == "RedisLedger('Redis')"
        assert await client.ping()


async def test_what_changes_nothing_is_not_stored_and_lets_no_other_change_run_again(redis):
    prefix = secrets.token_hex(4)
    runs = 0

    def count_runs(state):
        nonlocal runs
        runs += 1
        return increment(state)

    async with RedisLedger(redis.url, prefix=prefix) as one, RedisLedger(redis.url, prefix=prefix) as other:
        await one.change("a", increment)
        await other.change("a", increment)
        for _ in range(5):
            assert await one.change("a", read_count) == 2
        assert await other.change("a", count_runs) == 3
    assert runs == 1


async def test_a_member_that_has_renewed_its_lease_is_not_buried(redis):
    store = RedisLedger(redis.url, prefix=secrets.token_hex(4))._store
    living, other = await store.join("a", "x"), await store.join("a", "y")
    answer = await store.exchange("a", other, Exchange("", "1-a", b"{}", (living,)))
    assert (answer.replaced, answer.tag, answer.members) == (False, "", 2)
    assert (await store.exchange("a", other, Exchange("", "1-a", b"{}"))).replaced
    await store.close()


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


async def test_the_example_runs(redis, monkeypatch):
    code = re.search(r"```python\n(.*?)```", cleandoc(RedisLedger.__doc__ or ""), re.DOTALL)
    simulation = Simulation()
    monkeypatch.setattr(AnalyticsClient, "from_env", simulation.client)
    assert code is not None
    lines = code[1].replace("redis://quota.internal/0", redis.url)
    names = {"RedisLedger": RedisLedger, "AnalyticsClient": AnalyticsClient}
    exec(f"async def main():\n{textwrap.indent(lines, '    ')}", names)  # noqa: S102 - our own docstring
    await names["main"]()
