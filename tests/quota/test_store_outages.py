"""After an outage of a store that forgets: no change counts twice or not at all, and no window is exceeded."""

from __future__ import annotations

import asyncio
import random

import pytest
from helpers.ledger_changes import increment, read_count
from helpers.memory_store import MemoryStore

from agora_analytics import LedgerError
from agora_analytics.quota import LedgerState
from agora_analytics.quota.shared_account import SharedAccount
from agora_analytics.quota.store_clock import StoreClock

LIMIT = 10
WINDOW = 30.0


@pytest.fixture
def store(virtual_store: MemoryStore) -> MemoryStore:
    return virtual_store


class Spender:
    """A process that sends requests: at most `LIMIT` in each window, by the state."""

    def __init__(self, store: MemoryStore) -> None:
        self.clock = StoreClock()
        self.account = SharedAccount(store, "a", self.clock)
        self.sent: list[float] = []
        self.failed = 0

    async def send(self) -> bool:
        def take(state: LedgerState) -> float | None:
            now, counter = self.clock.now(), state.counter("lists")
            counter.completed = [at for at in counter.completed if at > now - WINDOW]
            if len(counter.completed) >= LIMIT:
                return None
            counter.completed.append(now)
            increment(state)
            return now

        try:
            sent = await self.account.change(take)
        except LedgerError:
            self.failed += 1  # it may have been counted all the same
            return False
        self.sent += [sent] if sent else []
        return bool(sent)


@pytest.fixture
async def spenders(store):
    spenders = [Spender(store) for _ in range(3)]
    for one in spenders:
        await one.account.change(read_count)
    yield spenders
    store.refuses = store.loses_answers = store.hangs = False
    for one in spenders:
        await one.account.close()


async def test_a_permit_that_waits_while_another_process_is_first_is_counted(store, spenders, monkeypatch):
    first, second, _ = spenders
    await first.send()
    on_disk, exchange = store.stored, store.exchange
    await first.send()
    store.refuses, store.stored = True, on_disk
    waiting = asyncio.create_task(first.send())
    await asyncio.sleep(0.2)

    async def come_second(account, member, asked):
        monkeypatch.setattr(store, "exchange", exchange)
        # Another process has made a change, and the first one's is not yet in the state.
        await second.account.change(increment)
        return await exchange(account, member, asked)

    monkeypatch.setattr(store, "exchange", come_second)
    store.refuses = False
    assert await waiting
    assert await second.account.change(read_count) == len(first.sent) + 1 == 4


async def test_after_an_outage_no_process_sends_before_the_others_have_looked(store, spenders):
    first, second, _ = spenders
    on_disk = store.stored
    for _ in range(LIMIT):
        assert await first.send()
    store.refuses, store.stored = True, on_disk
    assert not await second.send()
    store.refuses = False
    assert not await second.send()
    assert await second.account.change(read_count) == LIMIT


async def test_a_state_that_was_not_read_for_long_replaces_no_newer_one(store, spenders, monkeypatch):
    first, second, _ = spenders
    on_disk = store.stored
    for _ in range(5):
        await first.send()
    first.account._heartbeat.cancel()  # it is stopped
    await asyncio.sleep(40)
    store.stored = on_disk
    for _ in range(3):
        await asyncio.sleep(40)
        await second.send()
    before = await second.account.change(read_count)
    await first.account.change(read_count)
    assert await second.account.change(read_count) == before


@pytest.mark.slow_except("0", "1", "2")
@pytest.mark.parametrize("seed", range(30))
async def test_whatever_the_store_forgets_no_window_is_exceeded_and_all_is_counted(store, spenders, seed):
    chance, history = random.Random(seed), [store.stored]
    ends = asyncio.get_running_loop().time() + 300

    async def spend(one: Spender) -> None:
        while asyncio.get_running_loop().time() < ends:
            await one.send()
            history.append(store.stored)
            await asyncio.sleep(chance.expovariate(1))

    async def fail() -> None:
        while asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(chance.uniform(1, 40))
            fault = chance.choice(["refuses", "loses_answers", "hangs"])
            setattr(store, fault, True)
            await asyncio.sleep(chance.uniform(0, 2))
            store.crash(history[-1 - chance.randrange(min(12, len(history)))])
            history.append(store.stored)
            setattr(store, fault, False)

    await asyncio.gather(fail(), *map(spend, spenders))
    await asyncio.sleep(10)
    sent = sorted(at for one in spenders for at in one.sent)
    assert max(sum(at <= other < at + WINDOW - 0.01 for other in sent) for at in sent) <= LIMIT
    counted = await spenders[0].account.change(read_count)
    assert len(sent) <= counted <= len(sent) + sum(one.failed for one in spenders)
