"""Faults between a ledger and a request, on virtual time: pauses, cancelled calls, and changes that are made twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import pytest
from helpers.distant_ledger import DistantLedger, Store
from helpers.streaming import NOON, simulated

from agora_analytics import ENTERPRISE, LedgerError, RateLimited
from agora_analytics.plans import CALL_LISTS
from agora_analytics.quota import LedgerState, decode
from agora_analytics.quota.limiters import Limiters

T = TypeVar("T")


class LostAnswers(DistantLedger):
    """A ledger that makes changes, but loses the answers while `losing`."""

    losing = False

    async def change(self, account: str, change: Callable[[LedgerState], T]) -> T:
        result = await super().change(account, change)
        if self.losing:
            raise LedgerError("the answer was lost")
        return result


def counter(store: Store):
    return decode(store.stored).counter("call_lists")


def used(store: Store) -> int:
    return sum(counter(store).used_per_day.values())


async def send_request(limiters: Limiters) -> None:
    async with limiters.permit(CALL_LISTS) as permit:
        permit.answered(NOON + int(asyncio.get_running_loop().time()))


def pause(seconds: float) -> None:
    """Let time pass as it does for a process that is paused: nothing runs meanwhile."""
    asyncio.get_running_loop()._virtual.elapsed += seconds


@pytest.mark.parametrize(("seconds", "late"), [(0.0, False), (1.9, False), (2.1, True), (400.0, True)])
async def test_a_permit_is_too_old_before_others_may_have_reclaimed_it(clock, seconds, late):
    limiters = Limiters(ENTERPRISE, DistantLedger(Store()), account="a", clock=clock)
    async with limiters.permit(CALL_LISTS) as permit:
        pause(seconds)
        assert permit.too_late() == late


async def test_a_permit_is_too_old_if_the_clock_of_the_ledger_was_set_back(clock):
    store = Store()
    limiters = Limiters(ENTERPRISE, DistantLedger(store), account="a", clock=clock)
    async with limiters.permit(CALL_LISTS) as permit:
        store.ahead -= 1_000
        assert permit.too_late()


@pytest.mark.parametrize("shared", [True, False])
async def test_a_request_whose_process_was_paused_waits_for_another_permit(monkeypatch, shared):
    simulation, store = simulated("enterprise"), Store(latency=0.01)
    options = {"ledger": DistantLedger(store)} if shared else {}
    async with simulation.client(**options) as client:
        pauses, tried = [60.0, 3.0], []

        def paused() -> None:
            tried.append(simulation.service.counts["call_lists"])
            pause(pauses.pop() if pauses else 0)

        monkeypatch.setattr(client._dispatcher, "_ensure_open", paused)
        await client.calls.page(*client.calls.recent(600))
        assert tried[-3:] == [0, 0, 0]
        await asyncio.sleep(1)
        states = await client.quota.snapshot()
        [day] = [state for state in states if (state.counter, state.unit) == ("call_lists", "day")]
        assert (day.used, simulation.service.counts["call_lists"]) == (1, 1)


async def test_a_request_that_is_paused_each_time_can_be_cancelled(monkeypatch):
    simulation = simulated("enterprise")
    async with simulation.client() as client:
        monkeypatch.setattr(client._dispatcher, "_ensure_open", lambda: pause(60))
        request = asyncio.create_task(client.calls.page(*client.calls.recent(600)))
        for _ in range(9):
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])
        assert simulation.service.counts["call_lists"] == 0


@pytest.mark.parametrize("cancelled_after", [0.004, 0.006, 0.014])
async def test_a_reservation_whose_first_call_was_cancelled_does_not_stay(clock, cancelled_after):
    store = Store(latency=0.02)
    limiters = Limiters(ENTERPRISE, DistantLedger(store), account="a", clock=clock)
    await send_request(limiters)
    async with limiters.reserve(CALL_LISTS) as reserve:
        first = asyncio.create_task(reserve.keep(100, 1_000))
        await asyncio.sleep(cancelled_after)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await asyncio.sleep(1)
        assert not counter(store).reservations
        await reserve.keep(200, 1_000)
        assert [kept.rest for kept in counter(store).reservations.values()] == [200]
    assert not counter(store).reservations


async def test_a_reservation_whose_first_answer_was_lost_does_not_stay(clock):
    store = Store()
    ledger = LostAnswers(store)
    limiters = Limiters(ENTERPRISE, ledger, account="a", clock=clock)
    async with limiters.reserve(CALL_LISTS) as reserve:
        ledger.losing = True
        with pytest.raises(LedgerError):
            await reserve.keep(100, 1_000)
        ledger.losing = False
        await reserve.keep(200, 1_000)
        assert [kept.rest for kept in counter(store).reservations.values()] == [200]
    await limiters.close()
    assert not counter(store).reservations


@pytest.mark.parametrize("unit", ["second", "day"])
@pytest.mark.parametrize("hour", [12, 0], ids=["noon", "midnight"])
async def test_an_error_that_is_stored_twice_is_counted_once(unit, hour):
    """Just after midnight an error for the day may be yesterday's, and its request is refunded today."""
    once, twice = [await counts_after_error(unit, hour, losing=losing) for losing in (False, True)]
    assert twice == once
    assert once == (1, 3 if (unit, hour) == ("day", 0) else 4)


async def counts_after_error(unit: str, hour: int, *, losing: bool) -> tuple[int, int]:
    """Send three requests and one that is refused; return the refusals and requests that the ledger then knows."""
    loop = asyncio.get_running_loop()
    start = NOON + (hour - 12) * 3_600 + 60 - loop.time()
    ledger = LostAnswers(Store(ahead=start))
    limiters = Limiters(ENTERPRISE, ledger, account="a", clock=lambda: start + loop.time())
    for _ in range(3):
        async with limiters.permit(CALL_LISTS) as permit:
            permit.answered(int(start + loop.time()))
    error = RateLimited("too many", status=429)
    error.unit = unit
    with suppress(RateLimited):
        async with limiters.permit(CALL_LISTS) as permit:
            permit.answered(None)
            ledger.losing = losing
            raise error
    ledger.losing = False
    await limiters.snapshot()
    return counter(ledger.store).refusals, used(ledger.store)


async def test_answers_that_a_ledger_did_not_take_are_stored_when_it_works_again_without_another_request(caplog):
    simulation, store = simulated("enterprise"), Store(latency=0.01)
    async with simulation.client(ledger=DistantLedger(store)) as client:
        await client.calls.page(*client.calls.recent(600))
        request = asyncio.create_task(client.calls.page(*client.calls.recent(600)))
        await asyncio.sleep(0.011)  # it has its permit
        store.failing = True
        await request
        for _ in range(10):
            before = store.tried
            await asyncio.sleep(60)
        assert 1 <= store.tried - before <= 3
        assert [record.levelname for record in caplog.records].count("WARNING") == 1
        store.failing = False
        await asyncio.sleep(31)
        assert not counter(store).in_flight


async def test_what_a_ledger_did_not_take_is_tried_once_more_by_close_and_not_after_it():
    simulation, store = simulated("enterprise"), Store(latency=0.01)
    async with simulation.client(ledger=DistantLedger(store)) as client:
        await client.calls.page(*client.calls.recent(600))
        request = asyncio.create_task(client.calls.page(*client.calls.recent(600)))
        await asyncio.sleep(0.011)
        store.failing = True
        await request
        await asyncio.sleep(10)
        before = store.tried
    assert store.tried == before + 1
    await asyncio.sleep(600)
    assert store.tried == before + 1
