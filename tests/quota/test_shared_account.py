"""One account in a store that hosts share, on virtual time: how long a change waits for a store that fails."""

from __future__ import annotations

import asyncio
import time

import pytest
from helpers.ledger_changes import increment, read_count
from helpers.memory_store import MemoryStore

from agora_analytics import LedgerError
from agora_analytics.quota.permit import Reservation
from agora_analytics.quota.shared_account import SharedAccount
from agora_analytics.quota.store_clock import StoreClock


@pytest.fixture
def store(virtual_store: MemoryStore) -> MemoryStore:
    return virtual_store


@pytest.fixture
async def account(store: MemoryStore):
    account = SharedAccount(store, "a", StoreClock())
    await account.change(read_count)
    yield account
    store.hangs = store.refuses = store.loses_answers = False
    await account.close()


async def test_a_change_that_changes_nothing_is_one_round_trip_also_by_an_outdated_state(store, account):
    other = SharedAccount(store, "a", StoreClock())
    assert await other.change(increment) == 1
    before = store.exchanges
    assert await account.change(read_count) == 1
    assert store.exchanges == before + 1
    await other.close()


async def seconds_until_error(account: SharedAccount) -> float:
    begun = asyncio.get_running_loop().time()
    with pytest.raises(LedgerError, match="No request is sent without it"):
        await account.change(increment)
    return asyncio.get_running_loop().time() - begun


@pytest.mark.parametrize("fault", ["refuses", "hangs", "loses_answers"])
async def test_each_change_over_a_failing_store_fails_a_second_after_it_was_submitted(store, account, fault):
    setattr(store, fault, True)
    changes = []
    for _ in range(40):
        changes.append(asyncio.create_task(seconds_until_error(account)))
        await asyncio.sleep(0.1)
    assert await asyncio.gather(*changes) == pytest.approx([1] * 40, abs=0.01)


@pytest.mark.real_time
async def test_a_change_does_not_fail_while_the_event_loop_is_too_busy_to_read_its_answer(store, account):
    asyncio.get_running_loop().call_later(0.0005, time.sleep, 1.2)
    assert await account.change(increment) == 1
    store.hangs = True
    assert await seconds_until_error(account) == pytest.approx(1, abs=0.5)


async def test_changes_that_wait_for_a_failing_store_are_made_once_when_it_works_again(store, account):
    store.refuses = True
    failed = asyncio.create_task(seconds_until_error(account))
    await asyncio.sleep(0.9)
    waiting = [asyncio.create_task(account.change(increment)) for _ in range(3)]
    await asyncio.sleep(0.5)
    store.refuses = False
    assert await asyncio.gather(*waiting) == [1, 2, 3]
    await failed
    assert await account.change(read_count) == 3


async def test_a_change_whose_answer_was_lost_is_made_once(store, account):
    store.loses_answers = True
    waiting = asyncio.create_task(account.change(increment))
    await asyncio.sleep(0.5)
    store.loses_answers = False
    assert await waiting == 1
    assert await account.change(read_count) == 1


async def test_each_caller_gets_an_error_of_its_own(store, account):
    store.refuses = True
    errors = await asyncio.gather(*(account.change(increment) for _ in range(3)), return_exceptions=True)
    assert len(set(map(id, errors))) == 3


async def test_the_state_is_adapted_once_to_a_clock_that_was_set(store, account, caplog):
    def answered(state):
        times = state.counter("lists").completed
        times[:] = times or [account._clock.now()]
        return times[0], account._clock.now()

    await account.change(answered)
    store.ahead += 600
    # The answer to a change that is stored is the first to show it.
    await account.change(increment)
    assert "was set, or another host has taken over" in caplog.text
    at, now = await account.change(answered)
    assert at == pytest.approx(now, abs=5)
    later, _ = await account.change(answered)
    assert later == at


async def test_an_account_that_nobody_uses_is_left_and_joined_again_when_it_is_used(store):
    account = SharedAccount(store, "a", StoreClock())
    assert await account.change(increment) == 1
    await asyncio.sleep(100)
    assert (store.left, store.exchanges > 90) == ([], True), "its lease was renewed"
    await asyncio.sleep(100)
    left, before = list(store.left), store.exchanges
    assert len(left) == 1
    await asyncio.sleep(1_000)
    assert store.exchanges == before
    assert await account.change(increment) == 2
    await asyncio.sleep(100)
    assert (store.joined, store.left, store.exchanges > before + 90) == (2, left, True)
    await account.close()
    assert len(store.left) == 2


def reserve(state) -> int:
    number = state.next_permit_id()
    state.counter("realtime").reservations[number] = Reservation(0, 1, 1)
    return number


async def test_an_account_is_kept_while_a_stream_has_a_reservation(store):
    account = SharedAccount(store, "a", StoreClock())
    number = await account.change(reserve)
    await asyncio.sleep(1_000)
    assert not store.left
    await account.change(lambda state: state.counter("realtime").reservations.pop(number))
    await asyncio.sleep(200)
    assert len(store.left) == 1
    await account.close()


async def test_a_change_that_comes_while_an_account_is_left_keeps_its_lease(store):
    account = SharedAccount(store, "a", StoreClock())
    await account.change(increment)
    leaving, whole = asyncio.Event(), store.leave

    async def leave(name, member):
        leaving.set()
        await asyncio.sleep(0.5)
        await whole(name, member)

    store.leave = leave
    await leaving.wait()
    assert await account.change(increment) == 2
    before = store.exchanges
    await asyncio.sleep(100)
    assert (store.joined, len(store.left), store.exchanges > before + 90) == (2, 1, True)
    await account.close()


async def test_an_account_is_not_left_with_requests_in_flight_so_that_others_count_them_as_answered(store):
    account = SharedAccount(store, "a", StoreClock())
    number = await account.change(take)
    await account.close()
    assert not store.left
    await account.change(lambda state: state.counter("realtime").in_flight.pop(number))
    await account.close()
    assert len(store.left) == 1


def take(state) -> int:
    number = state.next_permit_id()
    state.counter("realtime").in_flight[number] = 2e9
    return number
