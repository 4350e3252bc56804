"""A store that goes back to an earlier state, as after a crash, loses no change of a process that lives."""

from __future__ import annotations

import random

import pytest
from helpers.ledger_changes import increment, read_count
from helpers.memory_store import MemoryStore

from agora_analytics.quota.bucket import IN_FLIGHT_TTL
from agora_analytics.quota.shared_account import SharedAccount
from agora_analytics.quota.store_clock import StoreClock


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def accounts(store):
    """Three processes that have joined."""
    accounts = [SharedAccount(store, "a", StoreClock()) for _ in range(3)]
    for account in accounts:
        await account.change(read_count)
    yield accounts
    for account in accounts:
        await account.close()


@pytest.mark.parametrize("more", [1, 5])
async def test_changes_of_both_are_kept_whoever_comes_first_after_a_crash(store, accounts, more):
    first, second, _ = accounts
    await first.change(increment)
    await second.change(increment)
    on_disk = store.stored
    for _ in range(3):
        await second.change(increment)
    store.stored = on_disk
    for _ in range(more):
        await first.change(increment)
    await second.change(increment)
    assert await first.change(read_count) == 6 + more
    assert await second.change(read_count) == 6 + more


async def test_a_process_that_only_looks_brings_its_own_changes_back(store, accounts):
    first, second, _ = accounts
    on_disk = store.stored
    await first.change(increment)
    store.stored = on_disk
    assert await second.change(increment) == 1
    assert await first.change(read_count) == 2
    assert await second.change(read_count) == 2


async def test_by_another_clock_the_requests_of_days_are_restored_and_no_times(store, accounts):
    first, second, _ = accounts
    on_disk, permits = store.stored, Permits(first)
    await permits.send()
    store.stored = on_disk
    store.ahead += 600  # another host has taken over
    assert await second.change(increment) == 1
    counter = await first.change(lambda state: state.counter("lists"))
    assert (counter.used_per_day, counter.in_flight) == ({1: 2}, {})


class Permits:
    """What a process has in flight, and what it has sent, as it knows itself."""

    def __init__(self, account: SharedAccount) -> None:
        self.account = account
        self.in_flight: list[int] = []
        self.sent = 0

    async def send(self) -> None:
        def take(state):
            number = state.next_permit_id()
            state.counter("lists").in_flight[number] = 1e9 + IN_FLIGHT_TTL
            increment(state)
            return number

        self.in_flight.append(await self.account.change(take))
        self.sent += 1

    async def settle(self) -> None:
        if self.in_flight:
            number = self.in_flight.pop(0)

            def settle(state):
                counter = state.counter("lists")
                counter.in_flight.pop(number)
                counter.completed.append(float(number))

            await self.account.change(settle)


@pytest.mark.parametrize("seed", range(20))
async def test_after_any_crashes_the_state_has_what_each_process_did(store, accounts, seed):
    chance = random.Random(seed)
    processes, history = [Permits(account) for account in accounts], [store.stored]
    for _ in range(120):
        one = chance.choice(processes)
        await chance.choice([one.send, one.settle])()
        history.append(store.stored)
        if chance.random() < 0.1:
            store.stored = history[-1 - chance.randrange(min(12, len(history)))]
            history.append(store.stored)
    for one in processes * 2:
        await one.account.change(read_count)
    for one in processes:
        counter = await one.account.change(lambda state: state.counter("lists"))
        assert counter.used_per_day == {1: sum(process.sent for process in processes)}
        assert sorted(counter.in_flight) == sorted(number for process in processes for number in process.in_flight)
        assert len(counter.completed) == counter.used_per_day[1] - len(counter.in_flight)
        assert list(counter.in_flight) == sorted(counter.in_flight)
