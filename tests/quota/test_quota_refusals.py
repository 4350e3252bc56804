"""After rate-limit errors: days that were spent, by us or by another program, and units outside the plan."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from itertools import pairwise

import pytest

from agora_analytics import ENTERPRISE, PREMIUM, MemoryLedger, Plan, Priority, QuotaExhausted, RateLimited
from agora_analytics.plans import CALL_LISTS, INSIGHT_USAGE, Unit
from agora_analytics.quota.limiters import Limiters
from agora_analytics.simulator import Service, Simulation, Variants, World

NOON = 1_795_521_600
DAY = 86_400
MIDNIGHT = NOON + DAY // 2
ALLOWED = 60
WORLD = World(seed=7)
DAILY = PREMIUM.with_limits("insight_usage", per_minute=None)
"""A plan that limits data insights by the day alone."""


def plan_by_day(**rates: int) -> Plan:
    """Return a plan that limits call lists by the day, and otherwise only by `rates`."""
    return ENTERPRISE.with_limits("call_lists", per_second=None, per_minute=None, **{"per_day": ALLOWED, **rates})


def simulated(begins: float, **variants) -> Simulation:
    """Return a service whose clock shows `begins` when the loop's clock shows 0."""
    time = asyncio.get_running_loop().time
    return Simulation(
        Service(WORLD, plan_by_day(), clock=lambda: begins + time(), variants=Variants(**variants), log_size=10**5)
    )


async def spend_all(simulation: Simulation, seconds: float, *, workers: int = 20) -> Counter[tuple[int, bool]]:
    """Send as many requests as are allowed; return how many arrived, by day of the service and whether refused.

    Requests of another endpoint in between keep the service's clock known.
    """
    client = simulation.client(
        transport=simulation.transport(latency=(0.01, 0.05), hosts=1), plan=plan_by_day(), max_wait=None
    ).with_priority(Priority.STREAM)

    async def send_requests() -> None:
        while True:
            now = int(simulation.service.clock())
            with suppress(RateLimited):
                await client.calls.page(now - 6_000, now - 3_000, page_size=1)

    async def send_other_requests() -> None:
        while True:
            now = int(simulation.service.clock())
            await client.realtime.usage("userCount", now - 600, now - 300, product="Native")
            await asyncio.sleep(250)

    tasks = [asyncio.create_task(send_requests()) for _ in range(workers)]
    tasks.append(asyncio.create_task(send_other_requests()))
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    lists = [entry for entry in simulation.service.log if entry.endpoint == "call_lists"]
    return Counter((int(entry.at // DAY) - NOON // DAY, bool(entry.refused)) for entry in lists)


@pytest.mark.parametrize("refusals_count", [True, False])
@pytest.mark.parametrize("ahead", [0.2, 0.5, 0.9, 5.0, -0.5])
async def test_a_date_header_that_is_ahead_at_midnight_costs_nothing_of_the_new_day(ahead, refusals_count):
    simulation = simulated(MIDNIGHT - 30, date_ahead=ahead, refusals_count=refusals_count)
    counts = await spend_all(simulation, 120)
    assert counts[0, False] == counts[1, False] == ALLOWED
    assert counts[0, True] <= 20 + 4  # requests sent at once, and probes
    assert counts[1, True] == 0


async def test_the_lag_of_the_counting_host_at_midnight_is_known_at_the_next_midnight():
    simulation = simulated(MIDNIGHT - 30, date_ahead=2.0)
    counts = await spend_all(simulation, DAY + 120)
    assert counts[0, True] > 0
    assert counts[1, True] == 0
    assert counts[1, False] == counts[2, False] == ALLOWED


def spend_the_rest(service: Service) -> None:
    """Spend the rest of the day's limit, as another program does."""
    while service.spent("call_lists", "day") < ALLOWED:
        service.rate_limits.count("call_lists", {"day": ALLOWED}, service.clock())


async def test_a_day_that_another_program_spent_costs_one_refused_request_until_midnight():
    simulation = simulated(NOON)
    spend_the_rest(simulation.service)
    counts = await spend_all(simulation, DAY / 2 + 600, workers=1)
    assert counts == {(0, True): 1, (1, False): ALLOWED}


async def test_a_day_that_another_program_spends_at_its_start_costs_few_requests_and_no_other_day():
    simulation = simulated(MIDNIGHT - 30, date_ahead=0.5)
    spend_the_rest(simulation.service)
    asyncio.get_running_loop().call_at(30.0, spend_the_rest, simulation.service)
    counts = await spend_all(simulation, DAY + 600, workers=1)
    assert 0 < counts[1, True] <= 20
    assert counts[2, False] == ALLOWED


async def spend(
    limiters: Limiters, endpoint=INSIGHT_USAGE, *, date: int | None = None, max_wait: float | None = None
) -> float:
    """Send one request that is answered at once; return when it was sent."""
    async with limiters.permit(endpoint, max_wait) as permit:
        sent = asyncio.get_running_loop().time()
        permit.answered(date)
    return sent


async def send_refused(limiters: Limiters, unit: Unit, endpoint=INSIGHT_USAGE) -> float:
    """Send one request that is refused at once; return when it was sent."""
    error = RateLimited(f"{unit} limit error")
    error.unit = unit
    with suppress(RateLimited):
        async with limiters.permit(endpoint) as permit:
            sent = asyncio.get_running_loop().time()
            permit.answered(None)
            raise error
    return sent


def limiters_of(plan: Plan, begins: float = NOON) -> Limiters:
    time = asyncio.get_running_loop().time
    return Limiters(plan, MemoryLedger(), account="a", clock=lambda: begins + time())


async def test_a_request_charged_to_two_days_is_refunded_on_one():
    limiters = limiters_of(plan_by_day(per_day=1), MIDNIGHT - 4)
    await spend(limiters, CALL_LISTS, date=MIDNIGHT - 4)
    assert 4 < await spend(limiters, CALL_LISTS) < 10


async def test_yesterdays_requests_count_as_long_as_it_may_still_be_yesterday():
    limiters = limiters_of(plan_by_day(per_day=2), MIDNIGHT - 60)
    await spend(limiters, CALL_LISTS)
    await asyncio.sleep(56)
    await spend(limiters, CALL_LISTS)
    assert 60 < await spend(limiters, CALL_LISTS) < 70


@pytest.mark.parametrize(("unit", "least", "most"), [("second", 1, 1.2), ("minute", 15, 16), ("day", 70_000, 70_100)])
async def test_a_rate_limit_error_in_a_unit_outside_the_plan_blocks_that_unit(unit, least, most):
    limiters = limiters_of(DAILY, MIDNIGHT - 70_030)
    await send_refused(limiters, unit)
    assert least <= await spend(limiters) <= most


async def test_a_blocked_unit_outside_the_plan_is_probed_after_growing_pauses_until_it_is_open():
    limiters = limiters_of(DAILY)
    refused = [await send_refused(limiters, "second") for _ in range(7)]
    pauses = [after - before for before, after in pairwise(refused)]
    assert pauses == pytest.approx([1.1, 8.8, 70.4, 563.2, 900, 900], abs=0.01)
    probed = await spend(limiters)
    assert await spend(limiters) == pytest.approx(probed, abs=0.01)
    again = await send_refused(limiters, "second")
    assert await spend(limiters) == pytest.approx(again + 1.1, abs=0.01)


async def test_a_blocked_unit_of_the_plan_is_probed_after_growing_pauses_too():
    limiters = limiters_of(PREMIUM)
    refused = [await send_refused(limiters, "second", CALL_LISTS) for _ in range(5)]
    assert refused == pytest.approx([0, 1.1, 3.1, 7.1, 15.1], abs=0.1)


async def test_one_request_probes_a_blocked_unit_and_the_others_wait_for_it():
    limiters = limiters_of(DAILY)
    await send_refused(limiters, "second")
    sent: list[float] = []

    async def send_request() -> None:
        async with limiters.permit(INSIGHT_USAGE) as permit:
            sent.append(asyncio.get_running_loop().time())
            await asyncio.sleep(3)
            permit.answered(None)

    await asyncio.gather(*(send_request() for _ in range(4)))
    assert sent == pytest.approx([1.1, 4.1, 4.1, 4.1], abs=0.01)


@pytest.mark.parametrize("sent", [True, False], ids=["answer lost", "not sent"])
async def test_a_probe_without_an_answer_is_replaced_at_once(sent):
    limiters = limiters_of(DAILY)
    for _ in range(4):
        await send_refused(limiters, "second")
    await asyncio.sleep(563.2)
    started = asyncio.get_running_loop().time()
    with suppress(OSError):
        async with limiters.permit(INSIGHT_USAGE) as permit:
            permit.sent = sent
            raise OSError("reset")
    assert await spend(limiters) == pytest.approx(started, abs=0.1)


async def test_a_max_wait_too_short_for_a_blocked_unit_raises_at_once():
    limiters = limiters_of(DAILY)
    for _ in range(3):
        await send_refused(limiters, "second")
    started = asyncio.get_running_loop().time()
    with pytest.raises(
        QuotaExhausted, match="the service refuses more requests per second of 'insight_usage'"
    ) as caught:
        await spend(limiters, max_wait=10)
    assert caught.value.unit == "second"
    assert caught.value.resets_in == pytest.approx(70.4, abs=0.1)
    assert asyncio.get_running_loop().time() == started
