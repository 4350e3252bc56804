"""Forecasts, priorities, and the part of a day that is reserved for streams."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import pairwise

import pytest

from agora_analytics import ENTERPRISE, PREMIUM, MemoryLedger, Plan, PlanRefused, Priority, QuotaExhausted
from agora_analytics.plans import CALL_LISTS, REALTIME_USAGE, Endpoint
from agora_analytics.protocols import WallClock
from agora_analytics.quota.limiters import Limiters

DAY = 86_400


def limiters_of(plan: Plan, clock: WallClock, ledger: MemoryLedger | None = None) -> Limiters:
    return Limiters(plan, ledger or MemoryLedger(), account="a", clock=clock)


async def spend(
    limiters: Limiters, endpoint: Endpoint = CALL_LISTS, priority: Priority = Priority.INTERACTIVE
) -> float:
    """Send a request that is answered at once; return when."""
    async with limiters.permit(endpoint, None, priority) as permit:
        permit.answered(None)
    return asyncio.get_running_loop().time()


async def day_of(limiters: Limiters, counter: str = "call_lists"):
    return next(state for state in await limiters.snapshot() if (state.counter, state.unit) == (counter, "day"))


async def test_a_forecast_predicts_when_the_last_of_so_many_permits_is_issued(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_day=100, per_second=10), clock)
    counts = (1, 10, 11, 35, 100, 101, 250)
    forecasts = [(await limiters.forecast(count, CALL_LISTS)).seconds for count in counts]
    sent = sorted(await asyncio.gather(*(spend(limiters) for _ in range(250))))
    actual = [sent[count - 1] for count in counts]
    # Until the service's clock is known, a window takes a little more than a second; days take no longer.
    assert forecasts[:2] == actual[:2] == [0, 0]
    assert forecasts[2:5] == pytest.approx(actual[2:5], rel=0.2)
    assert forecasts[5:] == pytest.approx(actual[5:], abs=20)
    assert all(early <= late + 0.01 for early, late in zip(forecasts, actual, strict=True)), (forecasts, actual)


async def test_a_forecast_includes_waiting_requests_and_gives_the_time(clock):
    limiters = limiters_of(PREMIUM, clock)
    waiting = [asyncio.create_task(spend(limiters, REALTIME_USAGE)) for _ in range(6)]
    await asyncio.sleep(1)
    forecast = await limiters.forecast(1, "realtime")
    assert (forecast.counter, forecast.requests) == ("realtime", 1)
    assert forecast.seconds == pytest.approx(120, abs=2)
    assert forecast.at.timestamp() == pytest.approx(clock() + forecast.seconds)
    for task in waiting:
        task.cancel()


async def test_without_quotas_every_forecast_is_zero_seconds(clock):
    limiters = Limiters(PREMIUM, MemoryLedger(), account="a", clock=clock, enforce=False)
    assert (await limiters.forecast(10**6, CALL_LISTS)).seconds == 0


@pytest.mark.parametrize(
    ("requests", "counter", "message"), [(0, "realtime", "requests=0"), (1, "lists", "counter='lists'")]
)
async def test_a_forecast_of_no_request_or_of_an_unknown_counter_raises(clock, requests, counter, message):
    with pytest.raises(ValueError, match=message):
        await limiters_of(PREMIUM, clock).forecast(requests, counter)


async def test_interactive_requests_are_sent_before_streams_and_streams_before_exports(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_second=2), clock)
    order: list[Priority] = []

    async def send_requests(priority: Priority) -> None:
        await spend(limiters, priority=priority)
        order.append(priority)

    await asyncio.gather(*(spend(limiters) for _ in range(2)))
    waiting = [asyncio.create_task(send_requests(priority)) for priority in reversed(Priority) for _ in range(3)]
    await asyncio.sleep(0.9)
    await asyncio.gather(*waiting)
    assert order == sorted(order, key=list(Priority).index)


async def test_no_priority_starves_while_requests_of_a_higher_one_always_wait(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_second=10), clock)
    sent = dict.fromkeys(Priority, 0)

    async def send_requests(priority: Priority) -> None:
        while True:
            await spend(limiters, priority=priority)
            sent[priority] += 1

    tasks = [asyncio.create_task(send_requests(priority)) for priority in Priority for _ in range(20)]
    await asyncio.sleep(120)
    for task in tasks:
        task.cancel()
    total = sum(sent.values())
    assert total > 1_000
    assert sent[Priority.INTERACTIVE] > 0.75 * total
    assert 0.07 * total < sent[Priority.STREAM] < 0.13 * total
    assert 0.07 * total < sent[Priority.EXPORT] < 0.13 * total


async def test_an_interactive_request_waits_at_most_one_window_behind_an_export(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_second=10), clock)
    exports = [asyncio.create_task(spend(limiters, priority=Priority.EXPORT)) for _ in range(200)]
    await asyncio.sleep(5)
    started = asyncio.get_running_loop().time()
    assert await spend(limiters) - started < 1.2
    for task in exports:
        task.cancel()


async def test_requests_of_exports_are_paced_evenly_over_a_window(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_second=10), clock)
    sent = sorted(await asyncio.gather(*(spend(limiters, priority=Priority.EXPORT) for _ in range(50))))
    assert min(after - before for before, after in pairwise(sent)) > 0.09


async def export_for_an_hour(limiters: Limiters) -> int:
    """Send requests of an export for an hour; return how many got a permit."""
    count = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(3_600):
            while True:
                await spend(limiters, priority=Priority.EXPORT)
                count += 1
    return count


async def test_exports_leave_the_reservations_of_streams_and_an_interactive_share(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_day=100), clock)
    async with limiters.reserve(CALL_LISTS) as reservation:
        await reservation.keep(30, 60)
        assert (await day_of(limiters)).expected == 30
        assert await export_for_an_hour(limiters) == 100 - 30 - 5
        await reservation.keep(10, 60)
        assert await export_for_an_hour(limiters) == 20
    assert (await day_of(limiters)).expected == 0
    assert await export_for_an_hour(limiters) == 10
    # What exports left is there for interactive requests.
    for _ in range(5):
        await spend(limiters)
    with pytest.raises(QuotaExhausted):
        async with limiters.permit(CALL_LISTS, 10):
            pass


async def test_the_reservation_of_a_stream_holds_on_the_next_day_before_it_is_renewed(clock):
    limiters = limiters_of(ENTERPRISE.with_limits("call_lists", per_day=100), clock)
    async with limiters.reserve(CALL_LISTS) as reservation:
        await reservation.keep(30, 60)
        await asyncio.sleep(DAY)
        assert (await day_of(limiters)).expected == 60
        assert await export_for_an_hour(limiters) == 35


async def test_exports_leave_the_reservation_of_another_client_of_the_ledger(clock):
    ledger = MemoryLedger()
    plan = ENTERPRISE.with_limits("call_lists", per_day=100)
    async with limiters_of(plan, clock, ledger).reserve(CALL_LISTS) as reservation:
        await reservation.keep(95, 95)
        assert await export_for_an_hour(limiters_of(plan, clock, ledger)) == 0


async def test_a_stream_reserves_although_its_endpoint_was_refused_as_outside_the_plan(clock):
    limiters = limiters_of(PREMIUM, clock)
    limiters.remember_not_in_plan(CALL_LISTS, PlanRefused("no auth"))
    async with limiters.reserve(CALL_LISTS) as reservation:
        await reservation.keep(30, 60)
        assert (await day_of(limiters)).expected == 30


async def test_without_quotas_a_reservation_has_no_effect(clock):
    limiters = Limiters(PREMIUM, ledger := MemoryLedger(), account="a", clock=clock, enforce=False)
    async with limiters.reserve(CALL_LISTS) as reservation:
        await reservation.keep(3, 3)
    assert ledger.state("a").counters == {}
