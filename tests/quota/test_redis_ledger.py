"""A ledger in a real Redis: processes that are lost, a store that is killed, frozen, emptied or replaced."""

from __future__ import annotations

import asyncio
import gc
import math
import secrets

import pytest
from helpers.ledger_changes import increment
from helpers.redis_server import MISSING, REDIS

from agora_analytics import LedgerError
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


@pytest.mark.parametrize("url", ["redis://user:secret-word@127.0.0.1:1/0", "rediss://:secret-word@127.0.0.1:1"])
async def test_no_text_shows_the_password_of_the_store(url):
    async with RedisLedger(url) as ledger:
        with pytest.raises(LedgerError) as caught:
            await ledger.change("a", increment)
    assert "secret-word" not in f"{ledger!r} {caught.value} {caught.value.__cause__!r}"


def test_a_url_of_another_kind_is_refused_without_showing_it():
    with pytest.raises(ValueError, match="begins with redis, rediss, unix") as caught:
        RedisLedger("postgres://user:secret-word@host/db")
    assert "secret-word" not in str(caught.value)


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
    monkeypatch.setattr("agora_analytics.quota.store_clock.time.monotonic", lambda: now)
    clock = StoreClock()
    assert not clock.observe(99.99, 100.0, 5_000.0)
    assert clock.now() == pytest.approx(5_000.005)
    assert clock.error() == pytest.approx(0.005)
    now = 200.0
    assert not clock.observe(198.0, 200.0, 5_099.5)  # a slow answer proves nothing
    assert clock.now() == pytest.approx(5_100.005)
    assert clock.observe(199.99, 200.0, 5_090.0)
    assert clock.now() == pytest.approx(5_090.005)
