"""The service's clock, learned from its answers: whatever clocks do, the plan is used and nothing is refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from random import Random

import pytest

from agora_analytics import ENTERPRISE, MemoryLedger, RateLimited
from agora_analytics.plans import CALL_LISTS
from agora_analytics.quota import fingerprint
from agora_analytics.quota.limiters import Limiters
from agora_analytics.simulator import CUSTOMER_ID, Service, Simulation, Variants, World

START = 1_795_521_600.37
SECONDS = 100
WORLD = World(seed=7)


async def saturated(
    *,
    host=lambda t: t,
    service=lambda t: t,
    date="exact",
    apart=0.0,
    limit=10,
    warm=10,
    ahead=0.0,
    delay=0.0,
    jitter=0.12,
    foreign=(),
    lasting=SECONDS,
):
    """Ask for all there is for so many seconds; return the part of the plan that was used once warm, and the service.

    `delay` and `jitter` are of each way; at each of the moments `foreign` another program spends the second.
    """
    time, random = asyncio.get_running_loop().time, Random(3)
    plan = ENTERPRISE.with_limits("call_lists", per_second=limit, per_day=10**6)
    clock = lambda: START + service(time()) + random.choice([-apart, apart])  # noqa: E731
    simulated = Service(WORLD, plan, clock=clock, variants=Variants(date=date, date_ahead=ahead), log_size=10**6)
    simulation = Simulation(simulated)
    way = lambda: delay + random.uniform(0, jitter)  # noqa: E731
    transport = simulation.transport(latency=lambda: (way(), way()), hosts=1)
    ledger = MemoryLedger()
    client = simulation.client(
        transport=transport, clock=lambda: START + host(time()), max_wait=None, plan=plan, ledger=ledger
    )
    span = (int(START) - 3_000, int(START) - 2_400)

    async def ask() -> None:
        while True:
            await client.calls.page(*span, page_size=1)

    for second in foreign:
        asyncio.get_running_loop().call_at(second, spend_a_second, simulated, limit)
    asking = [asyncio.create_task(ask()) for _ in range((2 + 3 * (delay > 0)) * limit)]
    await asyncio.sleep(lasting)
    for task in asking:
        task.cancel()
    seconds = Counter(int(entry.at - START) for entry in simulated.log if not entry.refused)
    used = sum(seconds[second] for second in range(warm, lasting - 1)) / limit / (lasting - 1 - warm)
    return used, simulated, (await client.quota.snapshot()).clock, ledger


def spend_a_second(service: Service, limit: int) -> None:
    for _ in range(limit):
        service.rate_limits.count("call_lists", {"second": limit}, service.clock())


def events(service: Service) -> int:
    """How often something was refused, where all that is refused within three seconds is once."""
    refused = [entry.at for entry in service.log if entry.refused]
    return sum(at - before > 3 for before, at in pairwise([0.0, *refused]))


CLOCKS = {
    "right": {},
    "five seconds fast": {"host": lambda t: t + 5},
    "minutes slow": {"host": lambda t: t - 600},
    "host drifts": {"host": lambda t: t * 1.0002},
    "service drifts": {"service": lambda t: t * 1.0002},
    "host stepped on": {"host": lambda t: t + 3 * (t > 50)},
    "host stepped back": {"host": lambda t: t - 300 * (t > 50)},
    "service stepped": {"service": lambda t: t + 0.37 * (t > 50)},
    "renewed on a timer": {"date": "timer"},
    "renewed lazily": {"date": "lazy"},
    "hosts apart": {"apart": 0.04},
    "one a second": {"limit": 1},
}


@pytest.mark.parametrize("clocks", CLOCKS.values(), ids=CLOCKS)
async def test_the_plan_is_used_and_nothing_is_refused(clocks):
    used, service, clock, _ = await saturated(**clocks)
    assert service.refusals == {}
    # A service's clock that is stepped costs the seconds in which it is looked for again.
    assert used > (0.94 if "service" in clocks else 0.97)
    assert clock is not None
    assert 0 < clock.uncertainty < 1


async def test_without_any_date_it_is_slower_and_as_safe():
    used, service, clock, _ = await saturated(date="absent")
    assert service.refusals == {}
    assert 0.7 < used < 0.95
    assert clock is None


async def test_the_clock_is_off_by_what_the_host_is_off():
    _, _, clock, _ = await saturated(host=lambda t: t - 600)
    assert clock is not None
    assert 599 < clock.offset <= 600
    assert clock.offset + clock.uncertainty > 599.99


async def test_a_service_clock_that_is_set_back_costs_one_event_of_rate_limit_errors():
    used, service, _, ledger = await saturated(service=lambda t: t - 0.37 * (t > 50))
    refused = [entry for entry in service.log if entry.refused]
    assert 0 < len(refused) <= 10
    assert len({int(entry.at) for entry in refused}) == 1
    assert used > 0.85
    state = await ledger.change(fingerprint(CUSTOMER_ID), lambda state: state)
    assert state.counter("call_lists").refusals == len(refused)


async def test_after_a_sleep_of_the_host_the_clock_restarts():
    """Monotonic time stops while a machine sleeps: the service is a minute ahead all of a sudden."""
    slept = lambda t: t + 61.7 * (t > 50)  # noqa: E731
    _, service, clock, _ = await saturated(service=slept, host=slept)
    assert service.refusals == {}
    assert clock is not None
    assert abs(clock.offset) < 1


async def test_the_aim_outlasts_every_sleep_of_the_host():
    """Where the counter's second changes is found out once, however often the header's second is looked for anew."""
    slept = lambda t: t + 61.7 * (t // 60)  # noqa: E731
    _, service, _, _ = await saturated(service=slept, host=slept, ahead=0.3, jitter=0.3, date="lazy", lasting=900)
    assert events(service) <= 2


BESIDE = {
    "a little": {"ahead": 0.2},
    "more": {"ahead": 0.3, "jitter": 0.3},
    "behind": {"ahead": -0.7, "jitter": 0.3},
    "a little, close by": {"ahead": 0.15, "jitter": 0.02, "limit": 3},
    "nearly a second": {"ahead": 0.9, "jitter": 0.3},
    "one a second": {"ahead": 0.25, "limit": 1},
    "not at all, far away": {"delay": 0.5, "jitter": 0.3},
    "a little, far away": {"ahead": 0.35, "delay": 0.5, "jitter": 0.3},
    "one a second, far away": {"ahead": 0.3, "delay": 0.4, "limit": 1},
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
async def test_a_counter_beside_the_clock_that_dates_answers_costs_little(beside):
    # One event costs a few seconds, of few permits where there is one a second: that takes longer to make up for.
    used, service, _, _ = await saturated(**beside, warm=30, lasting=300 if beside.get("limit") == 1 else SECONDS)
    assert events(service) <= 2
    assert used > 0.95


@pytest.mark.parametrize("delay", [0.2, 0.35, 0.5])
async def test_a_long_round_trip_costs_nothing_and_nothing_is_refused(delay):
    used, service, _, _ = await saturated(delay=delay, jitter=0.3, warm=30)
    assert service.refusals == {}
    assert used > 0.95


@pytest.mark.parametrize("delay", [0.0, 0.5])
async def test_another_program_costs_little_more_than_it_takes(delay):
    """A refusal looks the same whoever is the reason: what follows from it must do no harm."""
    used, service, _, _ = await saturated(jitter=0.3, delay=delay, warm=30, foreign=(40.631, 80.631))
    assert 0 < events(service) <= 2
    assert used > 0.83


async def test_an_error_while_few_requests_were_in_flight_does_not_move_the_aim():
    _, _, _, ledger = await saturated()
    await asyncio.sleep(5)
    limiters = Limiters(ENTERPRISE, ledger, account=fingerprint(CUSTOMER_ID), clock=lambda: START)
    with suppress(RateLimited):
        async with limiters.permit(CALL_LISTS) as permit:
            permit.answered(None)
            raise RateLimited("qps limit error")
    state = await ledger.change(fingerprint(CUSTOMER_ID), lambda state: state)
    assert state.counter("call_lists").refusals == 1
    assert state.clock.aim_moves == 0
