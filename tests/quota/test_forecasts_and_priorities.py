"""What the quota core foretells, and what it keeps for whom: forecasts, priorities, a stream's share of the day."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import pairwise

import pytest

from agora_analytics import ENTERPRISE, PREMIUM, MemoryLedger, Plan, Priority, QuotaExhausted
from agora_analytics.plans import CALL_LISTS, REALTIME_USAGE, Endpoint
from agora_analytics.protocols import WallClock
from agora_analytics.quota.limiters import Limiters

DAY = 86_400


def limiters_of(plan: Plan, clock: WallClock, ledger: MemoryLedger | None = None) -> Limiters:
    return Limiters(plan, ledger or MemoryLedger(), account="a", clock=clock)


async def spend(
    limiters: Limiters, endpoint: Endpoint = CALL_LISTS, priority: Priority = Priority.INTERACTIVE
) -> float:
    """Send a request that is answered at once, and return when that was."""
    async with limiters.permit(endpoint, None, priority) as permit:
        permit.answered(None)
    return asyncio.get_running_loop().time()


async def day_of(limiters: Limiters, counter: str = "call_lists"):
    return next(state for state in await limiters.snapshot() if (state.counter, state.unit) == (counter, "day"))


async def test_a_forecast_is_when_the_last_permit_of_so_many_is_issued(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_day=100, per_second=10), clock)
    counts = (1, 10, 11, 35, 100, 101, 250)
    told = [(await limiters.forecast(count, CALL_LISTS)).seconds for count in counts]
    sent = sorted(await asyncio.gather(*(spend(limiters) for _ in range(250))))
    real = [sent[count - 1] for count in counts]
    # Until the service's clock is known, each second costs a little more than one; a day begins when it does.
    assert told[:2] == real[:2] == [0, 0]
    assert told[2:5] == pytest.approx(real[2:5], rel=0.2)
    assert told[5:] == pytest.approx(real[5:], abs=20)
    assert all(early <= late + 0.01 for early, late in zip(told, real, strict=True)), (told, real)


async def test_a_forecast_counts_waiting_requests_and_names_the_time(clock):
    limiters = limiters_of(PREMIUM, clock)
    waiting = [asyncio.create_task(spend(limiters, REALTIME_USAGE)) for _ in range(6)]
    await asyncio.sleep(1)
    found = await limiters.forecast(1, "realtime")
    assert (found.counter, found.requests) == ("realtime", 1)
    assert found.seconds == pytest.approx(120, abs=2)
    assert found.at.timestamp() == pytest.approx(clock() + found.seconds)
    for task in waiting:
        task.cancel()


async def test_a_forecast_of_what_is_not_counted_is_now(clock):
    limiters = Limiters(PREMIUM, MemoryLedger(), account="a", clock=clock, enforce=False)
    assert (await limiters.forecast(10**6, CALL_LISTS)).seconds == 0


@pytest.mark.parametrize(
    ("requests", "counter", "told"), [(0, "realtime", "requests=0"), (1, "lists", "counter='lists'")]
)
async def test_a_forecast_of_nothing_is_misuse(clock, requests, counter, told):
    with pytest.raises(ValueError, match=told):
        await limiters_of(PREMIUM, clock).forecast(requests, counter)


async def test_interactive_requests_go_before_streams_and_streams_before_exports(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_second=2), clock)
    order: list[Priority] = []

    async def ask(priority: Priority) -> None:
        await spend(limiters, priority=priority)
        order.append(priority)

    await asyncio.gather(*(spend(limiters) for _ in range(2)))
    waiting = [asyncio.create_task(ask(priority)) for priority in reversed(Priority) for _ in range(3)]
    await asyncio.sleep(0.9)
    await asyncio.gather(*waiting)
    assert order == sorted(order, key=list(Priority).index)


async def test_no_priority_starves_while_a_higher_one_is_never_empty(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_second=10), clock)
    sent = dict.fromkeys(Priority, 0)

    async def ask(priority: Priority) -> None:
        while True:
            await spend(limiters, priority=priority)
            sent[priority] += 1

    asking = [asyncio.create_task(ask(priority)) for priority in Priority for _ in range(20)]
    await asyncio.sleep(120)
    for task in asking:
        task.cancel()
    whole = sum(sent.values())
    assert whole > 1_000
    assert sent[Priority.INTERACTIVE] > 0.75 * whole
    assert 0.07 * whole < sent[Priority.STREAM] < 0.13 * whole
    assert 0.07 * whole < sent[Priority.EXPORT] < 0.13 * whole


async def test_an_interactive_request_waits_no_longer_than_the_next_window_behind_an_export(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_second=10), clock)
    exports = [asyncio.create_task(spend(limiters, priority=Priority.EXPORT)) for _ in range(200)]
    await asyncio.sleep(5)
    begun = asyncio.get_running_loop().time()
    assert await spend(limiters) - begun < 1.2
    for task in exports:
        task.cancel()


async def test_exports_are_spread_over_their_window(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_second=10), clock)
    sent = sorted(await asyncio.gather(*(spend(limiters, priority=Priority.EXPORT) for _ in range(50))))
    assert min(after - before for before, after in pairwise(sent)) > 0.09


async def exported(limiters: Limiters) -> int:
    """How many requests of today an export gets."""
    count = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(3_600):
            while True:
                await spend(limiters, priority=Priority.EXPORT)
                count += 1
    return count


async def test_exports_leave_what_streams_reserved_and_an_interactive_share(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_day=100), clock)
    async with limiters.reserve(CALL_LISTS) as kept:
        await kept.keep(30, 60)
        assert (await day_of(limiters)).expected == 30
        assert await exported(limiters) == 100 - 30 - 5
        await kept.keep(10, 60)
        assert await exported(limiters) == 20
    assert (await day_of(limiters)).expected == 0
    assert await exported(limiters) == 10
    # What they left is there for people.
    for _ in range(5):
        await spend(limiters)
    with pytest.raises(QuotaExhausted):
        async with limiters.permit(CALL_LISTS, 10):
            pass


async def test_the_daily_reservation_of_a_stream_holds_before_it_is_renewed(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_day=100), clock)
    async with limiters.reserve(CALL_LISTS) as kept:
        await kept.keep(30, 60)
        await asyncio.sleep(DAY)
        assert (await day_of(limiters)).expected == 60
        assert await exported(limiters) == 35


async def test_a_reservation_of_another_client_on_the_ledger_holds(clock):
    ledger = MemoryLedger()
    plan = ENTERPRISE.with_limits("call_lists", per_day=100)
    async with limiters_of(plan, clock, ledger).reserve(CALL_LISTS) as kept:
        await kept.keep(95, 95)
        assert await exported(limiters_of(plan, clock, ledger)) == 0


async def test_nothing_is_reserved_where_nothing_is_counted(clock):
    async with Limiters(PREMIUM, MemoryLedger(), account="a", clock=clock, enforce=False).reserve(CALL_LISTS) as kept:
        await kept.keep(3, 3)
