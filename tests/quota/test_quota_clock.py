"""The service's clock, learned from its answers: whatever the clocks do, the plan is used up and nothing is refused."""

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
    host_skew=0.0,
    limit=10,
    warm_up=10,
    ahead=0.0,
    delay=0.0,
    jitter=0.12,
    other_program=(),
    duration=SECONDS,
):
    """Saturate a client for `duration` seconds.

    Return the used part of the plan after `warm_up` seconds, the service, the learned clock and the ledger. `delay` and
    `jitter` apply each way. At each of the times `other_program`, another program spends the limit of the second.
    """
    time, random = asyncio.get_running_loop().time, Random(3)
    plan = ENTERPRISE.with_limits("call_lists", per_second=limit, per_day=10**6)
    clock = lambda: START + service(time()) + random.choice([-host_skew, host_skew])  # noqa: E731
    simulated = Service(WORLD, plan, clock=clock, variants=Variants(date=date, date_ahead=ahead), log_size=10**6)
    simulation = Simulation(simulated)
    latency = lambda: delay + random.uniform(0, jitter)  # noqa: E731
    transport = simulation.transport(latency=lambda: (latency(), latency()), hosts=1)
    ledger = MemoryLedger()
    client = simulation.client(
        transport=transport, clock=lambda: START + host(time()), max_wait=None, plan=plan, ledger=ledger
    )
    span = (int(START) - 3_000, int(START) - 2_400)

    async def send_requests() -> None:
        while True:
            await client.calls.page(*span, page_size=1)

    for second in other_program:
        asyncio.get_running_loop().call_at(second, spend_a_second, simulated, limit)
    tasks = [asyncio.create_task(send_requests()) for _ in range((2 + 3 * (delay > 0)) * limit)]
    await asyncio.sleep(duration)
    for task in tasks:
        task.cancel()
    seconds = Counter(int(entry.at - START) for entry in simulated.log if not entry.refused)
    used = sum(seconds[second] for second in range(warm_up, duration - 1)) / limit / (duration - 1 - warm_up)
    return used, simulated, (await client.quota.snapshot()).clock, ledger


def spend_a_second(service: Service, limit: int) -> None:
    for _ in range(limit):
        service.rate_limits.count("call_lists", {"second": limit}, service.clock())


def error_bursts(service: Service) -> int:
    """Return the number of bursts of rate-limit errors; errors within three seconds are one burst."""
    refused = [entry.at for entry in service.log if entry.refused]
    return sum(at - before > 3 for before, at in pairwise([0.0, *refused]))


CLOCKS = {
    "right": {},
    "five seconds fast": {"host": lambda t: t + 5},
    "minutes slow": {"host": lambda t: t - 600},
    "host drifts": {"host": lambda t: t * 1.0002},
    "service drifts": {"service": lambda t: t * 1.0002},
    "host stepped forward": {"host": lambda t: t + 3 * (t > 50)},
    "host stepped back": {"host": lambda t: t - 300 * (t > 50)},
    "service stepped": {"service": lambda t: t + 0.37 * (t > 50)},
    "date renewed on a timer": {"date": "timer"},
    "date renewed lazily": {"date": "lazy"},
    "hosts that differ": {"host_skew": 0.04},
    "one request per second": {"limit": 1},
}


@pytest.mark.slow_except(
    "right", "service drifts", "host stepped forward", "hosts that differ", "one request per second"
)
@pytest.mark.parametrize("clocks", CLOCKS.values(), ids=CLOCKS)
async def test_the_plan_is_used_up_and_nothing_is_refused(clocks):
    used, service, clock, _ = await saturated(**clocks)
    assert service.refusals == {}
    # A step of the service's clock costs the seconds until the clock is calibrated again.
    assert used > (0.94 if "service" in clocks else 0.97)
    assert clock is not None
    assert 0 < clock.uncertainty < 1


async def test_without_date_headers_less_of_the_plan_is_used_and_nothing_is_refused():
    used, service, clock, _ = await saturated(date="absent")
    assert service.refusals == {}
    assert 0.7 < used < 0.95
    assert clock is None


async def test_the_learned_offset_is_the_error_of_the_wall_clock():
    _, _, clock, _ = await saturated(host=lambda t: t - 600)
    assert clock is not None
    assert 599 < clock.offset <= 600
    assert clock.offset + clock.uncertainty > 599.99


async def test_a_service_clock_that_is_set_back_costs_one_burst_of_rate_limit_errors():
    used, service, _, ledger = await saturated(service=lambda t: t - 0.37 * (t > 50))
    refused = [entry for entry in service.log if entry.refused]
    assert 0 < len(refused) <= 10
    assert len({int(entry.at) for entry in refused}) == 1
    assert used > 0.85
    state = await ledger.change(fingerprint(CUSTOMER_ID), lambda state: state)
    assert state.counter("call_lists").refusals == len(refused)


async def test_after_a_sleep_of_the_host_the_clock_restarts():
    """The monotonic clock stops while a machine sleeps: suddenly the service is a minute ahead."""
    slept = lambda t: t + 61.7 * (t > 50)  # noqa: E731
    _, service, clock, _ = await saturated(service=slept, host=slept)
    assert service.refusals == {}
    assert clock is not None
    assert abs(clock.offset) < 1


@pytest.mark.slow
async def test_the_aim_survives_every_sleep_of_the_host():
    """When the seconds of the counter begin is learned once; a new calibration of the clock must keep that."""
    slept = lambda t: t + 61.7 * (t // 60)  # noqa: E731
    _, service, _, _ = await saturated(service=slept, host=slept, ahead=0.3, jitter=0.3, date="lazy", duration=900)
    assert error_bursts(service) <= 2


CLOCK_DIFFERENCES = {
    "a little ahead": {"ahead": 0.2},
    "more ahead": {"ahead": 0.3, "jitter": 0.3},
    "behind": {"ahead": -0.7, "jitter": 0.3},
    "a little ahead, short round trip": {"ahead": 0.15, "jitter": 0.02, "limit": 3},
    "nearly a second ahead": {"ahead": 0.9, "jitter": 0.3},
    "ahead, one request per second": {"ahead": 0.25, "limit": 1},
    "same clock, long round trip": {"delay": 0.5, "jitter": 0.3},
    "a little ahead, long round trip": {"ahead": 0.35, "delay": 0.5, "jitter": 0.3},
    "ahead, one request per second, long round trip": {"ahead": 0.3, "delay": 0.4, "limit": 1},
}


@pytest.mark.slow_except(
    "behind", "nearly a second ahead", "a little ahead, short round trip", "ahead, one request per second"
)
@pytest.mark.parametrize("differences", CLOCK_DIFFERENCES.values(), ids=CLOCK_DIFFERENCES)
async def test_a_counter_whose_clock_differs_from_the_date_header_costs_little(differences):
    # A burst of errors costs a few seconds. With one request per second, a longer run is needed to even that out.
    duration = 300 if differences.get("limit") == 1 else SECONDS
    used, service, _, _ = await saturated(**differences, warm_up=30, duration=duration)
    assert error_bursts(service) <= 2
    assert used > 0.95


@pytest.mark.slow_except("0.2")
@pytest.mark.parametrize("delay", [0.2, 0.35, 0.5])
async def test_with_a_long_round_trip_the_plan_is_used_up_and_nothing_is_refused(delay):
    used, service, _, _ = await saturated(delay=delay, jitter=0.3, warm_up=30)
    assert service.refusals == {}
    assert used > 0.95


@pytest.mark.parametrize("delay", [0.0, 0.5])
async def test_another_program_costs_little_more_than_it_uses(delay):
    """A rate-limit error looks the same whatever its cause: the reaction to it must do no harm."""
    used, service, _, _ = await saturated(jitter=0.3, delay=delay, warm_up=30, other_program=(40.631, 80.631))
    assert 0 < error_bursts(service) <= 2
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
