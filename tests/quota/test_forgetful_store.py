"""A store that goes back to an earlier state, as after a crash, loses no change of a process that lives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import attrs
import pytest
from helpers.ledger_changes import increment, read_count
from helpers.memory_store import MemoryStore

from agora_analytics import LedgerError
from agora_analytics._core.shared_store import StoreFailedError
from agora_analytics.quota import LedgerState, own_changes
from agora_analytics.quota.blocked_units import BlockedUnit
from agora_analytics.quota.bucket import IN_FLIGHT_TTL, WindowCounter
from agora_analytics.quota.shared_account import SharedAccount
from agora_analytics.quota.store_clock import StoreClock


@pytest.fixture
def store(virtual_store: MemoryStore) -> MemoryStore:
    return virtual_store


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


async def test_by_another_clock_requests_that_were_forgotten_count_as_under_way(store, accounts):
    first, second, _ = accounts
    on_disk, permits = store.stored, Permits(first)
    await permits.send()
    store.stored = on_disk
    store.ahead += 600  # another host has taken over
    assert await second.change(increment) == 1
    counter = await first.change(lambda state: state.counter("lists"))
    assert counter.used_per_day == {1: 2}
    assert counter.in_flight == {permits.in_flight[0]: pytest.approx(store.ahead + 10, abs=5)}


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


@pytest.mark.usefixtures("patient")
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


@pytest.mark.parametrize("step", [-600, -100, 130, 600])
async def test_a_clock_that_is_set_makes_nobody_restore_what_is_there(store, accounts, step):
    for account in accounts * 5:
        await account.change(increment)
    store.ahead += step
    for account in (*accounts, accounts[1]):
        await account.change(read_count)
        await account.change(increment)
    assert {await account.change(read_count) for account in accounts} == {19}


async def test_a_host_that_stood_still_restores_nothing_that_others_have_forgotten_of_it(store, accounts):
    first, second, _ = accounts
    for account in (first, second):
        await account.change(increment)
    # Its own clock has not moved meanwhile, and others made changes all the time.
    for _ in range(5):
        store.ahead += 50
        await second.change(increment)
    assert await first.change(read_count) == await second.change(read_count) == 7


async def test_a_permit_whose_answer_was_lost_is_counted_no_less_after_its_release(store, accounts):
    first, second, _ = accounts
    for _ in range(5):
        await first.change(increment)
    on_disk, permits = store.stored, Permits(first)
    store.loses_answers = True
    with pytest.raises(LedgerError):
        await permits.send()
    store.loses_answers = False

    def release(state):
        counter = state.counter("lists")
        assert counter.in_flight.popitem()
        counter.used_per_day[1] -= 1

    await first.change(release)
    store.stored = on_disk
    for _ in range(3):
        await second.change(lambda state: setattr(state, "boot_time", state.boot_time + 1))
    assert await first.change(read_count) == 5


async def test_a_change_whose_answer_was_lost_is_made_once_though_another_was_next(store, accounts, monkeypatch):
    first, second, _ = accounts
    permits, exchange, lost = Permits(first), store.exchange, []

    async def lose_once(account, member, asked):
        answer = await exchange(account, member, asked)
        if asked.body is not None and not lost:
            lost.append(member)
            raise StoreFailedError("the answer was lost")
        return answer

    monkeypatch.setattr(store, "exchange", lose_once)
    sending = asyncio.create_task(permits.send())
    await asyncio.sleep(0.01)
    await second.change(increment)
    await sending
    counter = await second.change(lambda state: state.counter("lists"))
    assert (counter.used_per_day, list(counter.in_flight)) == ({1: 2}, permits.in_flight)


def refused_at(at: float) -> Callable[[LedgerState], None]:
    def refuse(state: LedgerState) -> None:
        counter = state.counter("lists")
        counter.blocked["second"] = BlockedUnit(at, at + 9, 9, 2)
        counter.rate_limited_at["second"] = at

    return refuse


async def test_a_restored_refusal_replaces_no_newer_one(store, accounts):
    first, second, _ = accounts
    await first.change(refused_at(1))
    on_disk = store.stored
    await first.change(refused_at(2))
    await first.change(lambda state: state.counter("lists").blocked.clear())
    store.stored = on_disk
    for _ in range(3):
        await second.change(increment)
    await second.change(refused_at(5))
    await first.change(read_count)
    counter = await second.change(lambda state: state.counter("lists"))
    assert (counter.blocked["second"].at, counter.rate_limited_at["second"]) == (5, 5)


NOT_RESTORED = {"learned_limits", "refusals", "other_programs", "first_day"}
"""What is learned again, or only shown."""


def test_every_field_of_a_counter_is_restored_or_listed():
    counter = WindowCounter()
    restored = [*own_changes._own(counter), *own_changes._shared(counter), *own_changes._times(counter)]
    names = {field.name for field in attrs.fields(WindowCounter)}
    held = {name for name in names if any(getattr(counter, name) is one for one in restored)}
    assert len(held) == len(restored)
    assert held | {"used_per_day", "exhausted_day"} == names - NOT_RESTORED
